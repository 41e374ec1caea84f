//! The admin API: what operators ask and want, over gRPC.
//!
//! Handlers decode, make one call, encode. In a cluster only the leader answers; another control plane passes the call
//! on to it with the operator's proof, so that operators may ask any of them.

mod access;
mod convert;
mod desk;
mod forward;

use std::sync::Arc;

use alyx_core::Result;
use alyx_operators::Operators;
use alyx_proto::admin::admin_client::AdminClient;
use alyx_proto::admin::admin_server::{Admin, AdminServer};
use alyx_proto::admin::{
    AccessList, AccessRevoked, ApplySchemaRequest, ClusterStatus, CreateApiTokenRequest,
    CreateOperatorRequest, CreatedApiToken, DrainNodeRequest, DrainReply, ExplainRulesRequest, FunctionList,
    GetSchemaRequest, GetStatusRequest, ListAccessRequest, ListFunctionsRequest, ListNodesRequest,
    ListSchemaRevisionsRequest, NodeList, Operator, PlanSchemaRequest, RevokeAccessRequest, RulesExplanation,
    SchemaHistory, SchemaPlan, SchemaRevision, SetOperatorPasswordRequest, UndrainNodeRequest,
};
use alyx_rpc::{ApiTokens, Channel, MAX_MESSAGE_BYTES, Security, to_status};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use self::access::Access;
use self::desk::{Desk, Lead};
use crate::cluster::ClusterControl;
use crate::plane::ControlPlane;

type Reply<T> = Result<Response<T>, Status>;

/// The admin API of one process. Cheap to clone.
#[derive(Clone)]
pub struct AdminApi {
    desk: Desk,
    access: Access,
    /// How the control plane that leads is reached.
    links: Option<Security>,
}

impl AdminApi {
    /// Of a control plane of a cluster, which passes calls on over `links` where it does not lead.
    /// `operators` must write by a way that needs no gateway.
    pub fn of_cluster(control: Arc<ClusterControl>, operators: Arc<Operators>, links: Security) -> Self {
        Self {
            desk: Desk::Cluster(control),
            access: Access(operators),
            links: Some(links),
        }
    }

    /// Of a server whose roles are one process.
    pub fn of_one_process(plane: Arc<ControlPlane>, operators: Arc<Operators>) -> Self {
        Self {
            desk: Desk::Alone(plane),
            access: Access(operators),
            links: None,
        }
    }

    /// What looks up the API tokens that callers show.
    pub fn tokens(&self) -> Arc<dyn ApiTokens> {
        Arc::new(self.access.clone())
    }

    /// For a listener of operators: `alyx.admin.v1.Admin`, and reflection over all services of the product.
    pub fn routes(&self) -> Routes {
        self.add_to(crate::grpc::reflected(Routes::default()))
    }

    /// Adds the service to a listener of roles, for what other control planes pass on.
    pub fn add_to(&self, routes: Routes) -> Routes {
        routes.add_service(
            AdminServer::new(self.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
    }

    /// Answers here where this process leads, by `here`, and has the leader answer otherwise, by `there`.
    async fn answer<Q, A, H, T>(
        &self,
        request: Request<Q>,
        here: impl FnOnce(Lead, Q) -> H,
        there: impl FnOnce(AdminClient<Channel>, Request<Q>) -> T,
    ) -> Reply<A>
    where
        H: Future<Output = Result<A>>,
        T: Future<Output = Reply<A>>,
    {
        let (metadata, _, message) = request.into_parts();
        match self.desk.lead() {
            Ok(lead) => match here(lead, message).await {
                Ok(answer) => Ok(Response::new(answer)),
                Err(error) => Err(to_status(&error)),
            },
            Err(not_leader) => match forward::to_leader(self.links.as_ref(), &not_leader, &metadata, message)
            {
                Some((client, request)) => forward::told(there(client, request).await),
                None => Err(to_status(&not_leader)),
            },
        }
    }
}

/// One handler: which method of [`Lead`] or of [`Access`] answers which call.
macro_rules! handlers {
    (
        lead { $($call:ident($request:ty) -> $answer:ty;)* }
        access { $($own:ident($own_request:ty) -> $own_answer:ty;)* }
    ) => {
        #[tonic::async_trait]
        impl Admin for AdminApi {
            $(async fn $call(&self, request: Request<$request>) -> Reply<$answer> {
                self.answer(
                    request,
                    |lead, message| async move { lead.$call(message).await },
                    |mut client, request| async move { client.$call(request).await },
                )
                .await
            })*
            $(async fn $own(&self, request: Request<$own_request>) -> Reply<$own_answer> {
                let answer = self.access.$own(request.into_inner()).await;
                answer.map(Response::new).map_err(|error| to_status(&error))
            })*
        }
    };
}

handlers! {
    lead {
        get_status(GetStatusRequest) -> ClusterStatus;
        list_nodes(ListNodesRequest) -> NodeList;
        drain_node(DrainNodeRequest) -> DrainReply;
        undrain_node(UndrainNodeRequest) -> DrainReply;
        get_schema(GetSchemaRequest) -> SchemaRevision;
        plan_schema(PlanSchemaRequest) -> SchemaPlan;
        apply_schema(ApplySchemaRequest) -> SchemaPlan;
        list_schema_revisions(ListSchemaRevisionsRequest) -> SchemaHistory;
        list_functions(ListFunctionsRequest) -> FunctionList;
        explain_rules(ExplainRulesRequest) -> RulesExplanation;
    }
    access {
        create_operator(CreateOperatorRequest) -> Operator;
        set_operator_password(SetOperatorPasswordRequest) -> Operator;
        create_api_token(CreateApiTokenRequest) -> CreatedApiToken;
        list_access(ListAccessRequest) -> AccessList;
        revoke_access(RevokeAccessRequest) -> AccessRevoked;
    }
}

//! The admin API: what operators ask and want, over gRPC.
//!
//! Handlers decode, make one call, encode. In a cluster only the leader answers; another control plane passes the call
//! on to it with the operator's proof, so that operators may ask any of them.

mod convert;
mod desk;
mod forward;

use std::sync::Arc;

use alyx_core::Result;
use alyx_proto::admin::admin_client::AdminClient;
use alyx_proto::admin::admin_server::{Admin, AdminServer};
use alyx_proto::admin::{
    ApplySchemaRequest, ClusterStatus, DrainNodeRequest, DrainReply, FunctionList, GetSchemaRequest,
    GetStatusRequest, ListFunctionsRequest, ListNodesRequest, ListSchemaRevisionsRequest, NodeList,
    PlanSchemaRequest, SchemaHistory, SchemaPlan, SchemaRevision, UndrainNodeRequest,
};
use alyx_rpc::{Channel, MAX_MESSAGE_BYTES, Security, to_status};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use self::desk::{Desk, Lead};
use crate::cluster::ClusterControl;
use crate::plane::ControlPlane;

type Reply<T> = Result<Response<T>, Status>;

/// The admin API of one process. Cheap to clone.
#[derive(Clone)]
pub struct AdminApi {
    desk: Desk,
    /// How the control plane that leads is reached.
    links: Option<Security>,
}

impl AdminApi {
    /// Of a control plane of a cluster, which passes calls on over `links` where it does not lead.
    pub fn of_cluster(control: Arc<ClusterControl>, links: Security) -> Self {
        Self {
            desk: Desk::Cluster(control),
            links: Some(links),
        }
    }

    /// Of a server whose roles are one process.
    pub fn of_one_process(plane: Arc<ControlPlane>) -> Self {
        Self {
            desk: Desk::Alone(plane),
            links: None,
        }
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

/// One handler: which method of [`Lead`] answers which call.
macro_rules! handlers {
    ($($call:ident($request:ty) -> $answer:ty;)*) => {
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
        }
    };
}

handlers! {
    get_status(GetStatusRequest) -> ClusterStatus;
    list_nodes(ListNodesRequest) -> NodeList;
    drain_node(DrainNodeRequest) -> DrainReply;
    undrain_node(UndrainNodeRequest) -> DrainReply;
    get_schema(GetSchemaRequest) -> SchemaRevision;
    plan_schema(PlanSchemaRequest) -> SchemaPlan;
    apply_schema(ApplySchemaRequest) -> SchemaPlan;
    list_schema_revisions(ListSchemaRevisionsRequest) -> SchemaHistory;
    list_functions(ListFunctionsRequest) -> FunctionList;
}

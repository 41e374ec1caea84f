//! A server that answers one call as it is told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alyx_core::Error;
use alyx_proto::control::control_server::{Control, ControlServer};
use alyx_proto::control::{
    BundleChunk, Directive, FetchBundleRequest, Heartbeat, ListNodesRequest, Nodes, ReloadFunctionsReply,
    ReloadFunctionsRequest, Snapshot, WatchRequest,
};
use alyx_rpc::{Call, Security, Server, bind, serve, to_status};
use alyx_service::tasks::Tasks;
use tokio::sync::{oneshot, watch};
use tokio_stream::Empty;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// The last call that arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) call: Call,
    begun: usize,
    running: usize,
}

#[derive(Clone, Default)]
enum Manner {
    #[default]
    Answer,
    Fail(fn() -> Error),
    WaitForRelease,
    Never,
}

#[derive(Clone)]
struct Service {
    manner: Arc<Mutex<Manner>>,
    heard: watch::Sender<Heard>,
    released: watch::Sender<bool>,
}

pub(crate) struct Echo {
    pub(crate) address: String,
    pub(crate) server: Server,
    service: Service,
    tasks: Tasks,
}

pub(crate) struct Stopping {
    service: Service,
    clean: oneshot::Receiver<bool>,
    _tasks: Tasks,
}

impl Echo {
    pub(crate) async fn start(security: &Security) -> Self {
        Self::start_on("127.0.0.1:0", security).await
    }

    pub(crate) async fn start_on(listen: &str, security: &Security) -> Self {
        let tasks = Tasks::new();
        let service = Service {
            manner: Arc::default(),
            heard: watch::Sender::default(),
            released: watch::Sender::new(false),
        };
        let listener = bind(listen).await.expect("bound");
        let routes = Routes::new(ControlServer::new(service.clone()));
        let server = serve(listener, security, routes, &tasks).await.expect("serves");
        Self {
            address: server.local_addr().to_string(),
            server,
            service,
            tasks,
        }
    }

    pub(crate) fn fail(&self, error: fn() -> Error) {
        self.behave(Manner::Fail(error));
    }

    pub(crate) fn never_answer(&self) {
        self.behave(Manner::Never);
    }

    pub(crate) fn wait_for_release(&self) {
        self.behave(Manner::WaitForRelease);
    }

    pub(crate) fn heard(&self) -> Heard {
        self.service.heard.borrow().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.heard().begun
    }

    /// Waits until so many calls have begun.
    pub(crate) async fn begun(&self, calls: usize) {
        self.wait(|heard| heard.begun >= calls).await;
    }

    /// Waits until no call is being answered.
    pub(crate) async fn all_dropped(&self) {
        self.wait(|heard| heard.running == 0).await;
    }

    pub(crate) fn stop(self, within: Duration) -> (String, Stopping) {
        let (tell, clean) = oneshot::channel();
        let server = self.server;
        self.tasks.spawn_detached(async move {
            let _ = tell.send(server.stop(within).await);
        });
        let stopping = Stopping {
            service: self.service,
            clean,
            _tasks: self.tasks,
        };
        (self.address, stopping)
    }

    fn behave(&self, manner: Manner) {
        *self
            .service
            .manner
            .lock()
            .expect("no test panics while it holds it") = manner;
    }

    async fn wait(&self, condition: impl FnMut(&Heard) -> bool) {
        let mut heard = self.service.heard.subscribe();
        tokio::time::timeout(Duration::from_secs(10), heard.wait_for(condition))
            .await
            .unwrap_or_else(|_| panic!("still {:?}", self.heard()))
            .expect("the service lives");
    }
}

impl Stopping {
    pub(crate) fn release(&self) {
        self.service.released.send_replace(true);
    }

    pub(crate) async fn clean(self) -> bool {
        self.clean.await.expect("the server stops")
    }
}

/// Counts a call out, whether it is answered or dropped.
struct Running(watch::Sender<Heard>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|heard| heard.running -= 1);
    }
}

#[tonic::async_trait]
impl Control for Service {
    type RegisterStream = Empty<Result<Directive, Status>>;
    type WatchStream = Empty<Result<Snapshot, Status>>;
    type FetchBundleStream = Empty<Result<BundleChunk, Status>>;

    async fn reload_functions(
        &self,
        request: Request<ReloadFunctionsRequest>,
    ) -> Result<Response<ReloadFunctionsReply>, Status> {
        self.heard.send_modify(|heard| {
            heard.call = Call::of(request.metadata());
            heard.begun += 1;
            heard.running += 1;
        });
        let _running = Running(self.heard.clone());
        let manner = self
            .manner
            .lock()
            .expect("no test panics while it holds it")
            .clone();
        match manner {
            Manner::Answer => {}
            Manner::Fail(error) => return Err(to_status(&error())),
            Manner::WaitForRelease => {
                let mut released = self.released.subscribe();
                let _ = released.wait_for(|released| *released).await;
            }
            Manner::Never => std::future::pending().await,
        }
        Ok(Response::new(ReloadFunctionsReply { functions: 7 }))
    }

    async fn register(
        &self,
        _: Request<Streaming<Heartbeat>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_bundle(
        &self,
        _: Request<FetchBundleRequest>,
    ) -> Result<Response<Self::FetchBundleStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<Nodes>, Status> {
        Err(Status::unimplemented(""))
    }
}

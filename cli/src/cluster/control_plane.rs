//! `alyx control-plane`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use alyx_config::process_env;
use alyx_control_plane::{AdminApi, ClusterControl, ClusterOptions, Options};
use alyx_core::{Result, SystemClock};
use alyx_service::health::SharedCheck;
use alyx_store::{RemoteOptions, Store};
use async_trait::async_trait;

use super::base::{Base, left};
use super::{Running, figures};
use crate::database;
use crate::operations::Told;

struct Role {
    base: Arc<Base>,
    control: Arc<ClusterControl>,
    store: Store,
    election: Store,
}

pub(super) async fn start(base: &Arc<Base>, schema: PathBuf) -> Result<Box<dyn Running>> {
    let config = &base.config;
    let bus = base.bus()?;
    let (store, election) = tokio::try_join!(base.database(&bus, false), election(base))?;
    let options = ClusterOptions {
        plane: Options {
            schema_path: schema,
            functions: Some(config.functions.clone()),
            state_dir: base.state_dir.clone(),
            watch: false,
            env: process_env(),
        },
        cluster: config.cluster.name.clone(),
        node_id: base.node_id.clone(),
        address: base.advertise.clone(),
    };
    let control = ClusterControl::start(
        options,
        store.clone(),
        election.clone(),
        Arc::new(SystemClock),
        &base.background,
    );
    match &base.operators {
        Some(operators) => {
            let clock = Arc::new(SystemClock);
            let rows = Arc::new(alyx_operators::Operators::new(election.clone(), clock));
            let api = AdminApi::of_cluster(Arc::clone(&control), rows, base.security.clone());
            operators.security().accept(api.tokens());
            base.serve(api.add_to(control.routes())).await?;
            operators.serve(&api, &base.background).await?;
        }
        None => base.serve(control.routes()).await?,
    }
    let mut checks: Vec<SharedCheck> = vec![Arc::new(store.clone())];
    checks.extend(control.health_checks());
    checks.extend(bus.health_check());
    base.tell(Told {
        ready: false,
        checks,
        figures: figures::of_control_plane(Arc::clone(&control)),
    });
    control.settled().await?;
    Ok(Box::new(Role {
        base: Arc::clone(base),
        control,
        store,
        election,
    }))
}

/// The same database by a way of its own: who leads is written there also while no gateway is there to write.
async fn election(base: &Base) -> Result<Store> {
    let options = RemoteOptions {
        readers: 1,
        ..database::remote_options(&base.config)
    };
    database::patiently(async || Store::open_remote(options.clone(), |_| {}).await).await
}

#[async_trait]
impl Running for Role {
    async fn stop(self: Box<Self>, deadline: Instant) -> bool {
        let told = match &self.base.operators {
            Some(operators) => operators.stop(left(deadline)).await,
            None => true,
        };
        let ended = self.control.stop(left(deadline)).await;
        let served = self.base.stop_serving(deadline).await;
        self.election.close().await;
        self.store.close().await;
        told && ended && served
    }
}

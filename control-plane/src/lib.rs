//! The control plane: owner of the desired state.
//!
//! It reads the schema, its migrations and the functions, brings the database to the schema where that loses nothing
//! that no migration gives up, and publishes
//! one consistent [`DesiredState`](alyx_service::state::DesiredState) after another. It is on no request's path.
//!
//! **Invariant:** the published schema is one whose tables exist: it is published only after the transaction that
//! made them, and a schema that is broken or would lose data leaves the old one published.
//!
//! **Invariant:** the code of a published function never changes: it lies in a bundle named by its content.

mod admin;
mod apply;
mod cluster;
mod explain;
mod functions;
mod grpc;
mod health;
mod migrations;
mod migrator;
mod options;
mod plane;
mod planned;
mod proposal;
mod revision;
mod schema;
mod watch;

pub use admin::AdminApi;
pub use cluster::{ClusterControl, ClusterOptions};
pub use explain::explain_rules;
pub use migrations::RolledBack;
pub use migrator::{
    CreatedMigration, KnownMigration, Migrated, MigrationPlan, MigrationStatus, Migrator,
    create_empty_migration,
};
pub use options::Options;
pub use plane::ControlPlane;
pub use planned::{PlannedStep, RefusedStep};

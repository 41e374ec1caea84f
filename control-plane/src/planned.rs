//! The steps of a plan as people are told of them.

use alyx_core::Value;
use alyx_schema::{Class, Plan, Step, Verdict};
use alyx_store::Store;

use crate::migrations::Migration;
use crate::revision;

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Where in the schema.
    pub path: String,
    /// What changes.
    pub description: String,
    /// What it may do to data.
    pub class: Class,
    /// Rows that it concerns; `None` where it concerns the server only, or nobody can tell.
    pub rows: Option<u64>,
    /// Why it is refused, unless it is safe or a pending migration says what becomes of the data.
    pub refused: Option<RefusedStep>,
}

/// Why a step is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedStep {
    /// What would be lost.
    pub loses: String,
    /// What to do instead.
    pub remedy: String,
}

/// The steps of a plan beside migrations that are still to run: what these see to is not refused. Rows are counted in
/// `database`, where it has any.
pub(crate) async fn steps(plan: &Plan, pending: &[Migration], database: Option<&Store>) -> Vec<PlannedStep> {
    let still = plan.clone();
    let still = if pending.is_empty() {
        still
    } else {
        still.beside_migrations(|step| pending.iter().any(|migration| migration.covers(step)))
    };
    let mut steps = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let mut planned = PlannedStep::of(step, database).await;
        let stands = still.refused().any(|refused| refused == step);
        planned.refused = planned.refused.filter(|_| stands);
        steps.push(planned);
    }
    steps
}

impl PlannedStep {
    /// The step, with the rows that it concerns where the database has any.
    async fn of(step: &Step, database: Option<&Store>) -> Self {
        let rows = match database {
            Some(store) => rows(step, store).await,
            None => None,
        };
        Self {
            path: step.path.clone(),
            description: step.description.clone(),
            class: step.class(),
            rows,
            refused: why(step),
        }
    }
}

/// Rows that a step concerns, where the database can tell.
async fn rows(step: &Step, store: &Store) -> Option<u64> {
    let counted = revision::query(store, step.concerned.as_deref()?).await.ok()?;
    let value = counted.first()?.first().and_then(Value::as_int)?;
    Some(value.unsigned_abs())
}

fn why(step: &Step) -> Option<RefusedStep> {
    match &step.verdict {
        Verdict::Safe => None,
        Verdict::Refused { loses, remedy, .. } => Some(RefusedStep {
            loses: loses.clone(),
            remedy: remedy.clone(),
        }),
    }
}

//! Requests that hold a whole transaction: run at once, and again where a conflict comes in between.

use std::time::{Duration, Instant};

use alyx_core::Result;

use super::Engine;
use super::idempotency::{IdempotencyKey, Kept};
use super::operation::Operation;
use super::outcome::{Outcome, Shaped};
use super::reference::Made;
use super::transaction::Transaction;

/// Times that such a request is tried before its caller is told of the conflict.
const MAX_TRIES: u32 = 12;

/// A request of that kind.
pub(crate) struct Job<'a> {
    pub(crate) operations: &'a [Operation],
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) shape: fn(&[Outcome]) -> Shaped,
    pub(crate) schema_revision: u64,
    pub(crate) deadline: Instant,
}

impl Engine {
    /// Carries out all of it or nothing. An error about one operation has its number as step.
    ///
    /// Errors: those of the operations; `TRANSACTION_CONFLICT` where others changed the same again and again;
    /// `IDEMPOTENCY_KEY_REUSED`, `IDEMPOTENT_REPLY_TOO_LARGE`.
    pub(crate) async fn run(&self, job: &Job<'_>) -> Result<Kept> {
        let mut tries = 1;
        loop {
            if let Some(kept) = self.replay(job).await? {
                return Ok(kept);
            }
            let error = match self.attempt(job).await {
                Ok(shaped) => {
                    return Ok(Kept {
                        shaped,
                        replayed: false,
                    });
                }
                Err(error) => error,
            };
            let again = matches!(error.code(), "TRANSACTION_CONFLICT" | "IDEMPOTENCY_KEY_TAKEN");
            if !again || tries >= MAX_TRIES || Instant::now() >= job.deadline {
                // It may have failed because the same request was carried out meanwhile.
                return self.replay(job).await?.ok_or(error);
            }
            if tries > 2 {
                let pause = Duration::from_micros(250) * tries;
                tokio::time::sleep(pause).await;
            }
            tries += 1;
        }
    }

    async fn replay(&self, job: &Job<'_>) -> Result<Option<Kept>> {
        match &job.key {
            Some(key) => key.find(self, job.deadline).await,
            None => Ok(None),
        }
    }

    async fn attempt(&self, job: &Job<'_>) -> Result<Shaped> {
        let mut transaction = self.begin(job.schema_revision);
        let (outcomes, writers) = transaction.apply_all(self, job.operations, job.deadline).await?;
        let shaped = (job.shape)(&outcomes);
        let extra = match &job.key {
            Some(key) => key.keep(&shaped)?,
            None => Vec::new(),
        };
        match transaction.commit(self, extra, job.deadline).await {
            Ok(_) => Ok(shaped),
            Err(error) => {
                let operation = error.step().and_then(|write| writers.get(write).copied());
                Err(match operation {
                    Some(operation) => error.with_step(operation),
                    None => error,
                })
            }
        }
    }
}

impl Transaction {
    /// Carries out the operations in order. Returns what they did, and which of them made each write.
    ///
    /// Errors: of the first one that fails, with its number as step; what those before it did stays.
    pub(crate) async fn apply_all(
        &mut self,
        engine: &Engine,
        operations: &[Operation],
        deadline: Instant,
    ) -> Result<(Vec<Outcome>, Vec<usize>)> {
        let mut made = Made::default();
        let mut outcomes = Vec::with_capacity(operations.len());
        let mut writers = Vec::with_capacity(operations.len());
        for (number, operation) in operations.iter().enumerate() {
            let outcome = async {
                let (id, data) = (made.id(operation)?, made.data(operation)?);
                self.apply(engine, operation, (id.as_deref(), &data), deadline)
                    .await
            };
            let outcome = outcome.await.map_err(|error| error.with_step(number))?;
            made.push(operation, outcome.document.as_ref().map(|document| &document.row));
            writers.resize(self.steps.len().max(writers.len()), number);
            outcomes.push(outcome);
        }
        Ok((outcomes, writers))
    }
}

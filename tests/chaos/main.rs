//! The server under faults: a seeded nemesis disturbs it while clients write and follow live queries, everything that
//! a client saw is written down, and a checker reads that afterwards.
//!
//! `ALYX_CHAOS_SECONDS` says for how long (30), `ALYX_CHAOS_SEED` repeats a run's faults. `make test` and `make chaos` run
//! it.

mod checker;
mod nemesis;
mod reader;
mod run;
mod strain;
mod system;
mod transcript;
mod view;
mod writer;

use alyx_tests::{Form, in_both_forms};

in_both_forms! {
    nothing_acknowledged_is_lost_nothing_is_applied_twice_and_every_live_query_is_true,
}

async fn nothing_acknowledged_is_lost_nothing_is_applied_twice_and_every_live_query_is_true(form: Form) {
    run::run(form).await;
}

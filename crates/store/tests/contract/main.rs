//! What every backend of the store must do.
//!
//! A suite is a set of functions that take a [`Backend`], a way to open a store; `contract!` runs them against one.
//! What only the embedded backend has (a file, a process that dies) is in `file` and `foreign`, what only a server has
//! (it dies, hangs, refuses) in `remote`.

mod atomicity;
mod bounds;
mod cluster;
mod conditions;
mod constraints;
mod file;
mod foreign;
mod log;
mod migrations;
mod order;
mod proxy;
mod remote;
mod server;
mod support;

use server::RemoteBackend;
use support::{Backend, EmbeddedBackend};

macro_rules! contract {
    ($($suite:ident: $($case:ident),+ $(,)?;)+) => {
        mod embedded {
            use super::*;
            $(mod $suite {
                use super::*;
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let backend: &dyn Backend = &EmbeddedBackend::new();
                    crate::$suite::$case(backend).await;
                })+
            })+
        }
        mod on_server {
            use super::*;
            $(mod $suite {
                use super::*;
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let backend: &dyn Backend = &RemoteBackend::new();
                    crate::$suite::$case(backend).await;
                })+
            })+
        }
    };
}

contract! {
    atomicity:
        a_failing_step_undoes_the_whole_write,
        a_write_is_about_rows,
        a_failing_write_of_a_group_fails_alone,
        inserts_that_are_alike_are_answered_one_by_one,
        a_refused_insert_among_alike_ones_fails_alone,
        a_statement_that_leaves_rows_behind_is_undone,
        a_trigger_that_rolls_back_costs_only_its_own_write,
        a_deferred_violation_costs_only_its_own_write,
        text_that_is_no_text_costs_only_its_own_write,
        an_expected_row_that_is_missing_undoes_the_write,
        a_returning_statement_over_the_bound_is_undone;
    order:
        commits_are_published_in_log_order_without_gaps,
        a_reply_names_the_commit_that_holds_the_write,
        a_write_is_seen_by_the_reads_after_it,
        a_snapshot_equals_the_log_up_to_its_position;
    log:
        the_log_can_be_read_from_any_position,
        a_commit_is_never_split,
        changes_tell_what_happened,
        the_old_end_is_cut_off_and_the_head_stays,
        positions_are_not_reused_after_a_cut,
        old_changes_go_by_age;
    bounds:
        a_late_write_is_not_carried_out,
        an_abandoned_write_is_not_carried_out,
        a_full_queue_refuses_writes,
        a_query_over_its_deadline_is_stopped,
        a_result_over_the_bound_is_an_error,
        a_read_cannot_write,
        too_many_statements_are_refused,
        a_wrong_number_of_parameters_is_a_defect,
        a_follower_that_panics_does_not_stop_the_writer,
        a_closed_store_says_so,
        point_reads_beyond_the_connections_are_served;
    conditions:
        a_condition_that_does_not_hold_undoes_the_write_and_names_its_step,
        a_writing_step_can_be_a_condition_itself,
        a_failing_condition_of_a_group_fails_alone,
        of_writes_on_the_same_condition_one_is_carried_out,
        a_reply_is_kept_with_its_effects_and_only_once,
        replies_that_are_too_old_make_room;
    constraints:
        violations_name_the_field,
        values_come_back_as_they_were_written;
    migrations:
        a_migration_is_all_or_nothing,
        readers_see_the_new_columns,
        a_table_with_references_can_be_rebuilt,
        dangling_references_are_refused,
        a_step_may_not_end_the_transaction,
        rows_of_a_migration_are_published,
        an_alteration_sees_its_own_steps_and_is_all_or_nothing,
        reads_are_served_while_the_tables_are_changed;
}

/// A server has no recursive triggers and refuses the statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_row_is_deleted_and_inserted() {
    log::a_replaced_row_is_deleted_and_inserted(&EmbeddedBackend::new()).await;
}

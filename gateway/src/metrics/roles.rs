//! Figures of the store, the realtime hub and the function pools, asked for when `/metrics` is.

use alyx_service::function::PoolStats;
use alyx_store::BATCH_BOUNDS;

use crate::app::App;
use alyx_service::metrics::{Exposition, Family, families};

/// Writes the figures of everything behind the gateway.
pub(crate) fn write_roles(out: &mut Exposition, app: &App) {
    write_store(out, app);
    write_realtime(out, app);
    write_functions(out, app);
    write_files(out, app);
    let (hashes, refused) = app.auth.hashes();
    out.single(families::AUTH_HASHES, hashes);
    out.single(families::AUTH_HASHES_REFUSED, refused);
}

fn write_files(out: &mut Exposition, app: &App) {
    let stats = app.files.stats();
    out.single(families::FILES_UPLOADS, stats.uploads);
    out.single(families::FILES_UPLOADED_BYTES, stats.bytes);
    out.family(families::FILES_REMOVED);
    out.sample("", &[("reason", "deleted")], stats.removed);
    out.sample("", &[("reason", "orphaned")], stats.swept);
}

fn write_store(out: &mut Exposition, app: &App) {
    let stats = app.store.stats();
    out.single(families::STORE_WRITES, stats.writes);
    out.single(families::STORE_FAILED_WRITES, stats.failed_writes);
    out.single(families::STORE_CHANGES, stats.changes);
    out.family(families::STORE_COMMIT_WRITES);
    let mut below = 0;
    for (bound, count) in BATCH_BOUNDS.iter().zip(&stats.batches) {
        below += count;
        out.sample("_bucket", &[("le", &bound.to_string())], below);
    }
    out.sample("_bucket", &[("le", "+Inf")], stats.commits);
    out.sample("_sum", &[], stats.writes);
    out.sample("_count", &[], stats.commits);
    out.family(families::STORE_READS);
    out.sample("", &[("cost", "point")], stats.point_reads);
    out.sample("", &[("cost", "scan")], stats.scans);
    out.single(families::STORE_READ_TIMEOUTS, stats.read_timeouts);
    out.family(families::STORE_QUEUED);
    out.sample("", &[("kind", "read")], stats.read_queue);
    out.sample("", &[("kind", "write")], stats.write_queue);
    out.family(families::STORE_READERS);
    out.sample("", &[("state", "busy")], stats.readers_busy);
    out.sample(
        "",
        &[("state", "idle")],
        stats.readers.saturating_sub(stats.readers_busy),
    );
    out.single(families::STORE_CHECKPOINTS, stats.checkpoints);
    out.family(families::STORE_BYTES);
    out.sample("", &[("file", "database")], stats.database_bytes);
    out.sample("", &[("file", "wal")], stats.wal_bytes);
    out.single(families::STORE_HEAD, stats.head);
    out.single(families::STORE_HORIZON, stats.horizon);
}

fn write_realtime(out: &mut Exposition, app: &App) {
    let Some(hub) = &app.hub else { return };
    let stats = hub.stats();
    out.single(families::REALTIME_CONNECTIONS, stats.connections);
    out.single(families::REALTIME_SUBSCRIPTIONS, stats.subscriptions);
    out.single(families::REALTIME_GROUPS, stats.groups);
    out.single(families::REALTIME_JOINED, u8::from(stats.joined));
    out.single(families::REALTIME_FRAMES, stats.frames_sent);
    out.single(families::REALTIME_BYTES, stats.bytes_sent);
    out.single(families::REALTIME_MESSAGES, stats.messages_received);
    out.single(families::REALTIME_RESETS, stats.resets);
    out.single(families::REALTIME_OVERFLOWS, stats.overflows);
    out.family(families::REALTIME_CLOSED);
    for (reason, count) in stats.closes.by_reason() {
        out.sample("", &[("reason", reason)], count);
    }
}

fn write_functions(out: &mut Exposition, app: &App) {
    let Some(functions) = &app.functions else { return };
    let pools = functions.stats();
    out.family(families::FUNCTIONS_INSTANCES);
    for (runtime, pool) in &pools {
        let starting = pool.total.saturating_sub(pool.ready + pool.busy);
        for (state, count) in [("busy", pool.busy), ("ready", pool.ready), ("starting", starting)] {
            out.sample("", &[("runtime", runtime), ("state", state)], count);
        }
    }
    let mut each = |family: Family, figure: fn(&PoolStats) -> u64| {
        out.family(family);
        for (runtime, pool) in &pools {
            out.sample("", &[("runtime", runtime)], figure(pool));
        }
    };
    each(families::FUNCTIONS_QUEUED, |pool| pool.queued as u64);
    each(families::FUNCTIONS_INVOCATIONS, |pool| pool.invocations);
    each(families::FUNCTIONS_STARTED, |pool| pool.started);
    each(families::FUNCTIONS_COLD_STARTS, |pool| pool.cold_starts);
    each(families::FUNCTIONS_TIMEOUTS, |pool| pool.timeouts);
    each(families::FUNCTIONS_CRASHES, |pool| pool.crashes);
}

//! Every metric family by name; `docs/metrics.md` lists the same ones, which a test checks.

/// What kind of figure a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// The word in the exposition format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric family.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Its name, `alyx_<component>_<noun>_<unit>`.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it means.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Family = Family { name: $name, kind: Kind::$kind, help: $help };)*

        /// All families.
        #[cfg(test)]
        pub const fn families() -> &'static [Family] {
            &[$($constant),*]
        }
    };
}

families! {
    HTTP_REQUESTS = Counter "alyx_http_requests_total", "Requests answered.";
    HTTP_DURATION = Histogram "alyx_http_request_duration_seconds", "Time from a request's head to its reply's head.";
    HTTP_IN_FLIGHT = Gauge "alyx_http_requests_in_flight", "Requests being answered.";
    HTTP_CONNECTIONS = Gauge "alyx_http_connections", "Open HTTP connections; realtime sockets have a figure of their own.";
    HTTP_ACCEPTED = Counter "alyx_http_connections_accepted_total", "Connections accepted.";
    HTTP_REFUSED = Counter "alyx_http_connections_refused_total", "Connections turned away at server.max_connections.";
    LIST_TOTALS = Counter "alyx_documents_list_totals_total", "Totals of lists, taken from the cache or counted.";
    STORE_WRITES = Counter "alyx_store_writes_total", "Writes carried out.";
    STORE_FAILED_WRITES = Counter "alyx_store_failed_writes_total", "Writes refused or undone.";
    STORE_CHANGES = Counter "alyx_store_changes_total", "Changes written to the change log.";
    STORE_COMMIT_WRITES = Histogram "alyx_store_commit_writes", "Writes carried by one commit.";
    STORE_READS = Counter "alyx_store_reads_total", "Reads by cost.";
    STORE_READ_TIMEOUTS = Counter "alyx_store_read_timeouts_total", "Reads ended by their deadline.";
    STORE_QUEUED = Gauge "alyx_store_queued", "Reads and writes that wait.";
    STORE_READERS = Gauge "alyx_store_readers", "Reader threads by state.";
    STORE_CHECKPOINTS = Counter "alyx_store_checkpoints_total", "Times that the write-ahead log was copied into the database.";
    STORE_BYTES = Gauge "alyx_store_file_bytes", "Sizes of the database's files.";
    STORE_HEAD = Gauge "alyx_store_log_head", "Last position of the change log.";
    STORE_HORIZON = Gauge "alyx_store_log_horizon", "Position up to which the change log has been cut off.";
    REALTIME_CONNECTIONS = Gauge "alyx_realtime_connections", "Open realtime sockets.";
    REALTIME_SUBSCRIPTIONS = Gauge "alyx_realtime_subscriptions", "Subscriptions of all sockets.";
    REALTIME_GROUPS = Gauge "alyx_realtime_groups", "Distinct live queries.";
    REALTIME_JOINED = Gauge "alyx_realtime_joined", "1 while the realtime node answers.";
    REALTIME_FRAMES = Counter "alyx_realtime_frames_sent_total", "Frames sent to sockets.";
    REALTIME_BYTES = Counter "alyx_realtime_sent_bytes_total", "Bytes sent to sockets.";
    REALTIME_MESSAGES = Counter "alyx_realtime_messages_received_total", "Messages received from sockets.";
    REALTIME_RESETS = Counter "alyx_realtime_resets_total", "Snapshots sent afresh because a socket or the node was behind.";
    REALTIME_OVERFLOWS = Counter "alyx_realtime_overflows_total", "Queues that ran over.";
    REALTIME_CLOSED = Counter "alyx_realtime_closed_total", "Sockets closed, by reason.";
    FILES_UPLOADS = Counter "alyx_files_uploads_total", "Files stored.";
    FILES_UPLOADED_BYTES = Counter "alyx_files_uploaded_bytes_total", "Bytes of the files stored.";
    FILES_REMOVED = Counter "alyx_files_removed_total", "Files whose bytes were removed, by reason.";
    AUTH_HASHES = Counter "alyx_auth_hashes_total", "Passwords hashed or compared.";
    AUTH_HASHES_REFUSED = Counter "alyx_auth_hashes_refused_total", "Passwords that were not looked at because too many waited.";
    FUNCTIONS_INSTANCES = Gauge "alyx_functions_instances", "Function instances by state.";
    FUNCTIONS_QUEUED = Gauge "alyx_functions_queued", "Invocations that wait for an instance.";
    FUNCTIONS_INVOCATIONS = Counter "alyx_functions_invocations_total", "Invocations.";
    FUNCTIONS_STARTED = Counter "alyx_functions_instances_started_total", "Function instances started.";
    FUNCTIONS_COLD_STARTS = Counter "alyx_functions_cold_starts_total", "Invocations whose function had no instance when they came.";
    FUNCTIONS_TIMEOUTS = Counter "alyx_functions_timeouts_total", "Invocations ended by their deadline.";
    FUNCTIONS_CRASHES = Counter "alyx_functions_crashes_total", "Function instances lost while they worked.";
    CONTROL_LEADS = Gauge "alyx_control_plane_leads", "1 while this control plane leads.";
    CLUSTER_NODES = Gauge "alyx_cluster_nodes", "Live nodes by role, as this node knows them.";
    CLUSTER_FOLLOWS = Gauge "alyx_cluster_follows", "1 while the control plane is heard.";
    CLUSTER_SCHEMA = Gauge "alyx_cluster_schema_revision", "Revision of the schema that is served.";
    CLUSTER_WRITER = Gauge "alyx_cluster_writer", "1 while this gateway writes for the cluster.";
    NODE_LAG = Gauge "alyx_realtime_node_lag", "Changes that a realtime node knows of and has not applied.";
    NODE_LINKS = Gauge "alyx_realtime_node_links", "Gateways joined to a realtime node.";
    NODE_GROUPS = Gauge "alyx_realtime_node_groups", "Live queries that a realtime node evaluates.";
    NODE_SNAPSHOTS = Counter "alyx_realtime_node_snapshots_total", "Windows read from the start.";
    NODE_REFILLS = Counter "alyx_realtime_node_refills_total", "Windows refilled.";
    NODE_REREADS = Counter "alyx_realtime_node_rereads_total", "Windows read again because what their documents refer to changed.";
    NODE_TRANSITIONS = Counter "alyx_realtime_node_transitions_total", "Transitions of windows let out.";
    BUILD_INFO = Gauge "alyx_build_info", "The running version; always 1.";
    PROCESS_START = Gauge "process_start_time_seconds", "Start of the process, in seconds since the Unix epoch.";
    PROCESS_CPU = Counter "process_cpu_seconds_total", "User and system CPU time.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes", "Resident memory.";
    PROCESS_THREADS = Gauge "process_threads", "Threads.";
    PROCESS_FILES = Gauge "process_open_fds", "Open file descriptors.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_exactly_these_families() {
        let docs = include_str!("../../../../docs/metrics.md");
        let documented = docs.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: Vec<&str> = documented.filter_map(|line| line.split('`').next()).collect();
        let known: Vec<&str> = families().iter().map(|family| family.name).collect();
        assert_eq!(documented, known);
        for family in families() {
            let row = format!("| `{}` | {} |", family.name, family.kind.name());
            assert!(docs.contains(&row), "no row {row}");
        }
    }
}

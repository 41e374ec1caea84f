//! Where a role of its own is reached.

use std::fmt;

use super::base::Base;

/// Printed when its listeners are bound.
pub(super) struct Banner<'a> {
    base: &'a Base,
    public: Option<String>,
}

impl<'a> Banner<'a> {
    /// With the public address, where there is one.
    pub(super) fn new(base: &'a Base, public: Option<String>) -> Self {
        Self { base, public }
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, public } = self;
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "\n  Alyx {version} · {}\n", base.role.name())?;
        if let Some(public) = public {
            writeln!(f, "  API      {public}/api")?;
            if base.config.docs.enabled {
                writeln!(f, "  Docs     {public}/docs")?;
            }
        }
        let advertised = if base.advertise == base.rpc.to_string() {
            String::new()
        } else {
            format!("   (for the others: {})", base.advertise)
        };
        writeln!(f, "  rpc      {}{advertised}", base.rpc)?;
        if let Some(operators) = &base.operators {
            writeln!(f, "  admin    {}", operators.url())?;
        }
        writeln!(f, "  metrics  http://{}/metrics", base.metrics())?;
        writeln!(
            f,
            "  Node     {} of cluster {}\n",
            base.node_id, base.config.cluster.name
        )
    }
}

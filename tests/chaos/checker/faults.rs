//! When clients may see errors: from a fault's beginning until everybody is served again, but for those that are
//! spared while it goes on.

use std::path::Path;

use crate::transcript::{self, Event};

/// Longest time from a fault's beginning until those are served that it spares, from then on in which the database is
/// away until writes are refused, and from its end until all are served. In milliseconds of a machine of our own.
const WITHIN: u64 = 5_000;

/// All faults of a run.
#[derive(Debug, Default)]
pub(super) struct Faults {
    windows: Vec<Window>,
    open: Option<Window>,
    fault: String,
    /// From the end of a fault until all were served, at most.
    pub(super) slowest: u64,
    /// Faults during which clients were served all the same, or turned away as they should be.
    pub(super) survived: u64,
    /// NATS messages that were tampered with.
    pub(super) disturbed: u64,
}

/// A time in which errors are to be expected.
#[derive(Debug)]
struct Window {
    from: u64,
    to: u64,
    /// Entrances where none are.
    spared: Vec<u64>,
}

impl Faults {
    /// Reads what the nemesis did; what took too long is a problem.
    pub(super) fn read(folder: &Path) -> (Self, Vec<String>) {
        let mut faults = Self::default();
        let files = transcript::files(folder, "nemesis");
        let events = files.iter().flat_map(|path| transcript::read(path));
        let problems = events.filter_map(|event| faults.take(&event)).collect();
        faults.turn(u64::MAX, None);
        (faults, problems)
    }

    /// Whether a client at that entrance may have seen an error between these times.
    pub(super) fn excuse(&self, entrance: u64, (from, to): (u64, u64)) -> bool {
        let mut windows = self.windows.iter();
        windows.any(|window| from <= window.to && to >= window.from && !window.spared.contains(&entrance))
    }

    fn take(&mut self, event: &Event) -> Option<String> {
        let took = event.data["took"].as_u64().unwrap_or_default();
        let told = match event.event.as_str() {
            "fault" => {
                self.fault = event.data["fault"].as_str().unwrap_or_default().to_owned();
                self.turn(event.ms, Some(Vec::new()));
                return None;
            }
            "undone" => {
                self.turn(event.ms, Some(Vec::new()));
                return None;
            }
            "healed" => {
                self.disturbed = event.data["disturbed"].as_u64().unwrap_or(self.disturbed);
                return None;
            }
            "survived" => {
                self.survived += 1;
                let spared = event.data["entrances"].as_array().into_iter().flatten();
                self.turn(event.ms, Some(spared.filter_map(|n| n.as_u64()).collect()));
                "clients were served in spite of"
            }
            "refused" => {
                self.survived += 1;
                "writes were refused during"
            }
            "recovered" => {
                self.slowest = self.slowest.max(took);
                self.turn(event.ms, None);
                "all were served again after"
            }
            other => return Some(format!("the nemesis says {other}")),
        };
        (took > WITHIN).then(|| format!("only after {took} ms {told} {}, at {} ms", self.fault, event.ms))
    }

    /// From then on other errors are to be expected; `None` for none.
    fn turn(&mut self, at: u64, spared: Option<Vec<u64>>) {
        if let Some(window) = self.open.take() {
            self.windows.push(Window { to: at, ..window });
        }
        self.open = spared.map(|spared| Window {
            from: at,
            to: at,
            spared,
        });
    }
}

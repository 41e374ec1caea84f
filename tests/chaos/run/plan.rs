//! How long, by which seed, and where it is written down.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use alyx_tests::{Form, Random};

/// A run's settings. A run that fails says how to repeat it and where its transcripts are, also where it panics.
#[derive(Debug)]
pub(super) struct Plan {
    form: Form,
    pub(super) length: Duration,
    pub(super) seed: u64,
    /// A folder of this run's own, outside of what Cargo looks after. It stays behind where the run fails.
    pub(super) folder: PathBuf,
}

impl Plan {
    pub(super) fn from_environment(form: Form) -> Self {
        let length = Duration::from_secs(setting("ALYX_CHAOS_SECONDS").unwrap_or(30));
        let seed = setting("ALYX_CHAOS_SEED").unwrap_or_else(fresh_seed);
        let name = format!("alyx-chaos-{form:?}-{seed}-{}", std::process::id()).to_lowercase();
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        say(&format!("chaos {form:?}: ALYX_CHAOS_SEED={seed} for {length:?}"));
        Self {
            form,
            length,
            seed,
            folder,
        }
    }

    pub(super) fn remove_folder(&self) {
        std::fs::remove_dir_all(&self.folder).expect("the transcripts can be removed");
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!(
                "chaos {:?} failed: ALYX_CHAOS_SEED={}, transcripts and logs in {}",
                self.form,
                self.seed,
                self.folder.display()
            ));
        }
    }
}

/// Past the test runner, which keeps what a test prints to itself.
pub(super) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("the terminal can be written to");
}

#[expect(
    clippy::disallowed_methods,
    reason = "settings of the tests, not of the product"
)]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    Random::new(u64::from(since.subsec_nanos()) ^ since.as_secs()).number() % 1_000_000_000
}

//! Watches one instance's process: takes what it writes to its standard output and error, ends it when told to,
//! and says why it ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

use crate::instance::Instance;
use crate::logs::{LineCutter, one_line};
use crate::schedule::Shared;
use crate::stem::Kept;

/// For what is left in the pipes after the process ended; a grandchild may hold them open.
const PATIENCE: Duration = Duration::from_millis(200);
/// What is kept of standard error to tell why the process ended.
const TAIL: usize = 8 << 10;

/// Runs until the process has ended and all its calls know.
pub(crate) async fn supervise(
    shared: Arc<Shared>,
    instance: Arc<Instance>,
    mut child: Child,
    (stdout, stderr): (impl AsyncRead + Unpin, impl AsyncRead + Unpin),
    kept: Kept,
) {
    let stopping = shared.tasks.cancelled();
    let mut out = Pipe::new(stdout, "info");
    let mut err = Pipe::new(stderr, "error");
    let mut killing = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = out.read(&instance), if out.open => {}
            () = err.read(&instance), if err.open => {}
            () = instance.killed.cancelled(), if !killing => {
                killing = true;
                // It fails only where the process has ended already.
                let _ = child.start_kill();
            }
            () = stopping.cancelled(), if !killing => instance.kill("the server is stopping"),
        }
    };
    let rest = async {
        while out.open || err.open {
            tokio::select! {
                () = out.read(&instance), if out.open => {}
                () = err.read(&instance), if err.open => {}
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, rest).await;
    drop(kept);
    let reason = instance.kill_reason().unwrap_or_else(|| {
        let status = status.ok();
        describe(status, &err.tail, instance.function.memory_mib).into()
    });
    instance.kill(&reason);
    shared.gone(&instance, &reason);
}

/// Why a process that nobody killed has ended.
fn describe(status: Option<ExitStatus>, said: &[u8], memory_mib: u64) -> String {
    const SIGKILL: i32 = 9;
    let said = String::from_utf8_lossy(said);
    let signal = status.and_then(|status| status.signal());
    if said.contains("out of memory") || said.contains("bad_alloc") || signal == Some(SIGKILL) {
        return out_of_memory(memory_mib);
    }
    // The last words of a Go program.
    let panic = said
        .lines()
        .find(|line| line.starts_with("panic: ") || line.starts_with("fatal error: "));
    match (status.and_then(|status| status.code()), signal) {
        (Some(code), _) if panic.is_some() => {
            format!(
                "its process exited with code {code}: {}",
                panic.unwrap_or_default()
            )
        }
        (Some(code), _) => format!("its process exited with code {code}"),
        (None, Some(signal)) => format!("its process was ended by signal {signal}"),
        (None, None) => "its process has ended".to_owned(),
    }
}

/// The words for a process over its memory limit.
pub(crate) fn out_of_memory(memory_mib: u64) -> String {
    format!("it ran out of memory (its limit is {memory_mib} MiB)")
}

struct Pipe<R> {
    source: R,
    open: bool,
    level: &'static str,
    cutter: LineCutter,
    tail: Vec<u8>,
    buffer: Box<[u8]>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(source: R, level: &'static str) -> Self {
        Self {
            source,
            open: true,
            level,
            cutter: LineCutter::default(),
            tail: Vec::new(),
            buffer: vec![0; 4096].into_boxed_slice(),
        }
    }

    /// Reads once. Dropping it half way loses nothing: the read is its only wait.
    async fn read(&mut self, instance: &Instance) {
        let count = self.source.read(&mut self.buffer).await.unwrap_or(0);
        let level = self.level;
        if count == 0 {
            self.open = false;
            self.cutter.finish(|line| attribute(instance, level, line));
            return;
        }
        let bytes = &self.buffer[..count];
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        self.cutter.push(bytes, |line| attribute(instance, level, line));
    }
}

/// A raw line belongs to a call where there is exactly one; otherwise it goes to the server's log.
fn attribute(instance: &Instance, level: &str, line: String) {
    let mut pending = instance.pending.lock();
    let mut calls = pending.values_mut();
    if let (Some(call), None) = (calls.next(), calls.next()) {
        call.log.add_raw(level, line);
        return;
    }
    drop(pending);
    tracing::info!(
        function = instance.function.name,
        level,
        message = &*one_line(&line),
        "function output"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_tells_memory_signals_and_exits_apart() {
        let check = |raw: i32, said: &str, expected: &str| {
            let words = describe(Some(ExitStatus::from_raw(raw)), said.as_bytes(), 64);
            assert!(words.contains(expected), "{words}");
        };
        check(
            6,
            "FATAL ERROR: Reached heap limit - JavaScript heap out of memory",
            "out of memory (its limit is 64 MiB)",
        );
        check(9, "", "out of memory");
        check(11, "", "signal 11");
        check(3 << 8, "bye", "exited with code 3");
        check(
            2 << 8,
            "x\npanic: boom\n\ngoroutine 7 [running]:",
            "exited with code 2: panic: boom",
        );
    }
}

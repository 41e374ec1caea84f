//! What a worker and its monitor say to each other: the program's socket and its profile first, then one line of JSON
//! for each order and each reply.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{During as _, Error};
use crate::profile::Profile;

/// Longest line in bytes.
const MAX_LINE: usize = 512 << 10;
/// Most bytes of a profile's environment: it travels as one variable, of which the kernel takes 128 KiB.
const MAX_ENV: usize = 100 << 10;

/// What a monitor is told once the program runs.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Let the program read these too.
    Show(Vec<PathBuf>),
}

/// What a monitor says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The program is being started, as that process.
    Started(i32),
    /// The order is carried out.
    Done,
    /// It is not, and why.
    Failed(String),
}

/// Hands the program's socket and the profile to a monitor that has just been started. Blocks for moments only.
///
/// # Errors
/// Where the monitor is gone, or the environment is too large.
pub fn send_program(monitor: &UnixStream, socket: BorrowedFd<'_>, profile: &Profile) -> Result<(), Error> {
    let size: usize = profile
        .env
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > MAX_ENV {
        return Err(Error::Wrong(format!(
            "its settings (`env`) take {size} bytes together; at most {MAX_ENV} fit"
        )));
    }
    let fds = [socket];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(monitor, &[IoSlice::new(b"\n")], &mut control, SendFlags::NOSIGNAL)
        .during(|| "handing over the socket".to_owned())?;
    say(monitor, profile)
}

/// Writes one line.
pub(crate) fn say(mut to: &UnixStream, what: &impl Serialize) -> Result<(), Error> {
    let mut line = serde_json::to_vec(what).map_err(|error| Error::Wrong(error.to_string()))?;
    line.push(b'\n');
    to.write_all(&line).during(|| "talking to the worker".to_owned())
}

/// The monitor's end.
pub(crate) struct Channel {
    pub(crate) socket: UnixStream,
    received: Vec<u8>,
}

impl Channel {
    /// Takes the worker's socket away from descriptor 0.
    pub(crate) fn take() -> Result<Self, Error> {
        let fd = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)
            .during(|| "taking the worker's socket".to_owned())?;
        Ok(Self {
            socket: UnixStream::from(fd),
            received: Vec::new(),
        })
    }

    /// The program's socket and its profile.
    pub(crate) fn program(&mut self) -> Result<(OwnedFd, Profile), Error> {
        let wrong = || Error::Wrong("it is started by the server only".to_owned());
        let mut byte = [0_u8; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(
            self.socket.as_fd(),
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            flags,
        )
        .map_err(|_| wrong())?;
        let mut socket = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                socket = fds.next();
            }
        }
        let profile = self.line()?.ok_or_else(wrong)?;
        Ok((socket.ok_or_else(wrong)?, profile))
    }

    /// The next line; `None` where the worker has gone.
    pub(crate) fn line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let end = loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            let mut chunk = [0_u8; 16 << 10];
            let count = self
                .socket
                .read(&mut chunk)
                .during(|| "listening to the worker".to_owned())?;
            if count == 0 {
                return Ok(None);
            }
            self.received.extend_from_slice(&chunk[..count]);
            if self.received.len() > MAX_LINE {
                return Err(Error::Wrong("the worker's order is too long".to_owned()));
            }
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| Error::Wrong(format!("the worker's order: {error}")))
    }
}

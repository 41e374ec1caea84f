//! Streams of bundles.

use std::sync::Arc;

use alyx_cluster::bundle::{is_hash, pack};
use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::BundleChunk;
use alyx_rpc::to_status;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;

use super::{QUEUE, Replies};
use crate::cluster::ClusterControl;

/// Sends the files of a bundle, as fast as they are taken.
pub(super) fn begin(control: &Arc<ClusterControl>, hash: &str) -> Result<Replies<BundleChunk>> {
    control.term()?;
    let root = control.bundles().join(hash);
    if !is_hash(hash) || !root.is_dir() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "BUNDLE_NOT_FOUND",
            "there is no function bundle with that hash; it was replaced by a newer one",
        ));
    }
    let (replies, stream) = mpsc::channel(QUEUE);
    let (failed, stopping) = (replies.clone(), control.stopping());
    control.streams().spawn_detached(async move {
        let packing = spawn_blocking(move || {
            pack(&root, |chunk| {
                !stopping.is_cancelled() && replies.blocking_send(Ok(chunk)).is_ok()
            })
        });
        let error = match packing.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(error) => Error::internal(error),
        };
        // A worker that has gone already hears nothing.
        let _ = failed.send(Err(to_status(&error))).await;
    });
    Ok(ReceiverStream::new(stream))
}

//! Writes to the holder of the lease by gRPC.

use std::sync::Arc;

use alyx_core::Result;
use alyx_proto::writer::writer_client::WriterClient;
use alyx_rpc::{Call, Channel, MAX_MESSAGE_BYTES, Security, connect, from_status};
use async_trait::async_trait;
use parking_lot::Mutex;

use super::WriteForwarder;
use super::convert::{reply_from_wire, write_to_wire};
use crate::remote::WriteId;
use crate::{Write, WriteReply};

/// Forwards to whoever holds the lease; keeps the connection to the last one.
pub struct GrpcForwarder {
    security: Security,
    known: Mutex<Option<(String, WriterClient<Channel>)>>,
}

impl GrpcForwarder {
    /// A forwarder that proves who this node is.
    pub fn new(security: Security) -> Self {
        Self {
            security,
            known: Mutex::new(None),
        }
    }

    fn client(&self, address: &str) -> Result<WriterClient<Channel>> {
        let mut known = self.known.lock();
        if let Some((found, client)) = known.as_ref()
            && found == address
        {
            return Ok(client.clone());
        }
        let client = WriterClient::new(connect(address, &self.security)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        *known = Some((address.to_owned(), client.clone()));
        Ok(client)
    }
}

#[async_trait]
impl WriteForwarder for GrpcForwarder {
    async fn forward(&self, address: &str, write: Write, id: WriteId) -> Result<WriteReply> {
        let mut client = self.client(address)?;
        let call = Call {
            deadline: Some(write.deadline),
            ..Call::default()
        };
        let request = call.request(write_to_wire(write, &id));
        let reply = client.write(request).await.map_err(from_status)?;
        Ok(reply_from_wire(reply.into_inner()))
    }
}

impl std::fmt::Debug for GrpcForwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrpcForwarder")
    }
}

impl From<GrpcForwarder> for Arc<dyn WriteForwarder> {
    fn from(forwarder: GrpcForwarder) -> Self {
        Arc::new(forwarder)
    }
}

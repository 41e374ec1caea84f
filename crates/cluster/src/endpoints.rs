//! Which control plane to talk to: one after another until one answers, and the one that leads as soon as it is named.

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::control_client::ControlClient;
use alyx_rpc::{Channel, MAX_MESSAGE_BYTES, Security, connect};
use parking_lot::Mutex;

/// Code of the error by which a control plane that does not lead sends a caller on; its `field` is the leader's
/// `host:port`, where that is known.
pub(crate) const NOT_LEADER: &str = "NOT_LEADER";

/// A client of one control plane.
pub(crate) type Client = ControlClient<Channel>;

/// The control planes of a cluster.
pub(crate) struct Endpoints {
    security: Security,
    listed: Vec<Endpoint>,
    choice: Mutex<Choice>,
}

#[derive(Clone)]
struct Endpoint {
    address: String,
    channel: Channel,
}

struct Choice {
    /// Counts failures, so that of several callers who saw the same one only the first moves on.
    turn: u64,
    listed: usize,
    /// The leader, as one that does not lead has named it.
    leader: Option<Endpoint>,
}

/// A client and the turn at which it was chosen.
#[derive(Clone)]
pub(crate) struct Chosen {
    pub(crate) client: Client,
    pub(crate) address: String,
    turn: u64,
}

impl Endpoints {
    /// # Errors
    /// `CLUSTER_ADDRESS_INVALID`, `CONTROL_PLANE_UNKNOWN` where there is no address.
    pub(crate) fn new(addresses: &[String], security: Security) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "CONTROL_PLANE_UNKNOWN",
                "no control plane is known; set `cluster.control_plane` to the `host:port` of each",
            ));
        }
        let listed = addresses
            .iter()
            .map(|address| Endpoint::new(address, &security))
            .collect::<Result<_>>()?;
        Ok(Self {
            security,
            listed,
            choice: Mutex::new(Choice {
                turn: 0,
                listed: 0,
                leader: None,
            }),
        })
    }

    /// The one to talk to now.
    pub(crate) fn choose(&self) -> Chosen {
        let choice = self.choice.lock();
        let endpoint = choice.leader.as_ref().unwrap_or(&self.listed[choice.listed]);
        Chosen {
            client: ControlClient::new(endpoint.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            address: endpoint.address.clone(),
            turn: choice.turn,
        }
    }

    /// That one did not answer, or does not lead. Returns whether another one is known to, so that there is nothing to
    /// wait for. One that was itself named by another is waited out, so that two that name each other are not asked in
    /// a circle.
    pub(crate) fn failed(&self, chosen: &Chosen, error: &Error) -> bool {
        let mut choice = self.choice.lock();
        if choice.turn != chosen.turn {
            return false;
        }
        choice.turn += 1;
        let named = (error.code() == NOT_LEADER)
            .then(|| error.field())
            .flatten()
            .filter(|address| *address != chosen.address)
            .and_then(|address| Endpoint::new(address, &self.security).ok());
        let known = named.is_some();
        let was_named = std::mem::replace(&mut choice.leader, named).is_some();
        if !known {
            choice.listed = (choice.listed + 1) % self.listed.len();
        }
        known && !was_named
    }
}

impl Endpoint {
    fn new(address: &str, security: &Security) -> Result<Self> {
        Ok(Self {
            address: address.to_owned(),
            channel: connect(address, security)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(addresses: &[&str]) -> Result<Endpoints> {
        let security = Security::new(Some("0123456789abcdef0123456789abcdef"), None).expect("a token");
        let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        Endpoints::new(&addresses, security)
    }

    fn not_leader(leader: Option<&str>) -> Error {
        let error = Error::new(ErrorKind::Unavailable, NOT_LEADER, "not me");
        match leader {
            Some(leader) => error.with_field(leader),
            None => error,
        }
    }

    #[tokio::test]
    async fn the_next_one_is_tried_and_a_named_leader_first() {
        let endpoints = endpoints(&["a:1", "b:1"]).expect("addresses");
        let gone = Error::new(ErrorKind::Unavailable, "PEER_UNAVAILABLE", "gone");
        let fail = |error: &Error, known: bool, next: &str| {
            let chosen = endpoints.choose();
            assert_eq!(endpoints.failed(&chosen, error), known, "{}", chosen.address);
            assert_eq!(endpoints.choose().address, next);
        };
        fail(&gone, false, "b:1");
        fail(&gone, false, "a:1");
        fail(&not_leader(Some("c:1")), true, "c:1");
        fail(&gone, false, "b:1");
        fail(&not_leader(Some("c:1")), true, "c:1");
        fail(&not_leader(Some("d:1")), false, "d:1");
        fail(&gone, false, "a:1");
        fail(&gone, false, "b:1");
        fail(&not_leader(None), false, "a:1");
        fail(&not_leader(Some("a:1")), false, "b:1");
        fail(&not_leader(Some("no address")), false, "a:1");
    }

    #[tokio::test]
    async fn one_failure_seen_twice_moves_on_once() {
        let endpoints = endpoints(&["a:1", "b:1", "c:1"]).expect("addresses");
        let gone = Error::new(ErrorKind::Unavailable, "PEER_UNAVAILABLE", "gone");
        let (first, second) = (endpoints.choose(), endpoints.choose());
        endpoints.failed(&first, &gone);
        endpoints.failed(&second, &gone);
        assert_eq!(endpoints.choose().address, "b:1");
    }

    #[tokio::test]
    async fn without_an_address_there_is_nothing_to_follow() {
        let error = endpoints(&[]).err().expect("refused");
        assert_eq!(error.code(), "CONTROL_PLANE_UNKNOWN");
        let error = endpoints(&["http://a:1"]).err().expect("refused");
        assert_eq!(error.code(), "CLUSTER_ADDRESS_INVALID");
    }
}

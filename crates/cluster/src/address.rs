//! Where others reach this process, and what it is called.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use alyx_core::new_uuid_v7;
use alyx_service::cluster::Role;

/// The `host:port` at which others reach this process: what the configuration says, else the address that it listens
/// on. One that listens on every interface is known by the interface that leads to `peers` (`host:port`), and where
/// none does, by its host name.
pub fn advertised(configured: Option<&str>, listening: SocketAddr, peers: &[String]) -> String {
    if let Some(address) = configured {
        return address.to_owned();
    }
    if !listening.ip().is_unspecified() {
        return listening.to_string();
    }
    let port = listening.port();
    match peers.iter().find_map(|peer| way_to(peer)) {
        Some(address) => SocketAddr::new(address, port).to_string(),
        None => format!("{}:{port}", host_name()),
    }
}

/// What this process is called over restarts: what the configuration says, else its role and host.
pub fn node_name(configured: Option<&str>, role: Role) -> String {
    match configured {
        Some(name) => name.to_owned(),
        None => format!("{}-{}", role.name(), host_name()),
    }
}

/// A fresh id for the process of that name: the name and a random part, so that a process that was started again is
/// another node.
pub fn new_node_id(name: &str) -> String {
    let uuid = new_uuid_v7();
    format!("{name}-{}", &uuid[uuid.len() - 8..])
}

/// The own address on the way to `peer`. Connecting a UDP socket sends nothing. May look a name up, so it is for
/// start-up only.
fn way_to(peer: &str) -> Option<IpAddr> {
    let peer = peer.to_socket_addrs().ok()?.next()?;
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then_some(own)
}

fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_ascii_lowercase();
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if plain.is_empty() {
        "localhost".to_owned()
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_address_wins_then_a_real_one_then_the_way_to_a_peer() {
        let check = |configured: Option<&str>, listening: &str, peers: &[&str], expected: &str| {
            let peers: Vec<String> = peers.iter().map(|peer| (*peer).to_owned()).collect();
            let listening = listening.parse().expect("an address");
            assert_eq!(
                advertised(configured, listening, &peers),
                expected,
                "{listening} {peers:?}"
            );
        };
        check(Some("a:1"), "127.0.0.1:2", &[], "a:1");
        check(None, "127.0.0.1:2", &["10.0.0.1:1"], "127.0.0.1:2");
        check(None, "0.0.0.0:2", &["127.0.0.1:1"], "127.0.0.1:2");
        check(None, "0.0.0.0:2", &["nonsense", "127.0.0.1:1"], "127.0.0.1:2");
        check(None, "0.0.0.0:2", &[], &format!("{}:2", host_name()));
    }

    #[test]
    fn no_two_starts_have_the_same_id_and_all_have_the_same_name() {
        let name = node_name(None, Role::Gateway);
        assert_eq!(name, node_name(None, Role::Gateway));
        assert!(name.starts_with("gateway-"), "{name}");
        assert_ne!(new_node_id(&name), new_node_id(&name));
        assert_eq!(node_name(Some("g1"), Role::Gateway), "g1");
        assert!(new_node_id("g1").starts_with("g1-"));
    }
}

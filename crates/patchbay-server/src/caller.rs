//! Who asks.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// The caller of a request: whose tensors it may name, and with whom it takes turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    owner: Arc<str>,
    turns: Arc<str>,
}

/// Bits of an IPv6 address that a network gives one host or household: it may choose the others at will.
const IPV6_NET: u32 = 64;

impl Caller {
    /// The command line, and whoever asks a server that does not know from where.
    pub fn local() -> Self {
        Self { owner: LOCAL.into(), turns: LOCAL.into() }
    }

    /// Whoever asks from this address. There are no keys, so the tensors are everybody's, but each address has turns of its own.
    pub fn at(peer: IpAddr) -> Self {
        let turns = match peer.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let net = address.to_bits() >> (128 - IPV6_NET) << (128 - IPV6_NET);
                format!("{}/{IPV6_NET}", Ipv6Addr::from_bits(net))
            }
            address => address.to_string(),
        };
        Self { turns: turns.into(), ..Self::local() }
    }

    /// The name under which its tensors are kept.
    pub(crate) fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// The name under which it takes turns with others.
    pub(crate) fn turns(&self) -> Arc<str> {
        Arc::clone(&self.turns)
    }
}

/// Everybody, where there are no keys.
const LOCAL: &str = "local";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_one_hosts_are_one_caller() {
        let at = |address: &str| Caller::at(address.parse().unwrap());
        for (a, b, same) in [
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("::1", "::2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            assert_eq!(at(a) == at(b), same, "{a} and {b}");
            assert_eq!(at(a).owner(), at(b).owner());
        }
    }
}

//! The addresses that the server may listen at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// Opens the socket. Without keys anyone who can reach the server can use it, so that it answers this machine alone.
pub(crate) async fn listen(host: &str, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(loopback(host)?, port);
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; something else listens there: take another --port, or 0 for a free one",
            _ => "",
        };
        anyhow::anyhow!("cannot listen at {address}: {error}{hint}")
    })
}

fn loopback(host: &str) -> anyhow::Result<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = match bare {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        bare => {
            bare.parse().map_err(|_| anyhow::anyhow!("--host takes an IP address or `localhost`, found `{host}`"))?
        }
    };
    if !address.is_loopback() {
        anyhow::bail!(
            "--host {host} is refused: no keys are configured, so that anyone who reaches {host} could use this server. \
             Without keys it listens at 127.0.0.1, ::1 or localhost; from another machine, take a tunnel: \
             ssh -L 8420:localhost:8420 THIS_MACHINE"
        );
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_at() {
        for host in ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"] {
            assert!(loopback(host).unwrap().is_loopback(), "{host}");
        }
        for host in ["0.0.0.0", "::", "192.168.1.2", "8.8.8.8"] {
            assert!(loopback(host).unwrap_err().to_string().contains("no keys"), "{host}");
        }
        assert!(loopback("lab-box").unwrap_err().to_string().contains("IP address"));
    }
}

//! Who may use a server that asks for no keys.
//!
//! Such a server listens at loopback only, but a web browser on this machine carries out what pages of other sites say.
//! A page can name a host of its own that resolves to 127.0.0.1 (DNS rebinding), and then read what it gets; the `Host`
//! header gives it away. And a page can send a write without reading the answer; the `Origin` header gives that away.
//! A browser lets no page choose either header.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Failure;

/// Refuses requests that a page of another site made this machine's browser send.
pub(super) async fn only_this_machine(request: Request, next: Next) -> Response {
    match check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let named = uri.authority().map(Authority::as_str).map(Some);
    let named = named.into_iter().chain(headers.get_all(HOST).iter().map(text));
    for host in named {
        if !host.is_some_and(is_this_machine) {
            let detail = format!("the request is for the host `{}`, not for this machine", host.unwrap_or_default());
            return Err(Failure::new(403, "foreign_host", detail).hint(
                "without keys the server answers to localhost, 127.0.0.1 and [::1] alone, so that no web page can reach \
                 it under a name of its own; ask for one of these, or have the proxy send it as `Host`",
            ));
        }
    }
    if method.is_safe() {
        return Ok(());
    }
    for origin in headers.get_all(ORIGIN).iter().map(text) {
        // `null`, as pages without an address send it, is no address of this machine either
        let host = origin.and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        if !host.is_some_and(is_this_machine) {
            let detail = format!("{method} is refused to a page of `{}`", origin.unwrap_or_default());
            return Err(Failure::new(403, "foreign_origin", detail)
                .hint("without keys only pages that this machine serves may change something here"));
        }
    }
    Ok(())
}

fn text(header: &HeaderValue) -> Option<&str> {
    header.to_str().ok()
}

/// Whether `host[:port]` can only mean this machine, whatever a name server says.
fn is_this_machine(authority: &str) -> bool {
    let Some(authority) = authority.parse::<Authority>().ok().filter(|_| !authority.contains('@')) else {
        return false;
    };
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // RFC 6761, section 6.3
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(method: Method, uri: &str, headers: &[(axum::http::HeaderName, &str)]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        check(&method, &uri.parse().unwrap(), &headers).err().map(|failure| failure.code)
    }

    #[test]
    fn names_that_can_only_mean_this_machine() {
        for host in ["localhost", "LocalHost:8420", "localhost.", "lab.localhost:1", "127.0.0.1:8420", "127.9.9.9"] {
            assert_eq!(code(Method::GET, "/", &[(HOST, host)]), None, "{host}");
        }
        for host in ["[::1]:8420", "[::1]", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(code(Method::POST, "/", &[(HOST, host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:8420",
            "notlocalhost",
            "0.0.0.0:8420",
            "192.168.1.4",
            "[::]",
            "[2001:db8::1]:8420",
            "evil.example@localhost",
            "2130706433",
            "",
            "a b",
        ] {
            assert_eq!(code(Method::GET, "/", &[(HOST, host)]).as_deref(), Some("foreign_host"), "{host}");
        }
    }

    #[test]
    fn every_place_that_names_a_host_counts() {
        assert_eq!(code(Method::GET, "/", &[]), None, "no browser leaves it out");
        assert_eq!(code(Method::GET, "http://evil.example/", &[(HOST, "localhost")]).as_deref(), Some("foreign_host"));
        assert_eq!(code(Method::GET, "http://localhost/", &[(HOST, "evil.example")]).as_deref(), Some("foreign_host"));
        let mut headers = HeaderMap::new();
        for host in ["localhost", "evil.example"] {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        assert!(check(&Method::GET, &Uri::from_static("/"), &headers).is_err());
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let here = (HOST, "localhost:8420");
        for origin in ["http://localhost:8420", "http://127.0.0.1:3000", "https://[::1]", "http://lab.localhost"] {
            assert_eq!(code(Method::DELETE, "/", &[here.clone(), (ORIGIN, origin)]), None, "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "", "localhost", "file://"] {
            for method in [Method::POST, Method::PUT, Method::DELETE] {
                let found = code(method, "/", &[here.clone(), (ORIGIN, origin)]);
                assert_eq!(found.as_deref(), Some("foreign_origin"), "{origin}");
            }
            // it cannot read the answer
            assert_eq!(code(Method::GET, "/", &[here.clone(), (ORIGIN, origin)]), None, "{origin}");
        }
    }
}

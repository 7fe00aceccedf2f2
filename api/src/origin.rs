//! What keeps the pages of a browser on this machine away from the servers, as long as there is no authentication: a
//! page of another site may not write (`Origin`), and a foreign name that resolves to this machine reaches nothing
//! (`Host`).

use crate::problem::Problem;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::net::{Ipv4Addr, Ipv6Addr};

/// 403 unless the request comes from this machine as far as its headers tell. Programs send no `Origin`.
pub(crate) fn check(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(host) = headers.get_all(HOST).iter().find(|value| !is_local(value.as_bytes())) {
        return Err(refused(
            &HOST,
            host,
            "address the server as 127.0.0.1, localhost or [::1], or have the proxy in front of it set that Host",
        ));
    }
    if method.is_safe() {
        return Ok(());
    }
    let foreign = |value: &&HeaderValue| !origin_host(value.as_bytes()).is_some_and(is_local);
    match headers.get_all(ORIGIN).iter().find(foreign) {
        None => Ok(()),
        Some(origin) => Err(refused(
            &ORIGIN,
            origin,
            "pages of other sites may not write before there is authentication: serve the page from localhost, or send \
             the request from a program without Origin",
        )),
    }
}

fn refused(name: &HeaderName, value: &HeaderValue, remedy: &str) -> Problem {
    let shown: String = String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect();
    Problem::new(
        StatusCode::FORBIDDEN,
        "origin-refused",
        "Origin refused",
        format!("header {name} is {shown:?}, which is not this machine: {remedy}"),
    )
    .with("header", name.as_str())
}

/// Host and port of an origin, which is `scheme://host:port` or `null`.
fn origin_host(origin: &[u8]) -> Option<&[u8]> {
    let begin = origin.windows(3).position(|three| three == b"://")? + 3;
    origin.get(begin..)
}

/// Whether `host` or `host:port` names this machine.
fn is_local(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    if let Some(rest) = host.strip_prefix('[') {
        let parts = rest.split_once(']').filter(|(_, port)| is_port(port));
        let address = parts.and_then(|(address, _)| address.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|address| address.to_canonical().is_loopback());
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let local =
        name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    local && is_port(port)
}

fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => text.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for local in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.0.0.2:8080",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_local(local.as_bytes()), "{local}");
        }
        for foreign in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "127.0.0.1:8080.example.org",
            "[::1].example.org",
            "::1",
            "10.0.0.1",
            "localhost@example.org",
        ] {
            assert!(!is_local(foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn an_origin_without_a_host_is_not_of_this_machine() {
        let foreign = |origin: &str| !origin_host(origin.as_bytes()).is_some_and(is_local);
        assert!(foreign("null") && foreign("") && foreign("file://") && foreign("http://example.org"));
        assert!(!foreign("http://localhost:3000") && !foreign("http://[::1]"));
    }
}

//! What a server says when it is ready: where it listens, and lines to paste.

use crate::backend::Backend;
use crate::follow::About;
use crate::node::Node;
use annals_core::EventLog;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Says it on stderr.
pub(crate) fn say(backend: &Backend, node: &Node, command_url: &str, query_url: Option<&str>) {
    let log = node.store.log();
    let mut text = format!(
        "annals {}: log {:?} of domain {:?} in {}, {} events\n  command API  {command_url}\n",
        env!("CARGO_PKG_VERSION"),
        log.name(),
        backend.name(),
        node.store.dir().path().display(),
        log.head(),
    );
    if let Some(query_url) = query_url {
        let _ = writeln!(text, "  query API    {query_url}");
    }
    text.push_str("To try:\n");
    for line in curl_lines(backend, command_url, query_url) {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("Ctrl-C stops it.\n");
    // Nobody is left to be told when stderr is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Says on stderr what a query node follows and where it listens.
pub(crate) fn say_query(backend: &Backend, log: &About, command_url: &str, dir: &Path, query_url: &str) {
    let mut text = format!(
        "annals {}: query node of the log {:?} of domain {:?} at {command_url}, views in {}\n  query API    {query_url}\n",
        env!("CARGO_PKG_VERSION"),
        log.name,
        backend.name(),
        dir.display(),
    );
    if let Some(view) = backend.views().first() {
        let _ = writeln!(text, "To try:\n  curl '{query_url}/v1/views/{}?limit=3'", view.name());
    }
    text.push_str("Ctrl-C stops it.\n");
    // Nobody is left to be told when stderr is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn curl_lines(backend: &Backend, command_url: &str, query_url: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(
        backend
            .sample_lines()
            .and_then(|sample| command(&sample(1).next()?, command_url)),
    );
    lines.push(format!("curl '{command_url}/v1/events?limit=3'"));
    if let (Some(url), Some(view)) = (query_url, backend.views().first()) {
        lines.push(format!("curl '{url}/v1/views/{}?limit=3'", view.name()));
    }
    lines
}

/// A sample line as the request that does the same.
fn command(line: &str, url: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| line.get(field).and_then(Value::as_str);
    let (aggregate, id, command) = (text("aggregate")?, text("id")?, text("command")?);
    let data = line.get("data")?.to_string().replace('\'', r"'\''");
    Some(format!(
        "curl {url}/v1/commands/{aggregate}/{id}/{command} -H 'content-type: application/json' -d '{data}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_line_becomes_a_request_that_a_shell_takes() {
        let line = r#"{"aggregate":"users","id":"ann","command":"register","data":{"name":"O'Hara"},"key":"k"}"#;
        assert_eq!(
            command(line, "http://127.0.0.1:8080").unwrap(),
            "curl http://127.0.0.1:8080/v1/commands/users/ann/register -H 'content-type: application/json' \
             -d '{\"name\":\"O'\\''Hara\"}'"
        );
    }
}

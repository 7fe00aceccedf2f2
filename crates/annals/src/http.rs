//! A small blocking HTTP client for the command line: requests to a running server, and its problems as errors.

use annals_core::Position;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, Response};

/// Longest answer that is read at once, bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// An answer of any status.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header's value as a text; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is the problem of this name.
    pub(crate) fn is_problem(&self, name: &str) -> bool {
        let problem = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        problem["type"] == format!("urn:annals:problem:{name}").as_str()
    }

    /// The position that a problem names.
    pub(crate) fn position(&self) -> Option<Position> {
        let problem = serde_json::from_slice::<Value>(&self.body).ok()?;
        problem["position"].as_str()?.parse().map(Position::new).ok()
    }

    /// What went wrong, as the server says it.
    pub(crate) fn problem(&self) -> String {
        let said = serde_json::from_slice::<Value>(&self.body).ok();
        let detail = said.as_ref().and_then(problem_detail);
        format!("{}: {}", self.status, detail.as_deref().unwrap_or("no reason given"))
    }
}

/// A server at one URL.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    agent: Agent,
    url: String,
}

impl Server {
    /// The server at this URL; nothing is sent yet.
    pub(crate) fn at(url: &str) -> Result<Self> {
        if url.starts_with("https://") {
            bail!("{url}: this binary speaks http only; servers listen on loopback, use http://127.0.0.1:PORT");
        }
        if !url.starts_with("http://") {
            bail!("{url} is no URL: write it as http://127.0.0.1:8080");
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            // A redirect would lead away from the server that was named.
            .max_redirects(0)
            .build();
        Ok(Self {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// Its URL, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The JSON at a path.
    pub(crate) fn json(&self, path: &str) -> Result<Value> {
        let response = self.get(path, "application/json")?;
        parse(&self.url, path, &body(response)?)
    }

    /// The text at a path.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        let bytes = body(self.get(path, "text/plain")?)?;
        String::from_utf8(bytes).with_context(|| format!("{}{path} did not answer with a text", self.url))
    }

    /// Whatever is answered at a path within a time, whatever its status.
    pub(crate) fn ask(&self, path: &str, time_max: Duration) -> Result<Reply> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let answer = request.config().timeout_global(Some(time_max)).build().call();
        let response = answer.with_context(|| format!("no answer from {}: is the server running?", self.url))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = body(response)?;
        Ok(Reply { status, headers, body })
    }

    /// Posts a CloudEvent with further headers; whatever is answered within a time, whatever its status.
    pub(crate) fn tell(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        event: &[u8],
        time_max: Duration,
    ) -> Result<Reply, ureq::Error> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/cloudevents+json");
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        let answer = request.config().timeout_global(Some(time_max)).build().send(event)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.into_body().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Reply { status, headers, body })
    }

    /// Posts without a body; the answer's JSON, null if it has none.
    pub(crate) fn post(&self, path: &str) -> Result<Value> {
        let answer = self.agent.post(format!("{}{path}", self.url)).send_empty();
        let bytes = body(self.checked(path, answer)?)?;
        if bytes.is_empty() {
            Ok(Value::Null)
        } else {
            parse(&self.url, path, &bytes)
        }
    }

    /// Posts lines of JSON, on behalf of somebody if it is said of whom; the answer's bytes.
    pub(crate) fn post_lines(&self, path: &str, actor: Option<&str>, content: &[u8]) -> Result<Vec<u8>> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-ndjson");
        if let Some(actor) = actor {
            request = request.header("annals-actor", actor);
        }
        body(self.checked(path, request.send(content))?)
    }

    /// Posts JSON on behalf of somebody; the answer's JSON.
    pub(crate) fn post_as(&self, path: &str, actor: &str, content: &[u8]) -> Result<Value> {
        let request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .header("annals-actor", actor);
        parse(&self.url, path, &body(self.checked(path, request.send(content))?)?)
    }

    /// Posts without a body; the answer as it comes, however long it is.
    pub(crate) fn post_stream(&self, path: &str) -> Result<impl std::io::Read + use<>> {
        let answer = self.agent.post(format!("{}{path}", self.url)).send_empty();
        Ok(self.checked(path, answer)?.into_body().into_reader())
    }

    fn get(&self, path: &str, accept: &str) -> Result<Response<ureq::Body>> {
        let answer = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("accept", accept)
            .call();
        self.checked(path, answer)
    }

    fn checked(&self, path: &str, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Response<ureq::Body>> {
        let response = answer.with_context(|| format!("no answer from {}: is the server running?", self.url))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = body(response)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let detail = said
            .as_ref()
            .and_then(problem_detail)
            .unwrap_or_else(|| "no reason given".to_owned());
        Err(anyhow!("{}{path} answered {status}: {detail}", self.url))
    }
}

/// A text as one part of a path: all that could mean something else there is percent-encoded.
pub(crate) fn path_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            part.push(char::from(byte));
        } else {
            // A text takes whatever is written to it.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    part
}

/// What a problem (RFC 9457) says: its detail, else its title.
pub(crate) fn problem_detail(problem: &Value) -> Option<String> {
    let field = |name: &str| problem.get(name).and_then(Value::as_str);
    field("detail").or_else(|| field("title")).map(str::to_owned)
}

/// A position, which the API gives as a text because JSON has no 64-bit integers.
pub(crate) fn position(value: &Value, field: &str) -> Option<u64> {
    let value = value.get(field)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn body(response: Response<ureq::Body>) -> Result<Vec<u8>> {
    let mut body = response.into_body();
    body.with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()
        .context("the answer was cut short")
}

fn parse(url: &str, path: &str, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes)
        .with_context(|| format!("{url}{path} did not answer with JSON: is it an Annals server?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_event_id_is_one_part_of_a_path() {
        assert_eq!(path_part("0190a5c4-7d2e_~."), "0190a5c4-7d2e_~.");
        assert_eq!(path_part("a/b?c#d e%é"), "a%2Fb%3Fc%23d%20e%25%C3%A9");
    }
}

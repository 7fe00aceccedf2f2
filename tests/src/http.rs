//! A small HTTP client: answers of any status, and requests that no decent client would send. Knows paths no better
//! than its caller.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request};

const ANSWER_BYTES_MAX: u64 = 256 << 20;
const TIME_MAX: Duration = Duration::from_secs(60);

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// This answer, if it has that status.
    ///
    /// # Errors
    ///
    /// When it has another one; the message has the body.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.status == status,
            "status {}, not {status}: {}",
            self.status,
            self.text()
        );
        Ok(self)
    }

    /// Checks that this is a problem of that status and name with all fields of the contract; returns its detail.
    ///
    /// # Errors
    ///
    /// When something of it is not as it should be.
    pub fn problem(&self, status: u16, name: &str) -> Result<String> {
        let shown = || format!("{} {}", self.status, self.text());
        ensure!(self.status == status, "expected {status} {name}, got {}", shown());
        ensure!(
            self.header("content-type") == "application/problem+json",
            "no problem: {}",
            shown()
        );
        let problem = self.json()?;
        ensure!(
            problem["type"] == format!("urn:annals:problem:{name}"),
            "expected {name}, got {}",
            shown()
        );
        ensure!(problem["status"] == status, "another status in the body: {}", shown());
        for field in ["title", "detail", "instance"] {
            let filled = problem[field].as_str().is_some_and(|text| !text.is_empty());
            ensure!(filled, "no {field}: {}", shown());
        }
        Ok(problem["detail"].as_str().unwrap_or_default().to_owned())
    }
}

/// A client of one server; keeps its connections.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    url: String,
}

impl Client {
    /// A client of the server at this URL.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(TIME_MAX))
            .build();
        Self {
            agent: config.into(),
            url: url.to_owned(),
        }
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:8080` of `http://127.0.0.1:8080`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Any request.
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_bytes(value.as_bytes())?,
            );
        }
        let response = match body {
            Some(body) => self.agent.run(request.body(body)?),
            None => self.agent.run(request.body(())?),
        };
        let (head, mut body) = response.with_context(|| format!("{method} {path}"))?.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.with_context(|| format!("the answer to {method} {path} was cut short"))?,
        })
    }

    /// A GET.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], None)
    }

    /// The JSON at a path.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], and when the status is not 200 or the body no JSON.
    pub fn json(&self, path: &str) -> Result<Value> {
        self.get(path)?.expect(200).with_context(|| path.to_owned())?.json()
    }

    /// A POST of JSON, with further headers.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Answer> {
        let headers: Vec<_> = [("content-type", "application/json")]
            .iter()
            .chain(headers)
            .copied()
            .collect();
        self.send("POST", path, &headers, Some(body.to_string().as_bytes()))
    }

    /// Sends bytes as they are over a connection of their own, and reads one answer.
    ///
    /// # Errors
    ///
    /// When no answer comes, or one that is not HTTP.
    pub fn raw(&self, request: &[u8]) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        // A server that has seen enough may answer and close before everything is sent.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let read = match stream.read(&mut piece) {
                Ok(read) => read,
                Err(_) if !bytes.is_empty() => 0,
                Err(error) => return Err(error).context("no answer"),
            };
            bytes.extend_from_slice(&piece[..read]);
            if read == 0 || is_whole(&bytes) {
                return parse(&bytes);
            }
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Whether head and the declared length of the body are there.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = head_end(bytes) else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length
        .and_then(|length| length.trim().parse::<usize>().ok())
        .is_some_and(|length| bytes.len() >= end + length)
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let shown = || {
        format!(
            "no HTTP answer: {:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(300)])
        )
    };
    let end = head_end(bytes).with_context(shown)?;
    let head = std::str::from_utf8(&bytes[..end]).with_context(shown)?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(value.trim())?,
        );
    }
    Ok(Answer {
        status: status.with_context(shown)?,
        headers,
        body: bytes[end..].to_vec(),
    })
}

//! A body cut into lines, each bounded.

use super::line::LINE_LEN_MAX;
use axum::body::{Body, BodyDataStream};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use std::time::Duration;

/// How long the caller may pause between two pieces of the body.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// One line of the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The line without its end.
    Text(Bytes),
    /// It was longer than a line may be, and is gone.
    TooLong,
}

/// The body ended before its end, or paused for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BrokenOff;

/// Reads lines, blank ones too. What follows the last line end is a line if there is anything of it.
pub(super) struct Lines {
    body: BodyDataStream,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    /// Whether the rest of a line that is too long is being thrown away.
    discarding: bool,
    ended: bool,
    number: u64,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body: body.into_data_stream(),
            buffer: BytesMut::new(),
            searched: 0,
            discarding: false,
            ended: false,
            number: 0,
        }
    }

    /// Number of the line that was returned last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line with its number from 1; `None` at the end. May be dropped while it waits: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Line)>, BrokenOff> {
        loop {
            if let Some(line) = self.buffered() {
                self.number += 1;
                return Ok(Some((self.number, line)));
            }
            if self.ended {
                return Ok(None);
            }
            match tokio::time::timeout(PAUSE_MAX, self.body.next()).await {
                Ok(Some(Ok(data))) => self.buffer.extend_from_slice(&data),
                Ok(None) => self.ended = true,
                Ok(Some(Err(_))) | Err(_) => return Err(BrokenOff),
            }
        }
    }

    /// A whole line of the buffer.
    fn buffered(&mut self) -> Option<Line> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|at| at + self.searched) else {
            return self.without_end();
        };
        self.searched = 0;
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        if std::mem::take(&mut self.discarding) || line.len() > LINE_LEN_MAX {
            return Some(Line::TooLong);
        }
        Some(Line::Text(line))
    }

    fn without_end(&mut self) -> Option<Line> {
        if self.ended {
            let rest = self.buffer.split().freeze();
            self.searched = 0;
            if std::mem::take(&mut self.discarding) || rest.len() > LINE_LEN_MAX {
                return Some(Line::TooLong);
            }
            return (!rest.is_empty()).then_some(Line::Text(rest));
        }
        if self.discarding || self.buffer.len() > LINE_LEN_MAX {
            self.discarding = true;
            self.buffer.clear();
        }
        self.searched = self.buffer.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    async fn lines(parts: Vec<Vec<u8>>) -> Vec<(u64, Line)> {
        let parts = stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>));
        let mut lines = Lines::new(Body::from_stream(parts));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    fn text(number: u64, text: &str) -> (u64, Line) {
        (number, Line::Text(text.to_owned().into()))
    }

    #[tokio::test]
    async fn a_body_is_cut_at_line_ends_wherever_its_pieces_end() {
        let whole = b"one\n\ntwo\r\nthree\n".to_vec();
        let expected = vec![text(1, "one"), text(2, ""), text(3, "two\r"), text(4, "three")];
        for size in 1..whole.len() {
            let parts = whole.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(lines(parts).await, expected, "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_thrown_away_and_the_rest_goes_on() {
        let mut whole = b"one\n".to_vec();
        whole.extend(std::iter::repeat_n(b'x', LINE_LEN_MAX + 1));
        whole.extend_from_slice(b"\nthree\n");
        whole.extend(std::iter::repeat_n(b'x', LINE_LEN_MAX));
        let parts = whole.chunks(100_000).map(<[u8]>::to_vec).collect();
        let found = lines(parts).await;
        assert_eq!(found[..3], [text(1, "one"), (2, Line::TooLong), text(3, "three")]);
        assert!(matches!(&found[3], (4, Line::Text(line)) if line.len() == LINE_LEN_MAX));
    }
}

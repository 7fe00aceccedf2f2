//! The lines under way: how many at a time, begun and answered in the order of the lines.

use super::line::{answer, broken_off, failed, read, too_long};
use super::lines::{BrokenOff, Line, Lines};
use crate::problem::Problem;
use annals_commands::{CommandRequest, Commands};
use annals_core::Metadata;
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::task::Poll;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Most lines under way.
const LINES_MAX: usize = 256;
/// Most bytes of lines under way; a single line may be that long by itself.
const BYTES_MAX: usize = 1024 * 1024;
/// About how many bytes of answers are sent at once.
const ANSWERS_LEN: usize = 16 * 1024;

/// `category/id` as the line says it; not checked yet.
type StreamName = String;

/// One line under way.
struct UnderWay {
    number: u64,
    len: usize,
    stream: Option<StreamName>,
    answer: Answer,
}

enum Answer {
    Ready(Bytes),
    /// In a task of its own, because it holds its stream while it works: a caller that stops reading its answers must
    /// not keep others waiting.
    Working(JoinHandle<Bytes>),
}

pub(super) struct Window {
    commands: Commands,
    metadata: Metadata,
    lines: Lines,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    /// For each stream the last of its lines under way, and what is dropped when that is done.
    last: HashMap<StreamName, (u64, oneshot::Receiver<()>)>,
    ended: bool,
}

impl Window {
    pub(super) fn new(commands: Commands, metadata: Metadata, lines: Lines) -> Self {
        Self {
            commands,
            metadata,
            lines,
            under_way: VecDeque::new(),
            bytes: 0,
            last: HashMap::new(),
            ended: false,
        }
    }

    /// Answers to the next lines, in order: as many as are ready, at least one. `None` when all are answered.
    pub(super) async fn next_answer(&mut self) -> Option<Result<Bytes, Infallible>> {
        let first = loop {
            let may_read = !self.ended && self.under_way.len() < LINES_MAX && self.bytes < BYTES_MAX;
            match self.under_way.front_mut() {
                None if !may_read => return None,
                None => {
                    let line = self.lines.next().await;
                    self.take(line).await;
                }
                Some(oldest) if !may_read => break oldest.finish().await,
                Some(oldest) => {
                    tokio::select! {
                        biased;
                        line = self.lines.next() => self.take(line).await,
                        answer = oldest.finish() => break answer,
                    }
                }
            }
        };
        self.forget_oldest();
        let mut answers = BytesMut::from(first);
        while answers.len() < ANSWERS_LEN
            && let Some(oldest) = self.under_way.front_mut()
            && let Some(answer) = oldest.if_ready().await
        {
            answers.extend_from_slice(&answer);
            self.forget_oldest();
        }
        Some(Ok(answers.freeze()))
    }

    async fn take(&mut self, line: Result<Option<(u64, Line)>, BrokenOff>) {
        let (number, line) = match line {
            Ok(Some(line)) => line,
            Ok(None) => {
                self.ended = true;
                return;
            }
            Err(BrokenOff) => {
                self.ended = true;
                let number = self.lines.number() + 1;
                return self.push(number, 0, None, Answer::Ready(failed(number, &broken_off())));
            }
        };
        let Line::Text(text) = line else {
            return self.push(number, 0, None, Answer::Ready(failed(number, &too_long())));
        };
        match read(&text, &self.metadata) {
            Ok(request) => self.begin(number, text.len(), request).await,
            Err(problem) => self.push(number, 0, None, Answer::Ready(failed(number, &problem))),
        }
    }

    /// Begins a line, and only after the line before it: a command reaches the log's queue when it is polled for the
    /// first time, unless another one of its stream is being decided. So that is waited for, each is polled once before
    /// the next one is looked at, and events stand in the log in the order of the lines.
    async fn begin(&mut self, number: u64, len: usize, request: CommandRequest) {
        let stream = format!("{}/{}", request.category, request.id);
        if let Some((_, before)) = self.last.remove(&stream) {
            // An error is what comes when the other end is dropped, and that is when the line before is done.
            let _ = before.await;
        }
        let (done, when_done) = oneshot::channel();
        let commands = self.commands.clone();
        let mut work = Box::pin(async move {
            let result = commands.execute(request).await;
            drop(done);
            answer(number, result)
        });
        // Outside of tokio's budget, which would make a lock wait that is free.
        let first = tokio::task::unconstrained(poll_fn(|context| Poll::Ready(work.as_mut().poll(context)))).await;
        match first {
            Poll::Ready(answer) => self.push(number, len, None, Answer::Ready(answer)),
            Poll::Pending => {
                self.last.insert(stream.clone(), (number, when_done));
                self.push(number, len, Some(stream), Answer::Working(tokio::spawn(work)));
            }
        }
    }

    fn push(&mut self, number: u64, len: usize, stream: Option<StreamName>, answer: Answer) {
        self.bytes += len;
        self.under_way.push_back(UnderWay {
            number,
            len,
            stream,
            answer,
        });
    }

    fn forget_oldest(&mut self) {
        let Some(line) = self.under_way.pop_front() else {
            return;
        };
        self.bytes -= line.len;
        if let Some(stream) = line.stream
            && self.last.get(&stream).is_some_and(|(number, _)| *number == line.number)
        {
            self.last.remove(&stream);
        }
    }
}

impl UnderWay {
    /// Waits for the answer. May be dropped while it waits: nothing is lost.
    async fn finish(&mut self) -> Bytes {
        match &mut self.answer {
            Answer::Ready(answer) => std::mem::take(answer),
            Answer::Working(task) => task.await.unwrap_or_else(|error| {
                tracing::error!(line = self.number, %error, "a line of a bulk request failed");
                failed(self.number, &Problem::internal())
            }),
        }
    }

    async fn if_ready(&mut self) -> Option<Bytes> {
        let working = matches!(&self.answer, Answer::Working(task) if !task.is_finished());
        if working { None } else { Some(self.finish().await) }
    }
}

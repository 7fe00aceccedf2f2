//! Lines carried out right here, many at a time, and yet in their order.
//!
//! A command reaches the log's queue when its future is polled for the first time, unless an earlier one of the same
//! stream is still being decided. So each is polled once before the next one is looked at, and a line waits for an
//! earlier one of its own stream: events then stand in the log in the order of the lines. Two things could make a
//! command wait after all, and let later lines pass it: a `prepare` that takes time, and a stream of more than 256
//! events that is not in the cache. Neither changes the order within a stream.

use super::{CommandLine, LineResult, Lines, Tally};
use crate::backend::Backend;
use crate::cli::runtime;
use crate::node::Store;
use annals_commands::{CommandBody, CommandError, CommandOutcome, CommandRequest, Commands};
use annals_core::{Appender, Metadata};
use anyhow::{Context, Result, bail};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use indicatif::ProgressBar;
use std::collections::HashSet;
use std::future::poll_fn;
use std::io::BufRead;
use std::sync::Arc;
use std::task::Poll;

/// Lines under way at once. More would not make larger groups of appends: a sync takes as long as some hundred lines.
const UNDER_WAY_MAX: usize = 256;
/// Bytes under way at once, well below what the log's queue takes.
const BYTES_UNDER_WAY_MAX: usize = 8 << 20;

/// A command that is no longer under way.
struct Ended {
    number: u64,
    stream: String,
    bytes: usize,
    result: Result<LineResult>,
}

/// Carries out all lines. An error is of the environment: the lines after it were not looked at.
pub(super) fn load(
    backend: &Backend,
    store: &Store,
    lines: Lines<impl BufRead>,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<()> {
    let mut window = Window::new(backend.commands(Arc::clone(store.log()) as Arc<dyn Appender>)?);
    runtime()?.block_on(async {
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        for line in lines {
            let line = line?;
            match line.command {
                Ok(command) => {
                    tally.look_at(&command);
                    window
                        .push(line.number, command, &mut |number, result| {
                            tally.count(number, result, bar)
                        })
                        .await?;
                }
                Err(reason) => tally.count(line.number, LineResult::Failed(reason), bar),
            }
            if interrupted.as_mut().now_or_never().is_some() {
                window
                    .drain(&mut |number, result| tally.count(number, result, bar))
                    .await?;
                bail!("interrupted");
            }
        }
        window
            .drain(&mut |number, result| tally.count(number, result, bar))
            .await
    })
}

/// Commands under way, in the order of their numbers.
pub(crate) struct Window {
    commands: Commands,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    streams: HashSet<String>,
    bytes: usize,
}

/// Told what came of each command.
type Told<'a> = dyn FnMut(u64, LineResult) + Send + 'a;

impl Window {
    pub(crate) fn new(commands: Commands) -> Self {
        Self {
            commands,
            under_way: FuturesUnordered::new(),
            streams: HashSet::new(),
            bytes: 0,
        }
    }

    /// Begins a command as soon as it may. An error is of the environment.
    pub(crate) async fn push(&mut self, number: u64, command: CommandLine, told: &mut Told<'_>) -> Result<()> {
        let stream = format!("{}/{}", command.aggregate, command.id);
        let bytes = command.data.as_ref().map_or(0, |data| data.get().len());
        while self.is_full(bytes) || self.streams.contains(&stream) {
            self.one_ends(told).await?;
        }
        let (commands, of) = (self.commands.clone(), stream.clone());
        let mut future = async move {
            let result = carry_out(&commands, command).await;
            Ended {
                number,
                stream: of,
                bytes,
                result,
            }
        }
        .boxed();
        self.streams.insert(stream);
        self.bytes += bytes;
        // Outside of tokio's budget, which would make a lock wait that is free.
        let first = tokio::task::unconstrained(poll_fn(|context| Poll::Ready(future.poll_unpin(context))));
        match first.await {
            Poll::Ready(ended) => self.tell(ended, told),
            Poll::Pending => {
                self.under_way.push(future);
                Ok(())
            }
        }
    }

    /// Whether as much is under way as may be; nothing is too large when it is alone.
    fn is_full(&self, bytes: usize) -> bool {
        let many = self.under_way.len() >= UNDER_WAY_MAX;
        many || (!self.under_way.is_empty() && self.bytes + bytes > BYTES_UNDER_WAY_MAX)
    }

    /// Waits until everything has ended.
    pub(crate) async fn drain(&mut self, told: &mut Told<'_>) -> Result<()> {
        while !self.under_way.is_empty() {
            self.one_ends(told).await?;
        }
        Ok(())
    }

    async fn one_ends(&mut self, told: &mut Told<'_>) -> Result<()> {
        match self.under_way.next().await {
            Some(ended) => self.tell(ended, told),
            None => Ok(()),
        }
    }

    fn tell(&mut self, ended: Ended, told: &mut Told<'_>) -> Result<()> {
        self.streams.remove(&ended.stream);
        self.bytes -= ended.bytes;
        told(
            ended.number,
            ended.result.with_context(|| format!("line {}", ended.number))?,
        );
        Ok(())
    }
}

/// Carries out one command. An error is of the environment and concerns every line.
async fn carry_out(commands: &Commands, line: CommandLine) -> Result<LineResult> {
    match commands.execute(request(line)).await {
        Ok(CommandOutcome { duplicate: true, .. }) => Ok(LineResult::Duplicate),
        Ok(CommandOutcome { events, .. }) if events.is_empty() => Ok(LineResult::Unchanged),
        Ok(_) => Ok(LineResult::Done),
        Err(error @ (CommandError::Append(_) | CommandError::Log(_))) if !concerns_line(&error) => Err(error.into()),
        Err(error) => Ok(LineResult::Failed(error.to_string())),
    }
}

fn concerns_line(error: &CommandError) -> bool {
    use annals_core::AppendError::{Invalid, TooLarge};
    matches!(error, CommandError::Append(Invalid(_) | TooLarge { .. }))
}

fn request(line: CommandLine) -> CommandRequest {
    let expected = line.expected();
    let body = line
        .data
        .map(|data| String::from(Box::<str>::from(data)))
        .unwrap_or_default();
    CommandRequest {
        category: line.aggregate,
        id: line.id,
        command: line.command,
        body: CommandBody::Json(body.into()),
        key: line.key,
        expected,
        occurred_at: line.occurred_at,
        metadata: Metadata {
            actor: line.actor,
            ..Metadata::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_core::AppendError;

    #[test]
    fn what_concerns_every_line_ends_the_load() {
        for error in [
            AppendError::StorageFull { free: 1, reserve: 2 },
            AppendError::OutcomeUnknown("disk".into()),
            AppendError::Closed("stopping".into()),
            AppendError::ClockJumped { seconds: 9 },
        ] {
            assert!(!concerns_line(&error.clone().into()), "{error}");
        }
        assert!(concerns_line(&AppendError::TooLarge { bytes: 1 }.into()));
    }
}

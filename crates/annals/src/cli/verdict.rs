//! What comes of a verb, and the one place that turns it into an exit code.

use super::output;
use std::io;
use std::process::ExitCode;

/// What a verb that ran to its end found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Fine,
    /// What was checked does not hold, or some lines failed. The verb has said which.
    DoesNotHold,
}

impl Verdict {
    /// Fine if `holds`.
    pub(crate) fn holds(holds: bool) -> Self {
        if holds { Self::Fine } else { Self::DoesNotHold }
    }

    /// The verdict once it was listed. It stands, too, when the reader of the listing has gone before its end.
    pub(crate) fn listed(self, listing: io::Result<()>) -> Outcome {
        match listing {
            Err(error) if !output::is_reader_gone(&error) => Err(error.into()),
            _ => Ok(self),
        }
    }
}

/// What every verb returns. An error is usage or environment.
pub(crate) type Outcome = anyhow::Result<Verdict>;

/// 0: fine. 1: what was checked does not hold. 2: usage or environment; the error goes to stderr.
pub(crate) fn exit_code(outcome: &Outcome) -> ExitCode {
    match outcome {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::DoesNotHold) => ExitCode::from(1),
        // Whoever reads our output has seen enough (`annals events | head`): that is no failure.
        Err(error) if is_reader_gone(error) => ExitCode::SUCCESS,
        Err(error) => {
            super::note(format_args!("error: {}", chain(error)));
            ExitCode::from(2)
        }
    }
}

/// Only of our own output: a connection to a server may break, too.
fn is_reader_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(output::is_reader_gone)
}

/// The error and its causes, each said once: a cause that its error already quotes is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let said = cause.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let pipe = || output::reader_gone(io::ErrorKind::BrokenPipe.into());
        let error = anyhow::Error::from(pipe()).context("cannot write");
        assert_eq!(exit_code(&Err(error)), ExitCode::SUCCESS);
        for verdict in [Verdict::Fine, Verdict::DoesNotHold] {
            assert_eq!(
                verdict.listed(Err(pipe())).unwrap(),
                verdict,
                "who reads does not change what holds"
            );
        }
        assert!(Verdict::Fine.listed(Err(io::ErrorKind::StorageFull.into())).is_err());
        assert_eq!(exit_code(&Err(anyhow::anyhow!("no such file"))), ExitCode::from(2));
        assert_eq!(exit_code(&Ok(Verdict::DoesNotHold)), ExitCode::from(1));
    }

    #[test]
    fn a_connection_that_breaks_is_a_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("no answer");
        assert_eq!(exit_code(&Err(error)), ExitCode::from(2));
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("disk full")
            .context("cannot write a.json: disk full")
            .context("cannot finish");
        assert_eq!(chain(&error), "cannot finish: cannot write a.json: disk full");
    }
}

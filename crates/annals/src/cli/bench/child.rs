//! A server in a process of its own: its memory can be measured, and it can be killed.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The option that makes this binary such a server.
pub(super) const OPTION: &str = "--as-server";

/// A running server. Killed when dropped.
pub(super) struct ChildServer {
    child: Child,
    url: String,
}

impl ChildServer {
    /// This binary again, serving the log in `dir`. Returns when it does.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own file cannot be found")?;
        let mut child = Command::new(program)
            .args(["bench", OPTION, "--data"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a second process cannot be started")?;
        let mut url = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut url)?;
        }
        let server = Self {
            child,
            url: url.trim_end().to_owned(),
        };
        ensure!(
            !server.url.is_empty(),
            "the server that is to be measured did not start"
        );
        Ok(server)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, as a crash would end it.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it close its log.
    pub(super) fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the server that was measured ended with {status}");
        Ok(())
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // One that has ended already was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

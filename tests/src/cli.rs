//! Runs the real binary: its arguments in, its exit code and what it said out. Knows the command line as the contract
//! gives it, and nothing of what is behind it.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The environment variable that names the binary under test.
pub const BINARY: &str = "ANNALS_BIN";
/// The environment variable that names the built Olist converter.
pub const CONVERTER: &str = "ANNALS_OLIST_CONVERTER";

/// How long a run may take before it counts as hung.
const TIME_MAX: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(2);

/// What came of one run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Run {
    /// This run, if it ended with `code`.
    ///
    /// # Errors
    ///
    /// When it ended with another one; the message has all that it said.
    pub fn exits(self, code: i32) -> Result<Self> {
        let Self {
            code: found,
            stdout,
            stderr,
        } = &self;
        let shown: String = stdout.chars().take(4_000).collect();
        ensure!(
            *found == code,
            "exit code {found}, not {code}\nstdout: {shown}\nstderr: {stderr}"
        );
        Ok(self)
    }

    /// The JSON lines of stdout.
    ///
    /// # Errors
    ///
    /// When a line is no JSON.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// The binary under test.
///
/// # Errors
///
/// When there is none; the message says how to build it.
pub fn binary() -> Result<PathBuf> {
    built(BINARY, "annals", "cargo build --release -p annals")
}

/// The converter from the Olist tables to commands.
///
/// # Errors
///
/// As [`binary`].
pub fn converter() -> Result<PathBuf> {
    built(
        CONVERTER,
        "examples/olist",
        "cargo build -p annals-commerce --example olist",
    )
}

/// What the variable names, else the newest of what is built beside the running test.
fn built(variable: &str, name: &str, remedy: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "{variable} names {}, which is no file: run `{remedy}`",
            path.display()
        );
        return Ok(path);
    }
    let test = std::env::current_exe().context("the path of the running test")?;
    // target/<profile>/deps/<test>
    let target = test
        .ancestors()
        .nth(3)
        .context("the test does not stand in a target directory")?;
    let places = ["release", "debug"].map(|profile| target.join(profile).join(name));
    let age = |path: &PathBuf| path.metadata().and_then(|about| about.modified()).ok();
    let newest = places.into_iter().filter(|path| path.is_file()).max_by_key(age);
    newest.with_context(|| {
        format!(
            "nothing to test at {}/*/{name}: run `{remedy}` or set {variable}",
            target.display()
        )
    })
}

/// Runs the binary and waits for its end.
///
/// # Errors
///
/// When it cannot be run or does not end in time. An exit code other than 0 is no error.
pub fn annals<I, A>(arguments: I) -> Result<Run>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString>,
{
    let mut command = Command::new(binary()?);
    command.args(arguments.into_iter().map(Into::into));
    run(&mut command)
}

/// Runs a command and waits for its end. Its stdin is empty.
///
/// # Errors
///
/// As [`annals()`].
pub fn run(command: &mut Command) -> Result<Run> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let stdout = gather(child.stdout.take());
    let stderr = gather(child.stderr.take());
    let code = ended(&mut child, TIME_MAX).with_context(|| format!("{command:?}"))?;
    let text = |reader: JoinHandle<Vec<u8>>| {
        let bytes = reader.join().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Run {
        code,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn gather(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before a broken pipe is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Waits for a process; kills it when it takes too long.
pub(crate) fn ended(child: &mut Child, within: Duration) -> Result<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().unwrap_or(-1));
        }
        if begun.elapsed() > within {
            child.kill()?;
            child.wait()?;
            bail!("did not end within {} s", within.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// The Olist sample as commands, one a line, written to `file`.
///
/// # Errors
///
/// When the data or the converter is missing, or the converter finds that its figures do not hold.
pub fn convert_olist(file: &Path) -> Result<()> {
    let mut command = Command::new(converter()?);
    let out = std::fs::File::create(file).with_context(|| file.display().to_string())?;
    let output = command
        .arg(crate::data::olist()?)
        .stdout(out)
        .stderr(Stdio::piped())
        .output();
    let output = output.with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "the converter failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

//! What the README and the tutorial tell a newcomer to type works: every `sh` block whose first line is
//! `# runs in tests` is run by a shell beside a server on an empty `./annals-data`, and every one that begins with
//! `# runs in tests, the server stopped` after that.
//!
//! The documented ports are replaced by the server's own; any other difference to what is printed would be a lie.

use std::path::Path;
use std::process::Command;

use annals_tests::cli::{binary, run};
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};

const DOCUMENTS: [&str; 2] = ["README.md", "docs/tutorial.md"];
const MARK: &str = "# runs in tests";
/// What follows the mark of a block that is run when the server is stopped.
const STOPPED: &str = ", the server stopped";
/// Set for curl: an answer that is a problem fails the command.
const CURL: &str = "fail-with-body\nsilent\nshow-error\n";

#[test]
fn the_examples_of_the_documents_work() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace")?;
    let mut blocks = Vec::new();
    for document in DOCUMENTS {
        let path = root.join(document);
        if path.is_file() {
            let text = std::fs::read_to_string(&path)?;
            blocks.extend(marked(&text).into_iter().map(|block| (document, block)));
        }
    }
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join(".curlrc"), CURL)?;
    let server = Server::start(&directory.path().join("annals-data"))?;
    let ports = |block: &str| {
        let block = block.replace("127.0.0.1:8080", server.command.address());
        block.replace("127.0.0.1:8081", server.query.address())
    };
    let (stopped, served): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(_, block)| block.starts_with(STOPPED));
    for (document, block) in &served {
        shell(directory.path(), &ports(block)).with_context(|| (*document).to_owned())?;
    }
    server.stop()?;
    for (document, block) in &stopped {
        let script = block.strip_prefix(STOPPED).unwrap_or(block);
        shell(directory.path(), script).with_context(|| (*document).to_owned())?;
    }
    Ok(())
}

/// Runs a block where a newcomer would, with the binary in the path.
fn shell(directory: &Path, script: &str) -> Result<()> {
    let mut path = binary()?
        .parent()
        .context("the binary's directory")?
        .as_os_str()
        .to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).env("PATH", path);
    shell.env("CURL_HOME", directory).current_dir(directory);
    let ran = run(&mut shell)?.exits(0).with_context(|| script.to_owned())?;
    ensure!(!ran.stdout.contains("urn:annals:problem"), "{script}\n{}", ran.stdout);
    Ok(())
}

/// The blocks that are marked, without the mark.
fn marked(text: &str) -> Vec<String> {
    let blocks = text.split("\n```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("\n```").next());
    blocks
        .filter_map(|block| block.strip_prefix(MARK))
        .map(str::to_owned)
        .collect()
}

#[test]
fn only_marked_blocks_are_run() {
    let text = "Text\n```sh\n# runs in tests\nls\n```\nmore\n```sh\nrm x\n```\n```json\n{}\n```\n";
    assert_eq!(marked(text), ["\nls"]);
}

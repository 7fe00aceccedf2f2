//! Finds the links of a Markdown text. Enough of Markdown for our documents: inline links, images and reference definitions.

use super::TextFile;

/// One link as written, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// The links to other files of the repository: neither URLs nor anchors of the same document; code is skipped.
pub(crate) fn relative(file: &TextFile) -> Vec<Link> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (line, text) in file.numbered_lines() {
        if text.trim_start().starts_with("```") || text.trim_start().starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced {
            let targets = targets(&without_code(text));
            links.extend(
                targets
                    .into_iter()
                    .filter(|target| is_relative(target))
                    .map(|target| Link { line, target }),
            );
        }
    }
    links
}

/// Where a link leads, as a path from the root; `None` when it leaves the repository.
pub(crate) fn resolve(document: &str, target: &str) -> Option<String> {
    let target = target.split(['#', '?']).next().unwrap_or_default();
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => document
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

fn is_relative(target: &str) -> bool {
    !target.is_empty() && !target.starts_with('#') && !target.contains("://") && !target.starts_with("mailto:")
}

fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.starts_with('[')
        && let Some((_, definition)) = text.split_once("]:")
    {
        found.extend(definition.split_whitespace().next().map(bare));
    }
    for piece in text.split("](").skip(1) {
        found.extend(piece.split([')', ' ']).next().map(bare));
    }
    found
}

fn bare(target: &str) -> String {
    target.trim_start_matches('<').trim_end_matches('>').to_owned()
}

/// The line without its `code`, which may show links that are none.
fn without_code(text: &str) -> String {
    let pieces: Vec<&str> = text.split('`').collect();
    // An odd number of backticks leaves the last one without a partner: it is a character like any other.
    let closed = if pieces.len().is_multiple_of(2) {
        pieces.len() - 1
    } else {
        pieces.len()
    };
    let kept = pieces
        .iter()
        .enumerate()
        .filter(|(index, _)| index.is_multiple_of(2) || *index >= closed);
    kept.map(|(_, piece)| *piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_and_code_and_urls_are_not() {
        let text = "[`a`](a.md#x) ![b](<img/b.png>) `[c](c.md)`\n```\n[d](d.md)\n```\n[e]: e.md \"E\"\n[f](https://f) [g](#g)\n";
        let links = relative(&TextFile::new("docs/x.md", text));
        let found: Vec<(usize, &str)> = links.iter().map(|link| (link.line, link.target.as_str())).collect();
        assert_eq!(found, [(1, "a.md#x"), (1, "img/b.png"), (5, "e.md")]);
    }

    #[test]
    fn links_are_resolved_from_their_document() {
        let resolved = |target| resolve("docs/decisions/a.md", target);
        assert_eq!(resolved("../format.md#header").as_deref(), Some("docs/format.md"));
        assert_eq!(resolved("./b.md").as_deref(), Some("docs/decisions/b.md"));
        assert_eq!(resolved("/README.md").as_deref(), Some("README.md"));
        assert_eq!(resolved("../../../outside.md"), None);
    }
}

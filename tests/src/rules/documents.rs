//! Rules for the documents: every one can be reached, every link leads somewhere, every decision record has its form.

use std::collections::{BTreeMap, BTreeSet};

use super::links::{relative, resolve};
use super::{Finding, TextFile};

const DECISIONS: &str = "docs/decisions/";

/// The headings that every decision record has, besides its title.
const DECISION_HEADINGS: [&str; 3] = ["## Context", "## Decision", "## Consequences"];

/// Every relative link leads to a file or directory of the repository; `exists` answers for a path from the root.
pub fn links_resolve(document: &TextFile, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    relative(document)
        .into_iter()
        .filter(|link| !resolve(&document.path, &link.target).is_some_and(|path| exists(&path)))
        .map(|link| {
            let problem = format!("the link to `{}` leads nowhere", link.target);
            document.finding(
                link.line,
                problem,
                "name a file of the repository, from where the document stands",
            )
        })
        .collect()
}

/// Every document directly in `docs/` is linked from the README or from another document.
pub fn documents_are_linked<'a>(documents: impl IntoIterator<Item = &'a TextFile>) -> Vec<Finding> {
    let documents: Vec<&TextFile> = documents.into_iter().collect();
    let sources = documents
        .iter()
        .filter(|document| document.path == "README.md" || document.path.starts_with("docs/"));
    let linked: BTreeSet<String> = sources
        .flat_map(|document| {
            relative(document)
                .into_iter()
                .filter_map(|link| resolve(&document.path, &link.target))
                .filter(|path| *path != document.path)
        })
        .collect();
    let in_docs = |path: &str| path.strip_prefix("docs/").is_some_and(|name| !name.contains('/'));
    documents
        .into_iter()
        .filter(|document| in_docs(&document.path) && !linked.contains(&document.path))
        .map(|document| {
            document.finding(
                1,
                "no document links here",
                "link it from README.md or docs/architecture.md",
            )
        })
        .collect()
}

/// Every decision record is named `NNNN-words.md`, has a number of its own, and the headings of the template.
pub fn decision_records<'a>(documents: impl IntoIterator<Item = &'a TextFile>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    for document in documents {
        let Some(name) = document
            .path
            .strip_prefix(DECISIONS)
            .filter(|name| *name != "README.md")
        else {
            continue;
        };
        let Some(number) = decision_number(name) else {
            findings.push(document.finding(1, "not named like a decision record", "name it `NNNN-a-few-words.md`"));
            continue;
        };
        if let Some(other) = numbers.insert(number, &document.path) {
            let problem = format!("number {number} is taken by {other}");
            findings.push(document.finding(1, problem, "take the next free number"));
        }
        findings.extend(decision_form(document, number));
    }
    findings
}

fn decision_form(document: &TextFile, number: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let title = document.text.lines().next().unwrap_or_default();
    if !title.strip_prefix("# ").is_some_and(|title| title.starts_with(number)) {
        let remedy = format!("begin with `# {number}. Title`, as docs/decisions/0000-template.md does");
        findings.push(document.finding(1, "the title does not begin with the record's number", remedy));
    }
    for heading in DECISION_HEADINGS {
        if !document.text.lines().any(|line| line.trim_end() == heading) {
            let problem = format!("the heading `{heading}` is missing");
            findings.push(document.finding(1, problem, "follow docs/decisions/0000-template.md"));
        }
    }
    findings
}

/// The four digits that begin a record's name, if it is named like one.
fn decision_number(name: &str) -> Option<&str> {
    let (number, rest) = name.split_once('-')?;
    let words = rest.strip_suffix(".md")?;
    let well_named = !words.is_empty()
        && words
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (number.len() == 4 && number.chars().all(|c| c.is_ascii_digit()) && well_named).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let document = TextFile::new("docs/a.md", "[b](b.md)\n[c](c.md)\n[d](../../d.md)\n");
        let lines: Vec<usize> = links_resolve(&document, |path| path == "docs/b.md")
            .iter()
            .map(|f| f.line)
            .collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn a_document_without_links_to_it_is_found() {
        let readme = TextFile::new("README.md", "[a](docs/a.md)");
        let a = TextFile::new("docs/a.md", "[b](b.md#part)");
        let b = TextFile::new("docs/b.md", "");
        let alone = TextFile::new("docs/alone.md", "[me](alone.md)");
        let findings = documents_are_linked([&readme, &a, &b, &alone]);
        assert_eq!(
            findings.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
            ["docs/alone.md"]
        );
    }

    #[test]
    fn a_decision_record_without_its_form_is_found() {
        let text = "# 0001. A\n\n## Context\n\n## Decision\n\n## Consequences\n";
        let good = TextFile::new("docs/decisions/0001-a.md", text);
        assert!(decision_records([&good]).is_empty());
        let same_number = TextFile::new("docs/decisions/0001-b.md", text);
        assert_eq!(decision_records([&good, &same_number]).len(), 1);
        assert_eq!(
            decision_records([&TextFile::new("docs/decisions/1-a.md", text)]).len(),
            1
        );
        assert_eq!(
            decision_records([&TextFile::new("docs/decisions/0002-a.md", "# A\n\n## Decision\n")]).len(),
            3
        );
    }
}

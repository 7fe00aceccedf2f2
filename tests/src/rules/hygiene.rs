//! What must not stand in Rust files: dead code in comments, skipped tests, unfinished marks, `unsafe`.

use super::tokens::Tokens;
use super::{Finding, TextFile};

/// No code in comments: no two or more `//` lines in a row of which most end as statements or blocks do.
pub fn commented_out_code(file: &TextFile) -> Vec<Finding> {
    let tokens = match Tokens::read(file) {
        Ok(tokens) => tokens,
        Err(finding) => return vec![*finding],
    };
    let mut findings = Vec::new();
    let mut run: Vec<(usize, &str)> = Vec::new();
    for (number, line) in file.numbered_lines().chain([(usize::MAX, "")]) {
        let comment = plain_comment(line).filter(|_| !tokens.literal_lines.contains(&number));
        if let Some(comment) = comment {
            run.push((number, comment));
            continue;
        }
        let code_lines = run.iter().filter(|(_, text)| text.ends_with([';', '{', '}'])).count();
        if run.len() >= 2 && code_lines * 2 > run.len() {
            findings.push(file.finding(run[0].0, "code in a comment", "delete it; git remembers"));
        }
        run.clear();
    }
    findings
}

/// No test is switched off, neither by an `ignore` attribute nor by a doc example marked `ignore`.
pub fn ignored_tests(file: &TextFile) -> Vec<Finding> {
    let tokens = match Tokens::read(file) {
        Ok(tokens) => tokens,
        Err(finding) => return vec![*finding],
    };
    let remedy = "let it run, or delete it";
    let mut findings = Vec::new();
    for (index, token) in tokens.list.iter().enumerate().filter(|(_, token)| token.text == "#") {
        let name = tokens.text(Some(index + 2));
        let end = attribute_end(&tokens, index);
        let hidden = name == "cfg_attr" && tokens.list[index..end].iter().any(|inner| inner.text == "ignore");
        if tokens.text(Some(index + 1)) == "[" && (name == "ignore" || hidden) {
            findings.push(file.finding(token.line, "a test is ignored", remedy));
        }
    }
    for (number, line) in file.numbered_lines() {
        let line = line.trim();
        let fence = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
            .map(str::trim);
        let marks = fence.and_then(|fence| fence.strip_prefix("```"));
        if marks.is_some_and(|marks| marks.split(',').any(|mark| mark.trim() == "ignore")) {
            findings.push(file.finding(number, "a doc example is ignored", "let it compile, or mark it `text`"));
        }
    }
    findings
}

/// Neither of the macros that stand for code to come.
pub fn unfinished_marks(file: &TextFile) -> Vec<Finding> {
    words(file, |tokens, index| {
        let mark = tokens.text(Some(index));
        (["todo", "unimplemented"].contains(&mark) && tokens.text(Some(index + 1)) == "!").then(|| format!("`{mark}!`"))
    })
    .into_iter()
    .map(|(line, problem)| {
        file.finding(
            line,
            problem,
            "write it, or return an error that says what is not supported",
        )
    })
    .chain(unparsed(file))
    .collect()
}

/// Where `unsafe` may stand: a function of the C library is not replaced without it.
const UNSAFE_SOURCES: &str = "tests/shim/src/";

/// No `unsafe` anywhere but in the shim; the lint forbids it in crates, this rule also where a file allows itself more.
pub fn unsafe_code(file: &TextFile) -> Vec<Finding> {
    if file.path.starts_with(UNSAFE_SOURCES) {
        return Vec::new();
    }
    words(file, |tokens, index| {
        let (word, before) = (tokens.text(Some(index)), tokens.text(index.checked_sub(2)));
        let allowed = word == "unsafe_code" && ["allow", "expect", "warn"].contains(&before);
        (word == "unsafe" || allowed).then(|| format!("`{word}`"))
    })
    .into_iter()
    .map(|(line, problem)| file.finding(line, problem, "use a crate that wraps it soundly"))
    .chain(unparsed(file))
    .collect()
}

fn words(file: &TextFile, found: impl Fn(&Tokens, usize) -> Option<String>) -> Vec<(usize, String)> {
    let tokens = Tokens::read(file).unwrap_or_default();
    (0..tokens.list.len())
        .filter_map(|index| Some((tokens.list[index].line, found(&tokens, index)?)))
        .collect()
}

fn unparsed(file: &TextFile) -> Option<Finding> {
    Tokens::read(file).err().map(|finding| *finding)
}

/// The text of a `//` line that is no doc comment.
fn plain_comment(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("//")?;
    (!text.starts_with(['/', '!'])).then(|| text.trim())
}

/// The index after the `]` of the attribute whose `#` stands at `start`.
fn attribute_end(tokens: &Tokens, start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.list.iter().enumerate().skip(start + 1) {
        match token.text.as_str() {
            "[" => depth += 1,
            "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.list.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&TextFile) -> Vec<Finding>, text: &str) -> Vec<usize> {
        rule(&TextFile::new("a.rs", text))
            .iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn code_in_comments_is_found() {
        assert_eq!(
            lines(commented_out_code, "fn a() {\n    // let b = 1;\n    // drop(b);\n}\n"),
            [2]
        );
        assert_eq!(
            lines(commented_out_code, "fn a() {}\n// fn b() {\n//     1\n// }\n"),
            [2]
        );
        assert!(
            lines(
                commented_out_code,
                "// One thought;\n// another one,\n// and a third.\n"
            )
            .is_empty()
        );
        assert!(lines(commented_out_code, "/// let b = 1;\n/// drop(b);\nfn a() {}\n").is_empty());
        assert!(
            lines(commented_out_code, "const A: &str = \"\n// a;\n// b;\n\";\n").is_empty(),
            "inside a literal"
        );
    }

    #[test]
    fn ignored_tests_are_found() {
        assert_eq!(lines(ignored_tests, "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"), [2]);
        assert_eq!(lines(ignored_tests, "#[cfg_attr(windows, ignore)]\nfn a() {}\n"), [1]);
        assert_eq!(
            lines(ignored_tests, "/// ```rust,ignore\n/// a\n/// ```\nfn a() {}\n"),
            [1]
        );
        assert!(
            lines(
                ignored_tests,
                "#[cfg_attr(windows, inline)]\nfn ignore() {}\n/// ```text\nfn b() {}\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn unfinished_marks_are_found() {
        assert_eq!(
            lines(
                unfinished_marks,
                "fn a() {\n    todo!()\n}\nfn b() { unimplemented!(\"b\") }\n"
            ),
            [2, 4]
        );
        assert!(lines(unfinished_marks, "// todo!()\nfn todo() { \"todo!()\"; }\n").is_empty());
        assert_eq!(
            lines(unfinished_marks, "fn a( {"),
            [1],
            "a file that does not parse is a finding"
        );
    }

    #[test]
    fn unsafe_code_is_found() {
        assert_eq!(
            lines(unsafe_code, "#![allow(unsafe_code)]\nfn a() {\n    unsafe { b() }\n}\n"),
            [1, 3]
        );
        assert!(
            lines(
                unsafe_code,
                "#![forbid(unsafe_code)]\n#![deny(unsafe_code)]\n// unsafe\nfn a() {}\n"
            )
            .is_empty()
        );
        let shim = TextFile::new("tests/shim/src/a.rs", "fn a() { unsafe { b() } }\n");
        assert!(
            unsafe_code(&shim).is_empty(),
            "the shim replaces functions of the C library"
        );
    }
}

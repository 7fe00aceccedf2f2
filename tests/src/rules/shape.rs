//! The shape of Rust files: module docs, length of files and of functions.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Finding, TextFile};

/// Lines that a file may have, not counting its tests at the end.
pub const FILE_LINES_MAX: usize = 600;

/// Lines that a function may have, from its `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Every file begins with `//!`; only blank lines, a `#!` line and one-line `#![attributes]` may stand before it.
pub fn module_docs(file: &TextFile) -> Vec<Finding> {
    let first = file
        .numbered_lines()
        .find(|(_, line)| !line.trim().is_empty() && !line.starts_with("#!"));
    let says_something = |line: &str| line.strip_prefix("//!").is_some_and(|text| !text.trim().is_empty());
    match first {
        Some((_, line)) if says_something(line) => Vec::new(),
        other => vec![file.finding(
            other.map_or(1, |(number, _)| number),
            "the module has no docs",
            "begin the file with `//!`: what it is for and what it must not know",
        )],
    }
}

/// No file is longer than [`FILE_LINES_MAX`], not counting a `#[cfg(test)] mod tests` at its end.
pub fn file_length(file: &TextFile) -> Vec<Finding> {
    // The cheap answer first: parsing is only needed to find where the tests begin.
    let all = file.text.lines().count();
    if all <= FILE_LINES_MAX {
        return Vec::new();
    }
    let parsed = match parse(file) {
        Ok(parsed) => parsed,
        Err(finding) => return vec![*finding],
    };
    let lines = parsed.items.last().and_then(tests_start).map_or(all, |start| start - 1);
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let problem = format!("{lines} lines without its tests, {FILE_LINES_MAX} are allowed");
    vec![file.finding(FILE_LINES_MAX + 1, problem, "split it by what its parts know")]
}

/// No function is longer than [`FUNCTION_LINES_MAX`]; tests are functions too.
pub fn function_length(file: &TextFile) -> Vec<Finding> {
    let parsed = match parse(file) {
        Ok(parsed) => parsed,
        Err(finding) => return vec![*finding],
    };
    let mut lengths = Functions {
        file,
        findings: Vec::new(),
    };
    lengths.visit_file(&parsed);
    lengths.findings
}

fn parse(file: &TextFile) -> Result<syn::File, Box<Finding>> {
    syn::parse_file(&file.text).map_err(|error| {
        let line = error.span().start().line;
        Box::new(file.finding(line, format!("does not parse: {error}"), "make it valid Rust"))
    })
}

/// The line where a `#[cfg(test)] mod tests { … }` begins.
fn tests_start(item: &syn::Item) -> Option<usize> {
    let syn::Item::Mod(module) = item else { return None };
    let is_test = |attribute: &syn::Attribute| matches!(&attribute.meta, syn::Meta::List(list) if list.path.is_ident("cfg") && list.tokens.to_string() == "test");
    module.attrs.iter().find(|attribute| is_test(attribute))?;
    module.attrs.first().map(|attribute| attribute.span().start().line)
}

struct Functions<'a> {
    file: &'a TextFile,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = signature.fn_token.span.start().line;
        let lines = block.brace_token.span.close().end().line + 1 - start;
        if lines > FUNCTION_LINES_MAX {
            let problem = format!(
                "`{}` has {lines} lines, {FUNCTION_LINES_MAX} are allowed",
                signature.ident
            );
            self.findings.push(
                self.file
                    .finding(start, problem, "move a step of it into a function with a name"),
            );
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> TextFile {
        TextFile::new("a.rs", text)
    }

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    let _ = 1;\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_without_module_docs_is_found() {
        assert_eq!(
            module_docs(&file("#![allow(missing_docs)]\n\nuse std::fmt;\n"))[0].line,
            3
        );
        assert_eq!(
            module_docs(&file("//!\nuse std::fmt;\n")).len(),
            1,
            "empty docs are none"
        );
        assert_eq!(module_docs(&file("")).len(), 1);
        assert!(module_docs(&file("#!/usr/bin/env x\n#![allow(missing_docs)]\n//! Words.\n")).is_empty());
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let code = "const A: u8 = 1;\n";
        let tests = format!("/// Tests.\n#[cfg(test)]\nmod tests {{\n{}}}\n", code.repeat(50));
        assert!(file_length(&file(&(code.repeat(FILE_LINES_MAX) + &tests))).is_empty());
        assert_eq!(file_length(&file(&(code.repeat(FILE_LINES_MAX + 1) + &tests))).len(), 1);
        let tests_first = tests + &code.repeat(FILE_LINES_MAX);
        assert_eq!(
            file_length(&file(&tests_first)).len(),
            1,
            "only tests at the end are not counted"
        );
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        assert!(function_length(&file(&function(FUNCTION_LINES_MAX))).is_empty());
        let long = function(FUNCTION_LINES_MAX + 1);
        let places = [
            long.clone(),
            format!("impl A {{\n{long}}}"),
            format!("trait A {{\n{long}}}"),
            format!("mod a {{\n{long}}}"),
        ];
        for text in places {
            assert_eq!(function_length(&file(&text)).len(), 1, "{text}");
        }
        assert_eq!(
            function_length(&file("fn a( {")).len(),
            1,
            "a file that does not parse is a finding"
        );
    }
}

//! Rust source as a flat list of tokens with line numbers.
//!
//! Comments and the inside of literals are no tokens, so a rule that looks for a word does not trip over text about it.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

use super::{Finding, TextFile};

/// One token. `::` is a single token, a literal is `"_"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// Stands directly in braces that continue a path, as in `crate::{here, here::too}`.
    pub(crate) continues_path: bool,
}

/// The tokens of a file, and the lines that lie inside literals (all but the first line of each).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) list: Vec<Token>,
    pub(crate) literal_lines: BTreeSet<usize>,
}

impl Tokens {
    /// Reads the file, or returns the finding that it is not Rust.
    pub(crate) fn read(file: &TextFile) -> Result<Self, Box<Finding>> {
        let stream: TokenStream = without_shebang(&file.text)
            .parse()
            .map_err(|error: proc_macro2::LexError| {
                let line = error.span().start().line;
                Box::new(file.finding(line, format!("does not parse: {error}"), "make it valid Rust"))
            })?;
        let mut tokens = Self::default();
        tokens.flatten(stream, false);
        Ok(tokens)
    }

    /// The text of the token at `index`, or `""` beyond either end.
    pub(crate) fn text(&self, index: Option<usize>) -> &str {
        index
            .and_then(|index| self.list.get(index))
            .map_or("", |token| &token.text)
    }

    fn flatten(&mut self, stream: TokenStream, continues_path: bool) {
        let mut colon_waits = false;
        for tree in stream {
            let line = tree.span().start().line;
            match tree {
                TokenTree::Group(group) => {
                    let (open, close) = delimiters(group.delimiter());
                    let in_path =
                        group.delimiter() == Delimiter::Brace && self.text(self.list.len().checked_sub(1)) == "::";
                    self.push(open, line, continues_path);
                    self.flatten(group.stream(), in_path);
                    self.push(close, group.span_close().end().line, continues_path);
                }
                TokenTree::Ident(ident) => self.push(&ident.to_string(), line, continues_path),
                TokenTree::Punct(punct) if colon_waits && punct.as_char() == ':' => {
                    if let Some(last) = self.list.last_mut() {
                        last.text.push(':');
                    }
                    colon_waits = false;
                    continue;
                }
                TokenTree::Punct(punct) => {
                    self.push(&punct.as_char().to_string(), line, continues_path);
                    colon_waits = punct.as_char() == ':' && punct.spacing() == Spacing::Joint;
                    continue;
                }
                TokenTree::Literal(literal) => {
                    self.literal_lines.extend(line + 1..=literal.span().end().line);
                    self.push("_", line, continues_path);
                }
            }
            colon_waits = false;
        }
    }

    fn push(&mut self, text: &str, line: usize, continues_path: bool) {
        self.list.push(Token {
            text: text.to_owned(),
            line,
            continues_path,
        });
    }
}

/// The text with a `#!` line for the shell blanked out; line numbers stay.
fn without_shebang(text: &str) -> &str {
    if text.starts_with("#!") && !text.starts_with("#![") {
        text.find('\n').map_or("", |end| &text[end..])
    } else {
        text
    }
}

fn delimiters(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_groups_and_literals_are_told_apart() {
        let file = TextFile::new("a.rs", "#!/bin/x\nuse crate::{a::B};\nconst C: &str = \"\n\";");
        let tokens = Tokens::read(&file).unwrap();
        let words: Vec<&str> = tokens.list.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(words.join(" "), "use crate :: { a :: B } ; const C : & str = _ ;");
        assert!(tokens.list[4].continues_path, "`a` continues `crate::`");
        assert_eq!(
            (
                tokens.list[4].line,
                tokens.literal_lines.into_iter().collect::<Vec<_>>()
            ),
            (2, vec![4])
        );
    }

    #[test]
    fn what_is_not_rust_is_a_finding() {
        assert_eq!(
            Tokens::read(&TextFile::new("a.rs", "fn a() {\n}\n}")).unwrap_err().line,
            3
        );
    }
}

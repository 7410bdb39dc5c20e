//! Characters → statements of tokens, each with its place.
//!
//! A statement is a line, or a part of it up to `;`; a line that begins with `|` continues the statement before. A
//! token is `|`, `:`, `=`, or a word: what lies between blanks, where parentheses and brackets hold blanks together
//! (`add(_, h)` is one word). `#` at the start of a word begins a comment; inside a word it belongs to a name
//! (`lstm#1`).

use crate::{Error, Result};

/// Where a token begins, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// An error at this place.
    pub(super) fn error(self, message: impl Into<String>) -> Error {
        Error::Text { line: self.line, column: self.column, message: message.into() }
    }

    /// The place `characters` to the right.
    pub(super) fn right(self, characters: usize) -> Self {
        Self { column: self.column + characters, ..self }
    }
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub text: &'t str,
    pub place: Place,
}

impl Token<'_> {
    /// Whether the token is the mark `mark`.
    pub(super) fn is(&self, mark: &str) -> bool {
        self.text == mark
    }
}

/// Splits a text into statements, none of them empty.
///
/// # Errors
/// A parenthesis, bracket or quotation mark without its partner.
pub(super) fn statements(text: &str) -> Result<Vec<Vec<Token<'_>>>> {
    let mut statements: Vec<Vec<Token<'_>>> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut lexer = Lexer { line, number: i + 1, at: 0, column: 1 };
        let mut open = false;
        while let Some(token) = lexer.token()? {
            match statements.last_mut() {
                _ if token.is(";") => open = false,
                Some(last) if open || token.is("|") => {
                    last.push(token);
                    open = true;
                }
                _ => {
                    statements.push(vec![token]);
                    open = true;
                }
            }
        }
    }
    Ok(statements)
}

struct Lexer<'t> {
    line: &'t str,
    number: usize,
    at: usize,
    column: usize,
}

impl<'t> Lexer<'t> {
    fn peek(&self) -> Option<char> {
        self.line[self.at..].chars().next()
    }

    fn advance(&mut self, c: char) {
        self.at += c.len_utf8();
        self.column += 1;
    }

    fn place(&self) -> Place {
        Place { line: self.number, column: self.column }
    }

    /// The next token of the line, `;` included; `None` at its end or at a comment.
    fn token(&mut self) -> Result<Option<Token<'t>>> {
        while let Some(c) = self.peek().filter(|c| c.is_whitespace()) {
            self.advance(c);
        }
        let (start, place) = (self.at, self.place());
        match self.peek() {
            None | Some('#') => return Ok(None),
            Some(c @ ('|' | ':' | '=' | ';')) => self.advance(c),
            Some('"') => self.quoted()?,
            Some(_) => self.word()?,
        }
        Ok(Some(Token { text: &self.line[start..self.at], place }))
    }

    fn word(&mut self) -> Result<()> {
        let mut open: Vec<(char, Place)> = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                '(' | '[' | '{' => open.push((c, self.place())),
                ')' | ']' | '}' => {
                    let partner = match c {
                        ')' => '(',
                        ']' => '[',
                        _ => '{',
                    };
                    if open.pop().map(|(o, _)| o) != Some(partner) {
                        return Err(self
                            .place()
                            .error(format!("found `{c}` without a `{partner}` before it")));
                    }
                }
                '|' | ':' | '=' | ';' if open.is_empty() => break,
                c if c.is_whitespace() && open.is_empty() => break,
                _ => {}
            }
            self.advance(c);
        }
        match open.pop() {
            Some((c, place)) => Err(place.error(format!("`{c}` is not closed on this line"))),
            None => Ok(()),
        }
    }

    fn quoted(&mut self) -> Result<()> {
        let start = self.place();
        let mut escaped = false;
        self.advance('"');
        while let Some(c) = self.peek() {
            self.advance(c);
            match c {
                '"' if !escaped => return Ok(()),
                _ => escaped = c == '\\' && !escaped,
            }
        }
        Err(start.error("the quotation mark is not closed on this line"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<&str>> {
        statements(text).unwrap().iter().map(|s| s.iter().map(|t| t.text).collect()).collect()
    }

    #[test]
    fn statements_are_lines_parts_and_continuations() {
        let text = "image: input batch 1 # the picture\n\n# nothing\nconv c1 6 5x5|relu\n  | add(_, h#1); output y\n";
        let expected = vec![
            vec!["image", ":", "input", "batch", "1"],
            vec!["conv", "c1", "6", "5x5", "|", "relu", "|", "add(_, h#1)"],
            vec!["output", "y"],
        ];
        assert_eq!(words(text), expected);
        assert_eq!(words("graph \"a # \\\" b\""), [["graph", "\"a # \\\" b\""]]);
    }

    #[test]
    fn unbalanced_marks_are_refused_where_they_stand() {
        for (text, column) in [("relu | add(_, h", 11), ("a [1,2)", 7), ("é )", 3), ("graph \"x", 7)] {
            match statements(text) {
                Err(Error::Text { line: 1, column: found, .. }) => assert_eq!(found, column, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}

//! Why one record is rejected, as a code for machines and a sentence for people.
//!
//! Owns: the wording, and the bound on how much of a record a sentence repeats: a dead letter carries the whole
//! payload beside it, and its headers count against the broker's message limit.

use std::fmt;

use super::json::Token;
use crate::batch::RejectCode;

/// Bytes of a found value, or of a name that came with the data, that a sentence repeats.
pub(super) const MAX_QUOTED_BYTES: usize = 64;

/// One record's rejection, before it is known which record it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: RejectCode,
    pub(super) error: String,
}

impl Fault {
    #[cold]
    pub(super) fn new(code: RejectCode, error: impl Into<String>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    /// `field "amount": <what is wrong>`
    #[cold]
    pub(super) fn field(code: RejectCode, name: &str, what: impl fmt::Display) -> Self {
        Self::new(code, format!("field \"{}\": {what}", name.escape_debug()))
    }
}

/// A found value as a sentence shows it: short, and with nothing that could break a line or a terminal.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) token: Token<'a>,
    /// Where [`Token::Unescaped`] points into.
    pub(super) unescaped: &'a [u8],
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.token {
            Token::Absent => f.write_str("nothing"),
            Token::Null => f.write_str("null"),
            Token::Boolean(value) => write!(f, "{value}"),
            Token::Array => f.write_str("an array"),
            Token::Object => f.write_str("an object"),
            Token::Number(text) => quote(f, "", text),
            Token::Text(_) | Token::Unescaped { .. } => {
                quote(f, "\"", self.token.text(self.unescaped).unwrap_or_default())
            }
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, mark: &str, bytes: &[u8]) -> fmt::Result {
    let short = shorten(bytes);
    let dots = if short.len() < bytes.len() { "…" } else { "" };
    write!(f, "{mark}{}{dots}{mark}", String::from_utf8_lossy(short).escape_debug())
}

/// The first [`MAX_QUOTED_BYTES`] of a UTF-8 text, cut between characters.
pub(super) fn shorten(text: &[u8]) -> &[u8] {
    if text.len() <= MAX_QUOTED_BYTES {
        return text;
    }
    let is_continuation = |b: u8| b & 0b1100_0000 == 0b1000_0000;
    let mut end = MAX_QUOTED_BYTES;
    while end > 0 && is_continuation(text[end]) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(token: Token<'_>) -> String {
        let unescaped = &[];
        Found { token, unescaped }.to_string()
    }

    #[test]
    fn a_found_value_is_shown_short_and_escaped() {
        assert_eq!(shown(Token::Number(b"1.50")), "1.50");
        assert_eq!(shown(Token::Text("a\"b\n\u{1b}é".as_bytes())), r#""a\"b\n\u{1b}é""#);
        let long = "é".repeat(40);
        assert_eq!(shown(Token::Text(long.as_bytes())), format!("\"{}…\"", "é".repeat(32)));
    }

    #[test]
    fn a_cut_falls_between_characters() {
        let text = format!("x{}", "é".repeat(40));
        assert_eq!(shorten(text.as_bytes()).len(), 63);
    }
}

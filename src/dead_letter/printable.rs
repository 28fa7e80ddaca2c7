//! Bytes of unknown origin made fit for a terminal.
//!
//! Owns: what is escaped. A dead letter's bytes come from anybody, and a terminal obeys escape sequences.
//! Does not own: layout (`command`).

use std::fmt::Write;

/// One line: every control character escaped, newlines and tabs too.
pub(super) fn line(text: &str) -> String {
    escape(text, |_| false)
}

/// Several lines: newlines and tabs stay.
pub(super) fn lines(text: &str) -> String {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

/// A payload or a header's value: text where it is UTF-8, else a hex dump.
pub(super) fn payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => lines(text),
        Err(_) => hex_dump(bytes),
    }
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() || reorders(c)) && !keep(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Bidirectional controls: they make a line read otherwise than it is.
fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Sixteen bytes a line: offset, hex, ASCII.
fn hex_dump(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 5);
    for (i, row) in bytes.chunks(16).enumerate() {
        let mut hex = String::with_capacity(48);
        for byte in row {
            let _ = write!(hex, "{byte:02x} ");
        }
        let ascii: String = row
            .iter()
            .map(|b| {
                if b.is_ascii_graphic() || *b == b' ' {
                    *b as char
                } else {
                    '.'
                }
            })
            .collect();
        let newline = if i == 0 { "" } else { "\n" };
        let _ = write!(out, "{newline}{:08x}  {hex:<48} {ascii}", i * 16);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_cannot_reach_the_terminal() {
        assert_eq!(
            line("a\x1b[2Jb\r\n\u{9b}c\u{202e}d"),
            "a\\u{1b}[2Jb\\r\\n\\u{9b}c\\u{202e}d"
        );
        assert_eq!(lines("{\n\t\"é\": 1\x07}"), "{\n\t\"é\": 1\\u{7}}");
    }

    #[test]
    fn bytes_that_are_no_text_are_dumped() {
        let dump = payload(b"\xff\x00abcdefghijklmnop");
        assert_eq!(
            dump,
            "00000000  ff 00 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e  ..abcdefghijklmn\n\
             00000010  6f 70                                            op"
        );
    }
}

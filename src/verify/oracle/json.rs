//! A JSON parser for checking, not for speed: recursive descent over the grammar of RFC 8259.
//!
//! Owns: what is well-formed. A number keeps its text, so that no value passes through a float on its way.
//! Does not own: what the values mean. Shares no code and no crate with the decoder it judges.

use std::borrow::Cow;

/// Containers within containers; the outermost counts as one.
pub const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    Null,
    Boolean(bool),
    /// The number exactly as written.
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// Members in order, duplicates included.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl Json<'_> {
    /// The member of that name; of several the last counts.
    pub fn last(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .rev()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not one JSON value in UTF-8 with nothing but whitespace around it.
    Malformed,
    TooDeep,
}

/// Exactly one value; whitespace around it is allowed, a byte order mark is not.
pub fn parse(bytes: &[u8]) -> Result<Json<'_>, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::Malformed)?;
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.skip_whitespace();
    let value = parser.value()?;
    parser.skip_whitespace();
    if parser.peek().is_some() {
        return Err(Fault::Malformed);
    }
    Ok(value)
}

/// Is the whole text one JSON number, nothing before or after it?
pub fn is_number(text: &str) -> bool {
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.number().is_ok() && parser.at == text.len()
}

struct Parser<'a> {
    text: &'a str,
    /// Byte position of the next char.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), Fault> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(Fault::Malformed)
        }
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Json<'a>, Fault> {
        match self.peek() {
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::array),
            Some('"') => Ok(Json::String(self.string()?)),
            Some('t') => self.word("true", Json::Boolean(true)),
            Some('f') => self.word("false", Json::Boolean(false)),
            Some('n') => self.word("null", Json::Null),
            _ => Ok(Json::Number(self.number()?)),
        }
    }

    fn nested(&mut self, container: fn(&mut Self) -> Result<Json<'a>, Fault>) -> Result<Json<'a>, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        let value = container(self);
        self.depth -= 1;
        value
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, Fault> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Fault::Malformed);
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self) -> Result<Json<'a>, Fault> {
        self.expect('{')?;
        self.skip_whitespace();
        let mut members = Vec::new();
        if self.take('}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_whitespace();
            let key = self.string()?;
            self.skip_whitespace();
            self.expect(':')?;
            self.skip_whitespace();
            members.push((key, self.value()?));
            self.skip_whitespace();
            if self.take('}') {
                return Ok(Json::Object(members));
            }
            self.expect(',')?;
        }
    }

    fn array(&mut self) -> Result<Json<'a>, Fault> {
        self.expect('[')?;
        self.skip_whitespace();
        let mut items = Vec::new();
        if self.take(']') {
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_whitespace();
            items.push(self.value()?);
            self.skip_whitespace();
            if self.take(']') {
                return Ok(Json::Array(items));
            }
            self.expect(',')?;
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.expect('"')?;
        let start = self.at;
        let mut unescaped: Option<String> = None;
        loop {
            let before = self.at;
            match self.next().ok_or(Fault::Malformed)? {
                '"' => {
                    return Ok(match unescaped {
                        Some(owned) => Cow::Owned(owned),
                        None => Cow::Borrowed(&self.text[start..before]),
                    });
                }
                '\\' => {
                    let escaped = self.escape()?;
                    unescaped
                        .get_or_insert_with(|| self.text[start..before].to_owned())
                        .push(escaped);
                }
                c if c < ' ' => return Err(Fault::Malformed),
                c => {
                    if let Some(owned) = &mut unescaped {
                        owned.push(c);
                    }
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        Ok(match self.next().ok_or(Fault::Malformed)? {
            '"' => '"',
            '\\' => '\\',
            '/' => '/',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode_escape()?,
            _ => return Err(Fault::Malformed),
        })
    }

    /// After `\u`: one unit, or two that form a surrogate pair. A lone surrogate is no character.
    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let first = self.hex4()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first).ok_or(Fault::Malformed);
        }
        self.expect('\\')?;
        self.expect('u')?;
        let second = self.hex4()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(Fault::Malformed);
        }
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(Fault::Malformed)
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|c| c.to_digit(16)).ok_or(Fault::Malformed)?;
            unit = unit * 16 + digit;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        self.take('-');
        if !self.take('0') {
            self.digits()?;
        }
        if self.take('.') {
            self.digits()?;
        }
        if self.take('e') || self.take('E') {
            let _signed = self.take('+') || self.take('-');
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while matches!(self.peek(), Some('0'..='9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(Fault::Malformed)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read_and_numbers_keep_their_text() {
        let value =
            parse(br#" {"n":-1.50e+3, "s":"a\"\u00e9\ud83d\ude00/\/", "l":[null,true,false], "o":{}} "#).unwrap();
        assert_eq!(value.last("n"), Some(&Json::Number("-1.50e+3")));
        assert_eq!(value.last("s"), Some(&Json::String("a\"é😀//".into())));
        assert_eq!(
            value.last("l"),
            Some(&Json::Array(vec![
                Json::Null,
                Json::Boolean(true),
                Json::Boolean(false)
            ]))
        );
        assert_eq!(value.last("o"), Some(&Json::Object(vec![])));
        assert_eq!(value.last("absent"), None);
    }

    #[test]
    fn of_duplicate_keys_the_last_counts_also_when_one_is_escaped() {
        let value = parse(br#"{"a":1,"\u0061":2}"#).unwrap();
        assert_eq!(value.last("a"), Some(&Json::Number("2")));
    }

    #[test]
    fn what_the_grammar_does_not_allow_is_malformed() {
        let cases: &[&[u8]] = &[
            b"",
            b" ",
            b"{",
            b"{\"a\":1,}",
            b"{\"a\" 1}",
            b"{a:1}",
            b"[1,]",
            b"[1 2]",
            b"{} {}",
            b"{}x",
            b"\xEF\xBB\xBF{}",
            b"\xFF",
            b"{\"a\":\"\xC3\"}",
            b"01",
            b"+1",
            b"1.",
            b".5",
            b"1e",
            b"-",
            b"NaN",
            b"Infinity",
            b"tru",
            b"nul",
            b"\"a",
            b"\"\n\"",
            b"\"\x00\"",
            b"\"\\x\"",
            b"\"\\u12\"",
            b"\"\\ud800\"",
            b"\"\\ud800x\"",
            b"\"\\ud800\\u0041\"",
            b"\"\\udc00\"",
            b"'a'",
            b"\x0c{}",
            b"{}\x00",
            b"/**/{}",
        ];
        for case in cases {
            assert_eq!(
                parse(case),
                Err(Fault::Malformed),
                "{:?}",
                String::from_utf8_lossy(case)
            );
        }
    }

    #[test]
    fn sixty_four_levels_are_read_and_one_more_is_too_deep() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(64).as_bytes()).is_ok());
        assert_eq!(parse(nested(65).as_bytes()), Err(Fault::TooDeep));
    }

    #[test]
    fn siblings_do_not_add_to_the_depth() {
        let many = format!("[{}]", vec!["[]"; 200].join(","));
        assert!(parse(many.as_bytes()).is_ok());
    }

    #[test]
    fn only_the_bare_number_is_a_number() {
        for yes in ["0", "-0", "1.5", "1e5", "1E-5", "-12.50e+03"] {
            assert!(is_number(yes), "{yes}");
        }
        for no in ["", " 1", "1 ", "+1", "01", "1.", ".1", "0x1", "1_0", "--1", "1e", "é"] {
            assert!(!is_number(no), "{no}");
        }
    }
}

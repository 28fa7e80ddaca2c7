//! One JSON object → one token per declared field.
//!
//! Owns: which field a key names, which of several equal keys counts (the last), and the count of keys nobody
//! declared.
//! Does not own: what is well-formed (`cursor`), what a token means for a field's type (`value`).

use std::collections::BTreeMap;
use std::mem;

use rustc_hash::FxHashMap;

use super::cursor::{Bracket, Buffers, Cursor, Malformed, plain_run};
use super::fault::{Fault, shorten};

/// Distinct undeclared names counted per batch; the rest share [`OTHER_NAMES`].
const MAX_UNKNOWN_NAMES: usize = 100;
/// No producer writes this name by accident: it starts with an ellipsis.
pub(super) const OTHER_NAMES: &str = "…other";

/// A value as it stands in the record, not yet judged. Texts are valid UTF-8, numbers follow the JSON grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Absent,
    Null,
    Boolean(bool),
    Number(&'a [u8]),
    /// A string without escapes, in place.
    Text(&'a [u8]),
    /// A string with escapes: a range of the record's buffer of decoded strings.
    Unescaped {
        start: usize,
        end: usize,
    },
    Array,
    Object,
}

impl<'a> Token<'a> {
    /// The characters of a string token.
    pub(super) fn text(self, unescaped: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Unescaped { start, end } => Some(&unescaped[start..end]),
            _ => None,
        }
    }
}

/// One record taken apart: a token per declared field. Reused from record to record.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    pub(super) fields: Vec<Token<'a>>,
    pub(super) unescaped: Vec<u8>,
}

impl Tokens<'_> {
    pub(super) fn new(fields: usize) -> Self {
        Self {
            fields: vec![Token::Absent; fields],
            unescaped: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.fields.fill(Token::Absent);
        self.unescaped.clear();
    }
}

/// Reads records of one stream; keeps what makes the next record cheaper.
#[derive(Debug)]
pub(super) struct ObjectReader {
    names: FieldNames,
    unknown: UnknownFields,
    buffers: Buffers,
}

impl ObjectReader {
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        Self {
            names: FieldNames::new(names),
            unknown: UnknownFields::default(),
            buffers: Buffers::default(),
        }
    }

    /// Replaces `tokens` by those of `payload`.
    pub(super) fn read<'a>(&mut self, payload: &'a [u8], tokens: &mut Tokens<'a>) -> Result<(), Fault> {
        tokens.clear();
        self.read_object(payload, tokens)
            .map_err(|malformed| malformed.into_fault(payload))
    }

    /// Occurrences of undeclared names since the last call.
    pub(super) fn take_unknown_fields(&mut self) -> BTreeMap<String, u64> {
        mem::take(&mut self.unknown.counts)
    }

    fn read_object<'a>(&mut self, payload: &'a [u8], tokens: &mut Tokens<'a>) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(payload, &mut self.buffers);
        if !cursor.open(Bracket::Object) {
            return Err(Malformed::NotAnObject);
        }
        let mut previous = None;
        let mut more = !cursor.close(Bracket::Object);
        while more {
            let field = match self.names.expect(&mut cursor, previous)? {
                Some(field) => Some(field),
                None => {
                    let key = cursor.key()?;
                    let field = self.names.find(key, previous);
                    if field.is_none() {
                        self.unknown.count(key);
                    }
                    field
                }
            };
            let token = cursor.value(&mut tokens.unescaped)?;
            if let Some(field) = field {
                tokens.fields[field] = token;
                previous = Some(field);
            }
            more = cursor.another(Bracket::Object)?;
        }
        cursor.finish()
    }
}

/// Declared names. A producer writes its keys in the same order every time, so the key that came after this one
/// in the last record is tried first, and one comparison is the usual cost of a key.
#[derive(Debug)]
struct FieldNames {
    /// `"name"` as it usually stands in a record; empty for a name that JSON has to escape.
    quoted: Vec<Box<[u8]>>,
    by_name: FxHashMap<Box<[u8]>, usize>,
    /// `successor[i + 1]` came after field `i`, `successor[0]` came first.
    successor: Vec<usize>,
}

impl FieldNames {
    fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let names: Vec<&[u8]> = names.map(str::as_bytes).collect();
        let quoted = |name: &&[u8]| match plain_run(name).len == name.len() {
            true => [b"\"", *name, b"\""].concat().into(),
            false => Box::default(),
        };
        Self {
            quoted: names.iter().map(quoted).collect(),
            // Until a record has been seen: the declared order.
            successor: (0..=names.len()).collect(),
            by_name: names.into_iter().map(Box::from).zip(0..).collect(),
        }
    }

    /// Consumes the next key if it is the one expected, in its usual form.
    #[inline]
    fn expect(&self, cursor: &mut Cursor<'_, '_>, previous: Option<usize>) -> Result<Option<usize>, Malformed> {
        let guess = self.successor[slot(previous)];
        match self.quoted.get(guess) {
            Some(quoted) if !quoted.is_empty() && cursor.eat_key(quoted)? => Ok(Some(guess)),
            _ => Ok(None),
        }
    }

    fn find(&mut self, name: &[u8], previous: Option<usize>) -> Option<usize> {
        let field = *self.by_name.get(name)?;
        self.successor[slot(previous)] = field;
        Some(field)
    }
}

fn slot(previous: Option<usize>) -> usize {
    previous.map_or(0, |field| field + 1)
}

#[derive(Debug, Default)]
struct UnknownFields {
    counts: BTreeMap<String, u64>,
}

impl UnknownFields {
    fn count(&mut self, name: &[u8]) {
        let name = std::str::from_utf8(shorten(name)).expect("a key is UTF-8, and is cut between characters");
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
            return;
        }
        let named = self.counts.len() - usize::from(self.counts.contains_key(OTHER_NAMES));
        let name = if named < MAX_UNKNOWN_NAMES { name } else { OTHER_NAMES };
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;

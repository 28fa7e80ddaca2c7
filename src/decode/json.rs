//! One JSON object → one token per declared field, over the `jiter` tokenizer.
//!
//! Owns: what well-formed means (one object in UTF-8, nothing before or after it), the nesting limit, which of
//! several equal keys counts (the last), and the count of keys nobody declared.
//! Does not own: what a token means for a field's type (`value`).
//!
//! The first problem in reading order is the one reported. Nothing recurses: nested values are walked with a bit
//! per open bracket, so neither stack nor heap grows with what a record claims to be.

use std::collections::BTreeMap;
use std::mem;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};
use rustc_hash::FxHashMap;

use super::fault::{Fault, shorten};
use super::number::Number;
use crate::batch::RejectCode;

/// Deepest nesting allowed; the record itself is level 1.
pub(super) const MAX_NESTING: u32 = 64;

/// Distinct undeclared names counted per batch; the rest share [`OTHER_NAMES`].
const MAX_UNKNOWN_NAMES: usize = 100;
/// No producer writes this name by accident: it starts with an ellipsis.
const OTHER_NAMES: &str = "…other";

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
    /// jiter's buffer for strings with escapes.
    tape: Vec<u8>,
    unknown: UnknownFields,
}

impl ObjectReader {
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        Self {
            names: FieldNames::new(names),
            tape: Vec::new(),
            unknown: UnknownFields::default(),
        }
    }

    /// Replaces `tokens` by those of `payload`.
    pub(super) fn read<'a>(&mut self, payload: &'a [u8], tokens: &mut Tokens<'a>) -> Result<(), Fault> {
        tokens.clear();
        let mut cursor = Cursor::new(payload, mem::take(&mut self.tape));
        let outcome = read_object(&mut cursor, &mut self.names, &mut self.unknown, tokens);
        self.tape = cursor.jiter.into_tape();
        outcome.map_err(|malformed| malformed.into_fault(payload))
    }

    /// Occurrences of undeclared names since the last call.
    pub(super) fn take_unknown_fields(&mut self) -> BTreeMap<String, u64> {
        mem::take(&mut self.unknown.counts)
    }
}

fn read_object<'a>(
    cursor: &mut Cursor<'a>,
    names: &mut FieldNames,
    unknown: &mut UnknownFields,
    tokens: &mut Tokens<'a>,
) -> Result<(), Malformed> {
    if cursor.peek()? != Peek::Object {
        return Err(Malformed::NotAnObject);
    }
    let mut previous = None;
    let mut key = cursor.jiter.known_object();
    while let Some(name) = at(cursor.base, key)? {
        let field = names.find(name, previous);
        if field.is_none() {
            unknown.count(name);
        }
        let token = cursor.value(&mut tokens.unescaped)?;
        if let Some(field) = field {
            tokens.fields[field] = token;
            previous = Some(field);
        }
        key = cursor.jiter.next_key();
    }
    at(cursor.base, cursor.jiter.finish())
}

/// Why a payload is not one JSON object within the limits.
#[derive(Debug)]
enum Malformed {
    Syntax { problem: JsonErrorType, at: usize },
    NotAnObject,
    TooDeep { at: usize },
}

impl Malformed {
    #[cold]
    fn into_fault(self, payload: &[u8]) -> Fault {
        let invalid = |error: String| Fault::new(RejectCode::InvalidJson, error);
        match self {
            Self::TooDeep { at } => Fault::new(
                RejectCode::TooDeep,
                format!("nesting exceeds {MAX_NESTING} levels at byte {at}"),
            ),
            _ if payload.is_empty() => invalid("the payload is empty, wanted a JSON object".to_owned()),
            _ if payload.starts_with(b"\xef\xbb\xbf") => {
                invalid("the payload starts with a byte order mark".to_owned())
            }
            Self::NotAnObject => invalid("the payload is not a JSON object".to_owned()),
            Self::Syntax { problem, at } => invalid(format!("not valid JSON: {problem} at byte {at}")),
        }
    }
}

/// A tokenizer's answer, with its position counted from the start of the payload.
fn at<T>(base: usize, result: Result<T, JiterError>) -> Result<T, Malformed> {
    result.map_err(|error| Malformed::Syntax {
        at: base + error.index,
        problem: match error.error_type {
            JiterErrorType::JsonError(problem) => problem,
            // Cannot arise: every value is read as what `peek` said it is.
            JiterErrorType::WrongType { .. } => JsonErrorType::ExpectedSomeValue,
        },
    })
}

/// The tokenizer over one payload.
struct Cursor<'a> {
    jiter: Jiter<'a>,
    /// What `jiter` was given: the payload, or its rest behind a very long number.
    data: &'a [u8],
    /// Where `data` starts within the payload.
    base: usize,
}

impl<'a> Cursor<'a> {
    fn new(payload: &'a [u8], tape: Vec<u8>) -> Self {
        Self {
            jiter: Jiter::with_tape(payload, tape),
            data: payload,
            base: 0,
        }
    }

    fn peek(&mut self) -> Result<Peek, Malformed> {
        at(self.base, self.jiter.peek())
    }

    fn value(&mut self, unescaped: &mut Vec<u8>) -> Result<Token<'a>, Malformed> {
        Ok(match self.peek()? {
            Peek::String => self.string(unescaped)?,
            Peek::Null => {
                at(self.base, self.jiter.known_null())?;
                Token::Null
            }
            peek @ (Peek::True | Peek::False) => Token::Boolean(at(self.base, self.jiter.known_bool(peek))?),
            peek @ (Peek::Array | Peek::Object) => {
                self.skip_nested(peek)?;
                if peek == Peek::Array {
                    Token::Array
                } else {
                    Token::Object
                }
            }
            peek => Token::Number(self.number(peek)?),
        })
    }

    fn string(&mut self, unescaped: &mut Vec<u8>) -> Result<Token<'a>, Malformed> {
        let data = self.data;
        let text = at(self.base, self.jiter.known_str())?.as_bytes();
        // jiter hands out a slice of its input, or of its tape where it had to decode escapes. Only the first
        // may be kept, and only its address tells which of the two it is.
        let bounds = data.as_ptr_range();
        if bounds.contains(&text.as_ptr()) {
            let start = text.as_ptr() as usize - bounds.start as usize;
            return Ok(Token::Text(&data[start..start + text.len()]));
        }
        let start = unescaped.len();
        unescaped.extend_from_slice(text);
        let end = unescaped.len();
        Ok(Token::Unescaped { start, end })
    }

    fn number(&mut self, peek: Peek) -> Result<&'a [u8], Malformed> {
        let start = self.jiter.current_index();
        match self.jiter.known_number_bytes(peek) {
            Ok(_) => Ok(self.jiter.slice_to_current(start)),
            Err(error) if error.error_type == JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange) => {
                self.long_number(start)
            }
            Err(error) => at(self.base, Err(error)),
        }
    }

    /// jiter gives up on integers over 4,300 digits, which are JSON all the same: measure the number here and
    /// let it go on behind.
    #[cold]
    fn long_number(&mut self, start: usize) -> Result<&'a [u8], Malformed> {
        let text = &self.data[start..];
        let Some((_, len)) = Number::prefix(text) else {
            return Err(Malformed::Syntax {
                problem: JsonErrorType::InvalidNumber,
                at: self.base + start,
            });
        };
        let (number, rest) = text.split_at(len);
        let tape = mem::replace(&mut self.jiter, Jiter::new(rest)).into_tape();
        self.jiter = Jiter::with_tape(rest, tape);
        self.base += start + len;
        self.data = rest;
        Ok(number)
    }

    /// Walks over an array or object, checking everything in it. `known_skip` would be shorter, but lets
    /// invalid UTF-8 pass and has its own idea of how deep is too deep.
    fn skip_nested(&mut self, opening: Peek) -> Result<(), Malformed> {
        let mut open = OpenBrackets::default();
        let mut next = opening;
        loop {
            let first = match next {
                Peek::Array => {
                    open.push(Bracket::Array, self.index())?;
                    at(self.base, self.jiter.known_array())?
                }
                Peek::Object => {
                    open.push(Bracket::Object, self.index())?;
                    let key = self.jiter.known_object().map(|key| key.is_some());
                    self.value_behind_key(key)?
                }
                scalar => {
                    self.skip_scalar(scalar)?;
                    self.step(open.innermost())?
                }
            };
            let mut following = first;
            next = loop {
                if let Some(peek) = following {
                    break peek;
                }
                open.pop();
                if open.is_empty() {
                    return Ok(());
                }
                following = self.step(open.innermost())?;
            };
        }
    }

    /// The next value within a bracket, or `None` behind its end.
    fn step(&mut self, bracket: Bracket) -> Result<Option<Peek>, Malformed> {
        match bracket {
            Bracket::Array => at(self.base, self.jiter.array_step()),
            Bracket::Object => {
                let key = self.jiter.next_key().map(|key| key.is_some());
                self.value_behind_key(key)
            }
        }
    }

    fn value_behind_key(&mut self, key: Result<bool, JiterError>) -> Result<Option<Peek>, Malformed> {
        at(self.base, key)?.then(|| self.peek()).transpose()
    }

    fn skip_scalar(&mut self, peek: Peek) -> Result<(), Malformed> {
        match peek {
            Peek::String => at(self.base, self.jiter.known_str().map(drop)),
            Peek::Null => at(self.base, self.jiter.known_null()),
            Peek::True | Peek::False => at(self.base, self.jiter.known_bool(peek).map(drop)),
            _ => self.number(peek).map(drop),
        }
    }

    fn index(&self) -> usize {
        self.base + self.jiter.current_index()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Array,
    Object,
}

/// The brackets open inside the record's own, innermost in the lowest bit (1 = object).
#[derive(Default)]
struct OpenBrackets {
    kinds: u64,
    count: u32,
}

impl OpenBrackets {
    fn push(&mut self, bracket: Bracket, at: usize) -> Result<(), Malformed> {
        if self.count + 1 == MAX_NESTING {
            return Err(Malformed::TooDeep { at });
        }
        self.kinds = self.kinds << 1 | u64::from(bracket == Bracket::Object);
        self.count += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.kinds >>= 1;
        self.count -= 1;
    }

    fn innermost(&self) -> Bracket {
        if self.kinds & 1 == 1 {
            Bracket::Object
        } else {
            Bracket::Array
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Declared names. A producer writes its keys in the same order every time, so the key that came after this one
/// in the last record is tried first, and one comparison is the usual cost of a lookup.
#[derive(Debug)]
struct FieldNames {
    names: Vec<Box<str>>,
    by_name: FxHashMap<Box<str>, usize>,
    /// `successor[i + 1]` came after field `i`, `successor[0]` came first.
    successor: Vec<usize>,
}

impl FieldNames {
    fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let names: Vec<Box<str>> = names.map(Box::from).collect();
        Self {
            by_name: names.iter().cloned().zip(0..).collect(),
            // Until a record has been seen: the declared order.
            successor: (0..=names.len()).collect(),
            names,
        }
    }

    fn find(&mut self, name: &str, previous: Option<usize>) -> Option<usize> {
        let guess = &mut self.successor[previous.map_or(0, |field| field + 1)];
        if self.names.get(*guess).is_some_and(|expected| **expected == *name) {
            return Some(*guess);
        }
        let field = *self.by_name.get(name)?;
        *guess = field;
        Some(field)
    }
}

#[derive(Debug, Default)]
struct UnknownFields {
    counts: BTreeMap<String, u64>,
}

impl UnknownFields {
    fn count(&mut self, name: &str) {
        let short = shorten(name.as_bytes()).len();
        let name = &name[..short];
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

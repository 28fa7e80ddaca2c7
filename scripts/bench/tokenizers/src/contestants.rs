//! The tokenizers, each reduced to the same task.
//!
//! Owns: per library the cheapest way found to get at a number's text; keys go through one look-up for all, which
//! tries the key that came next in the last record first, as affluent's does.
//! Does not own: judging them (`main`, `exactness`).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use jiter::{Jiter, JiterError, Peek};
use rustc_hash::FxHashMap;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use simd_json::{Buffers, Node, StaticNode, Tape};
use sonic_rs::LazyValue;

use crate::json::{ObjectReader, Token, Tokens};

pub trait Tokenizer {
    fn name(&self) -> &'static str;
    /// Replaces `tokens` by those of `payload`.
    fn read<'p>(&mut self, payload: &'p [u8], tokens: &mut Tokens<'p>) -> Result<(), String>;
}

pub fn all(names: &[String]) -> Vec<Box<dyn Tokenizer>> {
    vec![
        Box::new(Affluent(ObjectReader::new(names.iter().map(String::as_str)))),
        Box::new(JiterIterator {
            names: Names::new(names),
            tape: Vec::new(),
        }),
        Box::new(SonicIterator(Names::new(names))),
        Box::new(SonicSerde(Names::new(names))),
        Box::new(SerdeJson(Names::new(names))),
        Box::new(SimdJson {
            names: Names::new(names),
            copy: Vec::new(),
            buffers: Buffers::default(),
            tape: Some(Tape::null()),
        }),
    ]
}

struct Affluent(ObjectReader);

impl Tokenizer for Affluent {
    fn name(&self) -> &'static str {
        "affluent"
    }

    fn read<'p>(&mut self, payload: &'p [u8], tokens: &mut Tokens<'p>) -> Result<(), String> {
        self.0.read(payload, tokens).map_err(|fault| fault.into_reject(0).error)
    }
}

/// jiter's iterator. What it hands out borrows the iterator, so positions are taken instead.
struct JiterIterator {
    names: Names,
    tape: Vec<u8>,
}

impl Tokenizer for JiterIterator {
    fn name(&self) -> &'static str {
        "jiter"
    }

    fn read<'p>(&mut self, payload: &'p [u8], tokens: &mut Tokens<'p>) -> Result<(), String> {
        clear(tokens);
        let mut jiter = Jiter::with_tape(payload, std::mem::take(&mut self.tape));
        let read = self.members(payload, &mut jiter, tokens);
        self.tape = jiter.into_tape();
        read.map_err(|error| error.error_type.to_string())
    }
}

impl JiterIterator {
    fn members<'p>(
        &mut self,
        payload: &'p [u8],
        jiter: &mut Jiter<'p>,
        tokens: &mut Tokens<'p>,
    ) -> Result<(), JiterError> {
        let mut previous = None;
        let mut field = jiter
            .next_object()?
            .map(|key| self.names.find(key.as_bytes(), previous));
        while let Some(found) = field {
            let peek = jiter.peek()?;
            match found {
                None => jiter.known_skip(peek)?,
                Some(index) => {
                    tokens.fields[index] = value(payload, jiter, peek, &mut tokens.unescaped)?;
                    previous = found;
                }
            }
            field = jiter.next_key()?.map(|key| self.names.find(key.as_bytes(), previous));
        }
        jiter.finish()
    }
}

fn value<'p>(
    payload: &'p [u8],
    jiter: &mut Jiter<'p>,
    peek: Peek,
    unescaped: &mut Vec<u8>,
) -> Result<Token<'p>, JiterError> {
    Ok(match peek {
        Peek::Null => jiter.known_null().map(|()| Token::Null)?,
        Peek::True | Peek::False => Token::Boolean(jiter.known_bool(peek)?),
        Peek::String => {
            let text = jiter.known_str()?;
            let (start, length) = (text.as_ptr() as usize - payload.as_ptr() as usize, text.len());
            match payload.get(start..start + length) {
                Some(text) => Token::Text(text),
                None => append(unescaped, text.as_bytes()),
            }
        }
        Peek::Array | Peek::Object => {
            jiter.known_skip(peek)?;
            if peek == Peek::Array {
                Token::Array
            } else {
                Token::Object
            }
        }
        _ => {
            let length = jiter.known_number_bytes(peek)?.len();
            let end = jiter.current_index();
            Token::Number(&payload[end - length..end])
        }
    })
}

/// sonic-rs' lazy iterator. It ends at the object's brace: nobody looks at what stands behind that.
struct SonicIterator(Names);

impl Tokenizer for SonicIterator {
    fn name(&self) -> &'static str {
        "sonic-rs-iterator"
    }

    fn read<'p>(&mut self, payload: &'p [u8], tokens: &mut Tokens<'p>) -> Result<(), String> {
        clear(tokens);
        let mut previous = None;
        for member in sonic_rs::to_object_iter(payload) {
            let (key, value) = member.map_err(|error| error.to_string())?;
            if let Some(field) = self.0.find(key.as_bytes(), previous) {
                tokens.fields[field] = value.token(&mut tokens.unescaped)?;
                previous = Some(field);
            }
        }
        Ok(())
    }
}

/// sonic-rs through serde, to the payload's end.
struct SonicSerde(Names);

impl Tokenizer for SonicSerde {
    fn name(&self) -> &'static str {
        "sonic-rs-serde"
    }

    fn read<'p>(&mut self, payload: &'p [u8], tokens: &mut Tokens<'p>) -> Result<(), String> {
        clear(tokens);
        // Its own `from_slice` checks UTF-8 at the end; a deserializer that is driven by hand never does.
        let payload = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let mut deserializer = sonic_rs::Deserializer::from_str(payload);
        let members: Members<'_, '_, 'p, LazyValue<'p>> = Members::new(&mut self.0, tokens);
        let read = deserializer.deserialize_map(members);
        read.and_then(|()| deserializer.end())
            .map_err(|error| error.to_string())
    }
}

/// serde_json's raw values; with its `arbitrary_precision` every number would be a `String` of its own.
struct SerdeJson(Names);

impl Tokenizer for SerdeJson {
    fn name(&self) -> &'static str {
        "serde_json-raw"
    }

    fn read<'p>(&mut self, payload: &'p [u8], tokens: &mut Tokens<'p>) -> Result<(), String> {
        clear(tokens);
        let mut deserializer = serde_json::Deserializer::from_slice(payload);
        let members: Members<'_, '_, 'p, &'p RawValue> = Members::new(&mut self.0, tokens);
        let read = deserializer.deserialize_map(members);
        read.and_then(|()| deserializer.end())
            .map_err(|error| error.to_string())
    }
}

/// A value as a library hands out its text.
trait Raw<'p>: Deserialize<'p> {
    fn token(&self, unescaped: &mut Vec<u8>) -> Result<Token<'p>, String>;
}

impl<'p> Raw<'p> for LazyValue<'p> {
    fn token(&self, unescaped: &mut Vec<u8>) -> Result<Token<'p>, String> {
        let decoded = |raw: &str| sonic_rs::from_str(raw).map_err(|error| error.to_string());
        match self.as_raw_cow() {
            Cow::Borrowed(raw) => raw_token(raw, unescaped, decoded),
            // Through serde a string with escapes comes as a copy.
            Cow::Owned(raw) => Ok(append(unescaped, decoded(&raw)?.as_bytes())),
        }
    }
}

impl<'p> Raw<'p> for &'p RawValue {
    fn token(&self, unescaped: &mut Vec<u8>) -> Result<Token<'p>, String> {
        raw_token(self.get(), unescaped, |raw| {
            serde_json::from_str(raw).map_err(|error| error.to_string())
        })
    }
}

fn raw_token<'p>(
    raw: &'p str,
    unescaped: &mut Vec<u8>,
    decoded: impl Fn(&str) -> Result<String, String>,
) -> Result<Token<'p>, String> {
    let bytes = raw.as_bytes();
    Ok(match bytes[0] {
        b'"' if !bytes.contains(&b'\\') => Token::Text(&bytes[1..bytes.len() - 1]),
        b'"' => append(unescaped, decoded(raw)?.as_bytes()),
        b'n' => Token::Null,
        b't' => Token::Boolean(true),
        b'f' => Token::Boolean(false),
        b'[' => Token::Array,
        b'{' => Token::Object,
        _ => Token::Number(bytes),
    })
}

/// A record's members, each value as a `V`.
struct Members<'n, 't, 'p, V> {
    names: &'n mut Names,
    tokens: &'t mut Tokens<'p>,
    values: PhantomData<V>,
}

impl<'n, 't, 'p, V> Members<'n, 't, 'p, V> {
    fn new(names: &'n mut Names, tokens: &'t mut Tokens<'p>) -> Self {
        Self {
            names,
            tokens,
            values: PhantomData,
        }
    }
}

impl<'p, V: Raw<'p>> Visitor<'p> for Members<'_, '_, 'p, V> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'p>>(self, mut members: A) -> Result<(), A::Error> {
        let mut previous = None;
        loop {
            let key = Key {
                names: self.names,
                previous,
            };
            let Some(found) = members.next_key_seed(key)? else {
                return Ok(());
            };
            let value: V = members.next_value()?;
            if let Some(field) = found {
                self.tokens.fields[field] = value.token(&mut self.tokens.unescaped).map_err(A::Error::custom)?;
                previous = found;
            }
        }
    }
}

/// The field that a key names.
struct Key<'n> {
    names: &'n mut Names,
    previous: Option<usize>,
}

impl<'p> DeserializeSeed<'p> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.find(key.as_bytes(), self.previous))
    }
}

/// simd-json's tape. It has a number as `i64`, `u64` or `f64` and forgets the text: no candidate, but the mark of how
/// fast a tape could be. It unescapes in its input, which therefore is a copy.
struct SimdJson {
    names: Names,
    copy: Vec<u8>,
    buffers: Buffers,
    /// Between two records it borrows nothing.
    tape: Option<Tape<'static>>,
}

impl Tokenizer for SimdJson {
    fn name(&self) -> &'static str {
        "simd-json-tape"
    }

    fn read<'p>(&mut self, payload: &'p [u8], tokens: &mut Tokens<'p>) -> Result<(), String> {
        clear(tokens);
        self.copy.clear();
        self.copy.extend_from_slice(payload);
        let mut tape = self.tape.take().unwrap_or_else(Tape::null).reset();
        let read = simd_json::fill_tape(&mut self.copy, &mut self.buffers, &mut tape)
            .map_err(|error| error.to_string())
            .and_then(|()| members_of_tape(&tape.0, &mut self.names, tokens));
        self.tape = Some(tape.reset());
        read
    }
}

fn members_of_tape(tape: &[Node<'_>], names: &mut Names, tokens: &mut Tokens<'_>) -> Result<(), String> {
    let Some(Node::Object { len, .. }) = tape.first() else {
        return Err("not an object".to_owned());
    };
    let (mut at, mut previous) = (1, None);
    for _ in 0..*len {
        let Some(Node::String(key)) = tape.get(at) else {
            return Err("a key is no string".to_owned());
        };
        let found = names.find(key.as_bytes(), previous);
        let (token, nodes) = match tape[at + 1] {
            Node::String(text) if found.is_some() => (append(&mut tokens.unescaped, text.as_bytes()), 1),
            Node::String(_) => (Token::Absent, 1),
            Node::Array { count, .. } => (Token::Array, 1 + count),
            Node::Object { count, .. } => (Token::Object, 1 + count),
            Node::Static(StaticNode::Null) => (Token::Null, 1),
            Node::Static(StaticNode::Bool(value)) => (Token::Boolean(value), 1),
            Node::Static(_) => (Token::Number(b""), 1),
        };
        if let Some(field) = found {
            tokens.fields[field] = token;
            previous = found;
        }
        at += 1 + nodes;
    }
    Ok(())
}

fn clear(tokens: &mut Tokens<'_>) {
    tokens.fields.fill(Token::Absent);
    tokens.unescaped.clear();
}

fn append(unescaped: &mut Vec<u8>, text: &[u8]) -> Token<'static> {
    let start = unescaped.len();
    unescaped.extend_from_slice(text);
    Token::Unescaped {
        start,
        end: unescaped.len(),
    }
}

/// The declared names.
struct Names {
    names: Vec<Vec<u8>>,
    by_name: FxHashMap<Vec<u8>, usize>,
    /// `successor[i + 1]` came after field `i` in the last record, `successor[0]` came first.
    successor: Vec<usize>,
}

impl Names {
    fn new(names: &[String]) -> Self {
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.clone().into_bytes()).collect();
        Self {
            by_name: names.iter().cloned().zip(0..).collect(),
            successor: (0..=names.len()).collect(),
            names,
        }
    }

    fn find(&mut self, key: &[u8], previous: Option<usize>) -> Option<usize> {
        let slot = previous.map_or(0, |field| field + 1);
        let guess = self.successor[slot];
        if self.names.get(guess).is_some_and(|name| name == key) {
            return Some(guess);
        }
        let field = *self.by_name.get(key)?;
        self.successor[slot] = field;
        Some(field)
    }
}

//! The layers before anything is judged: a tree of values, each with the place it was written.
//!
//! Owns: reading TOML with line numbers, environment variables and `--set` into one tree, and how a higher
//! layer covers a lower one: tables merge key by key, everything else is replaced.
//! Does not own: which keys exist and what they may hold (`resolve` and below).

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Report};
use super::secret::is_secret_key;

pub(super) type Table = BTreeMap<String, Node>;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// From the environment or a flag: no type of its own, read as whatever the key needs.
    Untyped(String),
    String(String),
    /// Number as written, so that nothing is rounded before its key says what it is.
    Number(String),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
}

/// Prefix of the environment variables that are configuration.
pub(super) const ENVIRONMENT_PREFIX: &str = "AFFLUENT__";

/// Parses a document; `origin` turns a line into the place that reports name. Every syntax error is added.
pub(super) fn parse_document(text: &str, origin: &dyn Fn(usize) -> Origin, report: &Report) -> Table {
    let place = |span: Range<usize>| origin(line_of(text, span.start));
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        // No fallback to the excerpt in the error's `Display`: the line may hold a secret.
        let at = error.span().map_or_else(|| origin(0), &place);
        report.add(&at, "", error.message());
    }
    table(document.into_inner(), &place)
}

fn line_of(text: &str, byte: usize) -> usize {
    let end = byte.min(text.len());
    1 + text.as_bytes()[..end].iter().filter(|b| **b == b'\n').count()
}

fn table(table: DeTable<'_>, place: &dyn Fn(Range<usize>) -> Origin) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            // The key's place, not the value's: a table's own span is that of its header only by luck.
            let origin = place(key.span());
            let value = convert(value.into_inner(), place);
            (key.into_inner().into_owned(), Node { value, origin })
        })
        .collect()
}

fn convert(value: DeValue<'_>, place: &dyn Fn(Range<usize>) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Value::Number(number.as_str().to_owned()),
        DeValue::Integer(number) => Value::Number(
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string(), |n| n.to_string()),
        ),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        // `start = 2026-01-01T00:00:00Z` without quotes means the same as with them.
        DeValue::Datetime(instant) => Value::String(instant.to_string()),
        DeValue::Array(items) => Value::Array(items.into_iter().map(|item| element(item, place)).collect()),
        DeValue::Table(entries) => Value::Table(table(entries, place)),
    }
}

fn element(item: Spanned<DeValue<'_>>, place: &dyn Fn(Range<usize>) -> Origin) -> Node {
    let origin = place(item.span());
    Node {
        value: convert(item.into_inner(), place),
        origin,
    }
}

/// Lays `over` onto `base`.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, node) in over {
        match base.get_mut(&key) {
            Some(Node {
                value: Value::Table(below),
                origin,
            }) => match node.value {
                Value::Table(above) => {
                    *origin = node.origin;
                    merge(below, above);
                }
                _ => {
                    base.insert(key, node);
                }
            },
            _ => {
                base.insert(key, node);
            }
        }
    }
}

/// One `AFFLUENT__…` variable onto the tree. Other variables are none of ours and are left out before.
pub(super) fn set_variable(root: &mut Table, name: &str, value: &str, report: &Report) {
    let origin = Origin::Environment(name.into());
    let key = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
    let mut path: Vec<String> = Vec::new();
    for segment in key.split("__") {
        path.push(if path.last().is_some_and(|last| last == "properties") {
            property_name(segment)
        } else {
            segment.to_ascii_lowercase()
        });
    }
    set(root, &path, value, &origin, report);
}

/// librdkafka's names have dots, which most shells cannot put into a variable's name: an all-upper-case
/// segment has `_` for `.`, any other is taken as it is.
fn property_name(segment: &str) -> String {
    if segment.chars().any(|c| c.is_ascii_lowercase()) {
        segment.to_owned()
    } else {
        segment.to_ascii_lowercase().replace('_', ".")
    }
}

/// One `--set KEY=VALUE` onto the tree.
pub(super) fn set_flag(root: &mut Table, assignment: &str, report: &Report) {
    let Some((key, value)) = assignment.split_once('=') else {
        // The text is not repeated: it may be a secret whose key was forgotten.
        let message = "wants KEY=VALUE, as in --set lake.commit_interval=5s";
        return report.add(&Origin::Flag("--set".into()), "", message);
    };
    let key = key.trim();
    let mut path: Vec<String> = Vec::new();
    let mut rest = key;
    // Below a map of free keys the rest is one key, dots included.
    while !path
        .last()
        .is_some_and(|last| last == "properties" || last == "storage")
    {
        let Some((segment, after)) = rest.split_once('.') else {
            break;
        };
        path.push(segment.to_owned());
        rest = after;
    }
    path.push(rest.to_owned());
    set(root, &path, value, &Origin::Flag(format!("--set {key}").into()), report);
}

fn set(root: &mut Table, path: &[String], text: &str, origin: &Origin, report: &Report) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    if path.iter().any(String::is_empty) {
        return report.add(origin, path.join("."), "the key has an empty part");
    }
    let mut table = root;
    let mut walked = String::new();
    let mut steps = parents.iter();
    while let Some(step) = steps.next() {
        walked = if walked.is_empty() {
            step.clone()
        } else {
            format!("{walked}.{step}")
        };
        let node = table.entry(step.clone()).or_insert_with(|| Node {
            value: Value::Table(Table::new()),
            origin: origin.clone(),
        });
        let found = match &mut node.value {
            Value::Table(inner) => Some(inner),
            Value::Array(items) => match steps.next().map(|name| (name, find_element(items, name))) {
                Some((_, Some(inner))) => Some(inner),
                Some((name, None)) => return report.add(origin, path.join("."), format!("{walked} has no \"{name}\"")),
                None => None,
            },
            _ => None,
        };
        let Some(inner) = found else {
            return report.add(
                origin,
                path.join("."),
                format!("{walked} is a single value and has no keys below it"),
            );
        };
        table = inner;
    }
    let value = untyped(last, text, origin);
    table.insert(
        last.clone(),
        Node {
            value,
            origin: origin.clone(),
        },
    );
}

/// Lists of tables are addressed by `name` (a stream also by `preset`, where it has no name) or by position.
fn find_element<'a>(items: &'a mut [Node], wanted: &str) -> Option<&'a mut Table> {
    let position = items
        .iter()
        .position(|item| match &item.value {
            Value::Table(table) => ["name", "preset"]
                .iter()
                .find_map(|key| table.get(*key))
                .is_some_and(|node| matches!(&node.value, Value::String(name) if name.eq_ignore_ascii_case(wanted))),
            _ => false,
        })
        .or_else(|| wanted.parse().ok())?;
    match &mut items.get_mut(position)?.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// Lists and tables are written as TOML, everything else as its plain text.
fn untyped(key: &str, text: &str, origin: &Origin) -> Value {
    let structured = text.trim_start().starts_with(['[', '{']) && !is_secret_key(key);
    match DeValue::parse(text.trim()) {
        Ok(value) if structured => convert(value.into_inner(), &|_| origin.clone()),
        _ => Value::Untyped(text.to_owned()),
    }
}

//! Reads one table of the tree, key by key, and knows afterwards which keys nobody asked for.
//!
//! Owns: typed reading with human units, messages for wrong values, unknown keys with "did you mean".
//! Does not own: which keys a section has — the reader asks for them, so the list of known keys can never
//! drift from what is really read.
//!
//! A read answers `None` after it has reported the problem; readers ask for all keys first and only then
//! give up with `?`, so that one run reports everything.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use super::layer::{Node, Table, Value};
use super::problem::{Origin, Report};
use super::secret::mask;

pub(super) struct Section<'a> {
    /// Dotted path for reports; empty at the root.
    path: String,
    /// Where the table itself was written: the place of a missing key.
    origin: Origin,
    table: &'a Table,
    asked: RefCell<Vec<&'static str>>,
    report: &'a Report,
    partial: bool,
}

impl<'a> Section<'a> {
    pub(super) fn new(path: impl Into<String>, origin: Origin, table: &'a Table, report: &'a Report) -> Self {
        Self {
            path: path.into(),
            origin,
            table,
            asked: RefCell::default(),
            report,
            partial: false,
        }
    }

    /// An override of another section, or a stream whose preset is unknown: a key that is missing here is none
    /// to report.
    pub(super) fn partial(self) -> Self {
        Self { partial: true, ..self }
    }

    /// Adds a problem with this key, at the place where its value was written.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.report.add(&self.origin_of(key), self.path_of(key), message);
    }

    /// The same for a key that is not there.
    pub(super) fn missing(&self, key: &str, message: impl Into<String>) {
        if !self.partial {
            self.problem(key, message);
        }
    }

    pub(super) fn origin_of(&self, key: &str) -> Origin {
        self.table.get(key).map_or(&self.origin, |node| &node.origin).clone()
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }

    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// Is the key there? Counts as having asked for it.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// Reads a value; `missing` is what an absent key means, `None` that it may not be absent.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        missing: Option<T>,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        match self.node(key) {
            Some(node) => parse(node).map_err(|message| self.problem(key, message)).ok(),
            None => missing.or_else(|| {
                self.missing(key, "is required");
                None
            }),
        }
    }

    /// Reads a text and what it stands for.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        missing: Option<T>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.read(key, missing, |node| parse(text(key, node)?))
    }

    pub(super) fn boolean(&self, key: &'static str, missing: Option<bool>) -> Option<bool> {
        self.read(key, missing, |node| match &node.value {
            Value::Boolean(flag) => Ok(*flag),
            Value::Untyped(text) if text == "true" => Ok(true),
            Value::Untyped(text) if text == "false" => Ok(false),
            other => Err(format!("wants true or false, {}", found(key, other))),
        })
    }

    pub(super) fn integer(
        &self,
        key: &'static str,
        missing: Option<usize>,
        allowed: RangeInclusive<usize>,
    ) -> Option<usize> {
        self.read(key, missing, |node| {
            let number = match &node.value {
                Value::Number(text) | Value::Untyped(text) => text.replace('_', "").parse().ok(),
                _ => None,
            };
            number.filter(|n| allowed.contains(n)).ok_or_else(|| {
                let (least, most) = (allowed.start(), allowed.end());
                format!(
                    "wants a whole number from {least} to {most}, {}",
                    found(key, &node.value)
                )
            })
        })
    }

    pub(super) fn duration(
        &self,
        key: &'static str,
        missing: Option<Duration>,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.read(key, missing, |node| {
            let duration = match &node.value {
                Value::String(text) | Value::Untyped(text) => humantime::parse_duration(text).ok(),
                _ => None,
            };
            let Some(duration) = duration else {
                let found = found(key, &node.value);
                return Err(format!(
                    "wants a duration with its unit, such as \"500ms\" or \"60s\", {found}"
                ));
            };
            if allowed.contains(&duration) {
                return Ok(duration);
            }
            let least = humantime::format_duration(*allowed.start());
            let most = humantime::format_duration(*allowed.end());
            Err(format!(
                "wants a duration from {least} to {most}, {}",
                found(key, &node.value)
            ))
        })
    }

    pub(super) fn size(&self, key: &'static str, missing: Option<u64>, allowed: RangeInclusive<u64>) -> Option<u64> {
        self.read(key, missing, |node| {
            let size = match &node.value {
                Value::String(text) | Value::Untyped(text) | Value::Number(text) => text.parse::<ByteSize>().ok(),
                _ => None,
            };
            let Some(ByteSize(size)) = size else {
                let found = found(key, &node.value);
                return Err(format!("wants a size, such as \"128MiB\", {found}"));
            };
            if allowed.contains(&size) {
                return Ok(size);
            }
            let (least, most) = (ByteSize(*allowed.start()), ByteSize(*allowed.end()));
            Err(format!(
                "wants a size from {least} to {most}, {}",
                found(key, &node.value)
            ))
        })
    }

    /// Names in a list, each with its place; from the environment or a flag also separated by commas.
    pub(super) fn names(&self, key: &'static str) -> Option<Vec<(String, Origin)>> {
        self.read(key, Some(Vec::new()), |node| match &node.value {
            Value::Array(items) => items
                .iter()
                .map(|item| Ok((text(key, item)?.to_owned(), item.origin.clone())))
                .collect(),
            Value::Untyped(text) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(|name| (name.to_owned(), node.origin.clone()))
                .collect()),
            other => Err(format!("wants a list of names, {}", found(key, other))),
        })
    }

    /// A table below this one. Absent: `None` without a report.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let node = self.node(key)?;
        self.enter(self.path_of(key), node)
    }

    /// The tables of a list, `path` naming each for reports by its `name` or position.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let items = match self.node(key).map(|node| &node.value) {
            Some(Value::Array(items)) => items.as_slice(),
            None => &[],
            Some(other) => {
                self.problem(key, format!("wants a list of tables, {}", found(key, other)));
                &[]
            }
        };
        let items = items.iter().enumerate();
        items
            .filter_map(|(position, item)| self.enter(format!("{}.{}", self.path_of(key), label(position, item)), item))
            .collect()
    }

    /// A map of free keys to texts. A key with dots that was written without quotes arrived as nested tables
    /// and is put together again.
    pub(super) fn map(&self, key: &'static str) -> BTreeMap<String, (String, Origin)> {
        let mut texts = BTreeMap::new();
        if let Some(section) = self.section(key) {
            section.flatten("", section.table, &mut texts);
        }
        texts
    }

    fn flatten(&self, prefix: &str, table: &Table, texts: &mut BTreeMap<String, (String, Origin)>) {
        for (key, node) in table {
            let key = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            let value = match &node.value {
                Value::Table(inner) => {
                    self.flatten(&key, inner, texts);
                    continue;
                }
                Value::String(text) | Value::Untyped(text) | Value::Number(text) => text.clone(),
                Value::Boolean(flag) => flag.to_string(),
                Value::Array(_) => {
                    self.report
                        .add(&node.origin, self.path_of(&key), "wants a text, found a list");
                    continue;
                }
            };
            texts.insert(key, (value, node.origin.clone()));
        }
    }

    /// Reports every key that nobody asked for. The last thing to do with a section.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, node) in self.table.iter().filter(|(key, _)| !asked.contains(&key.as_str())) {
            let hint = match closest(key, &asked) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known here: {}", asked.join(", ")),
            };
            self.report
                .add(&node.origin, self.path_of(key), format!("unknown key; {hint}"));
        }
    }

    fn enter(&self, path: String, node: &'a Node) -> Option<Section<'a>> {
        match &node.value {
            Value::Table(table) => Some(Section::new(path, node.origin.clone(), table, self.report)),
            other => {
                self.report
                    .add(&node.origin, path, format!("wants a table, {}", found("", other)));
                None
            }
        }
    }

    fn node(&self, key: &'static str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table.get(key)
    }
}

fn text<'n>(key: &str, node: &'n Node) -> Result<&'n str, String> {
    match &node.value {
        Value::String(text) | Value::Untyped(text) => Ok(text),
        other => Err(format!("wants a text, {}", found(key, other))),
    }
}

/// "found …", with secrets hidden.
fn found(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) | Value::Untyped(text) => format!("found {:?}", mask(key, text)),
        Value::Number(text) => format!("found {}", mask(key, text)),
        Value::Boolean(flag) => format!("found {flag}"),
        Value::Array(_) => "found a list".to_owned(),
        Value::Table(_) => "found a table".to_owned(),
    }
}

fn label(position: usize, item: &Node) -> String {
    let name = match &item.value {
        Value::Table(table) => table.get("name").or_else(|| table.get("preset")),
        _ => None,
    };
    match name.map(|node| &node.value) {
        Some(Value::String(name) | Value::Untyped(name)) if !name.is_empty() => name.clone(),
        _ => position.to_string(),
    }
}

/// The candidate that a person most likely meant, if any is near.
pub(super) fn closest<'k>(wanted: &str, candidates: &[&'k str]) -> Option<&'k str> {
    let wanted = wanted.to_lowercase();
    let near = |candidate: &str| strsim::osa_distance(&wanted, candidate) <= 1 + wanted.chars().count().min(12) / 4;
    candidates
        .iter()
        .copied()
        .filter(|candidate| near(candidate))
        .min_by_key(|candidate| strsim::osa_distance(&wanted, candidate))
}

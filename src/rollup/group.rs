//! Grouping rows by bucket and dimensions through codes.
//!
//! Owns: the coding of columns (each at most once per call) and the folding of codes into group numbers.
//! Does not own: what is added up per group (`measure`).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

use arrow::array::cast::AsArray;
use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, RecordBatch};
use arrow::datatypes::DataType;
use chrono_tz::Tz;
use rustc_hash::FxHashMap;

use super::{Buckets, Value};
use crate::config::Every;

pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A coded column: one code per row over all batches, and the value behind each code.
pub(super) struct Coded<V> {
    pub rows: Vec<u32>,
    pub values: Vec<V>,
}

/// The batches of one call and the columns coded so far.
pub(super) struct Codes<'a> {
    batches: &'a [RecordBatch],
    dimensions: HashMap<usize, Coded<Value>>,
    starts: Vec<(Every, Coded<i64>)>,
}

/// Rows with their group number, and what each group stands for.
pub(super) struct Groups<'c> {
    pub rows: Vec<u32>,
    pub count: usize,
    /// Row (over all batches) in which a group was met first: its codes are the group's.
    first: Vec<usize>,
    starts: &'c Coded<i64>,
    dimensions: Vec<&'c Coded<Value>>,
}

impl Groups<'_> {
    /// Bucket start and dimension values of every group, by group number.
    pub fn keys(&self) -> impl Iterator<Item = (i64, Vec<Value>)> + '_ {
        self.first.iter().map(|&row| {
            let dimensions = self.dimensions.iter().map(|d| d.values[d.rows[row] as usize].clone());
            (self.starts.values[self.starts.rows[row] as usize], dimensions.collect())
        })
    }
}

impl<'a> Codes<'a> {
    pub fn new(batches: &'a [RecordBatch]) -> Self {
        Self {
            batches,
            dimensions: HashMap::new(),
            starts: Vec::new(),
        }
    }

    pub fn group(&mut self, event_time: usize, zone: Tz, every: Every, by: &[usize]) -> Groups<'_> {
        let batches = self.batches;
        let known = self.starts.iter().position(|(width, _)| *width == every);
        let starts = known.unwrap_or_else(|| {
            let coded = code_starts(batches, event_time, Buckets::new(zone, every));
            self.starts.push((every, coded));
            self.starts.len() - 1
        });
        for &field in by {
            self.dimensions
                .entry(field)
                .or_insert_with(|| code_dimension(batches, field));
        }
        let starts = &self.starts[starts].1;
        let dimensions: Vec<&Coded<Value>> = by.iter().map(|field| &self.dimensions[field]).collect();

        let mut rows = starts.rows.clone();
        for dimension in &dimensions {
            fold(&mut rows, &dimension.rows);
        }
        let mut first = Vec::new();
        for (row, &group) in rows.iter().enumerate() {
            // Codes are handed out in order of appearance, so a new group is always the next number.
            if group as usize == first.len() {
                first.push(row);
            }
        }
        Groups {
            rows,
            count: first.len(),
            first,
            starts,
            dimensions,
        }
    }
}

/// Replaces each pair of codes by one code, again in order of appearance.
fn fold(rows: &mut [u32], other: &[u32]) {
    let mut pairs: FxHashMap<u64, u32> = FxHashMap::default();
    for (row, &code) in rows.iter_mut().zip(other) {
        let next = pairs.len() as u32;
        *row = *pairs.entry(u64::from(*row) << 32 | u64::from(code)).or_insert(next);
    }
}

fn code_starts(batches: &[RecordBatch], event_time: usize, mut buckets: Buckets) -> Coded<i64> {
    let mut interner = Interner::new();
    for batch in batches {
        let column = batch.column(event_time).as_primitive::<TimestampMicrosecondType>();
        for &micros in column.values() {
            let start = buckets.start(micros);
            interner.push(start, |start| start);
        }
    }
    Coded {
        rows: interner.rows,
        values: interner.values,
    }
}

pub(super) fn code_dimension(batches: &[RecordBatch], field: usize) -> Coded<Value> {
    let columns: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(field)).collect();
    let Some(first) = columns.first() else {
        return Coded {
            rows: Vec::new(),
            values: Vec::new(),
        };
    };
    match first.data_type() {
        DataType::Utf8 => {
            let values = columns.iter().flat_map(|c| c.as_string::<i32>().iter());
            coded(values, |text| Value::Text(text.to_owned()))
        }
        DataType::Boolean => coded(columns.iter().flat_map(|c| c.as_boolean().iter()), Value::Boolean),
        DataType::Int8 => primitive::<Int8Type, _>(&columns, |v| v, |v| Value::Integer(v.into())),
        DataType::Int16 => primitive::<Int16Type, _>(&columns, |v| v, |v| Value::Integer(v.into())),
        DataType::Int32 => primitive::<Int32Type, _>(&columns, |v| v, Value::Integer),
        DataType::Int64 => primitive::<Int64Type, _>(&columns, |v| v, Value::Long),
        // Floats are no keys: their bits are, with both zeros as one.
        DataType::Float32 => primitive::<Float32Type, _>(
            &columns,
            |v| (f64::from(v) + 0.0).to_bits(),
            |bits| Value::Double(f64::from_bits(bits)),
        ),
        DataType::Float64 => primitive::<Float64Type, _>(
            &columns,
            |v| (v + 0.0).to_bits(),
            |bits| Value::Double(f64::from_bits(bits)),
        ),
        DataType::Decimal128(_, scale) => {
            let scale = *scale as u8;
            primitive::<Decimal128Type, _>(&columns, |v| v, |unscaled| Value::Decimal { unscaled, scale })
        }
        DataType::Date32 => {
            primitive::<Date32Type, _>(&columns, |v| v, |days| Value::Instant(i64::from(days) * MICROS_PER_DAY))
        }
        DataType::Timestamp(..) => primitive::<TimestampMicrosecondType, _>(&columns, |v| v, Value::Instant),
        other => unreachable!("no declared field type has the Arrow type {other}"),
    }
}

fn primitive<T: ArrowPrimitiveType, K: Copy + Eq + Hash>(
    columns: &[&ArrayRef],
    key: impl Fn(T::Native) -> K,
    value: impl Fn(K) -> Value,
) -> Coded<Value> {
    coded(
        columns
            .iter()
            .flat_map(|c| c.as_primitive::<T>().iter())
            .map(|v| v.map(&key)),
        value,
    )
}

fn coded<K: Copy + Eq + Hash>(keys: impl Iterator<Item = Option<K>>, value: impl Fn(K) -> Value) -> Coded<Value> {
    let mut interner = Interner::new();
    for key in keys {
        interner.push(key, |key| key.map_or(Value::Null, &value));
    }
    Coded {
        rows: interner.rows,
        values: interner.values,
    }
}

/// Hands out codes in order of appearance.
struct Interner<K, V> {
    codes: FxHashMap<K, u32>,
    /// The last key and its code: sorted and repetitive columns skip the map.
    last: Option<(K, u32)>,
    rows: Vec<u32>,
    values: Vec<V>,
}

impl<K: Copy + Eq + Hash, V> Interner<K, V> {
    fn new() -> Self {
        Self {
            codes: FxHashMap::default(),
            last: None,
            rows: Vec::new(),
            values: Vec::new(),
        }
    }

    fn push(&mut self, key: K, value: impl FnOnce(K) -> V) {
        let code = match self.last {
            Some((last, code)) if last == key => code,
            _ => {
                let next = self.values.len() as u32;
                let code = *self.codes.entry(key).or_insert(next);
                if code == next {
                    self.values.push(value(key));
                }
                self.last = Some((key, code));
                code
            }
        };
        self.rows.push(code);
    }
}

/// A total order over dimension values of one rollup; nulls first.
pub(super) fn compare(a: &[Value], b: &[Value]) -> Ordering {
    a.iter()
        .zip(b)
        .map(|pair| match pair {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) => Ordering::Less,
            (_, Value::Null) => Ordering::Greater,
            (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
            (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
            (Value::Long(a), Value::Long(b)) | (Value::Instant(a), Value::Instant(b)) => a.cmp(b),
            (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
            (Value::Decimal { unscaled: a, .. }, Value::Decimal { unscaled: b, .. }) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            // One column has one type; two kinds never meet.
            _ => Ordering::Equal,
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

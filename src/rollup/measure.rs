//! Adding up one measure over all groups, column by column, with types kept.
//!
//! Owns: exact sums (checked), extremes, counts, sketches of what is distinct; nulls take no part.
//! Does not own: grouping (`group`).

use std::collections::BTreeMap;

use arrow::array::cast::AsArray;
use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::array::{Array, ArrowPrimitiveType, RecordBatch};
use arrow::datatypes::DataType;

use super::group::{Groups, MICROS_PER_DAY, code_dimension};
use super::sketch::{Register, register};
use super::{Operator, Output, Source, Value};

/// Largest coefficient of an exact Decimal128: 34 digits.
const DECIMAL_LIMIT: i128 = 10i128.pow(34);

/// The sum cannot be stored exactly.
#[derive(Debug)]
pub(super) struct OutOfRange;

/// The output's increment per group, `None` where a group has only nulls.
pub(super) fn column(
    batches: &[RecordBatch],
    groups: &Groups<'_>,
    output: &Output,
) -> Result<Vec<Option<Value>>, OutOfRange> {
    match output.source {
        Source::Rows => Ok(count(groups, |_| true)),
        Source::NonNull(field) => {
            let valid: Vec<bool> = batches
                .iter()
                .map(|batch| batch.column(field))
                .flat_map(|column| (0..column.len()).map(move |row| column.is_valid(row)))
                .collect();
            Ok(count(groups, |row| valid[row]))
        }
        Source::Distinct(field) => Ok(distinct(batches, groups, field)),
        Source::Field(field) => field_column(batches, groups, field, output.operator),
    }
}

fn count(groups: &Groups<'_>, counts: impl Fn(usize) -> bool) -> Vec<Option<Value>> {
    let mut totals = vec![0i64; groups.count];
    for (row, &group) in groups.rows.iter().enumerate() {
        totals[group as usize] += i64::from(counts(row));
    }
    totals.into_iter().map(|n| (n > 0).then_some(Value::Long(n))).collect()
}

fn distinct(batches: &[RecordBatch], groups: &Groups<'_>, field: usize) -> Vec<Option<Value>> {
    let coded = code_dimension(batches, field);
    // One hash per distinct value, not per row.
    let registers: Vec<Option<Register>> = coded.values.iter().map(register).collect();
    let mut highest: Vec<BTreeMap<u16, u8>> = vec![BTreeMap::new(); groups.count];
    for (&code, &group) in coded.rows.iter().zip(&groups.rows) {
        if let Some(Register { index, rank }) = registers[code as usize] {
            let known = highest[group as usize].entry(index).or_default();
            *known = rank.max(*known);
        }
    }
    let sketch = |highest: BTreeMap<u16, u8>| {
        let registers = highest.into_iter().map(|(index, rank)| Register { index, rank });
        Value::Registers(registers.collect())
    };
    let seen = highest
        .into_iter()
        .map(|highest| (!highest.is_empty()).then(|| sketch(highest)));
    seen.collect()
}

fn field_column(
    batches: &[RecordBatch],
    groups: &Groups<'_>,
    field: usize,
    operator: Operator,
) -> Result<Vec<Option<Value>>, OutOfRange> {
    let Some(first) = batches.first() else {
        return Ok(Vec::new());
    };
    let data_type = first.column(field).data_type();
    // A sum of integers is a long whatever the width; an extreme keeps its type.
    match (data_type, operator) {
        (DataType::Int8, Operator::Add) => {
            fold::<Int8Type, i64>(batches, groups, field, i64::from, i64::checked_add, Value::Long)
        }
        (DataType::Int16, Operator::Add) => {
            fold::<Int16Type, i64>(batches, groups, field, i64::from, i64::checked_add, Value::Long)
        }
        (DataType::Int32, Operator::Add) => {
            fold::<Int32Type, i64>(batches, groups, field, i64::from, i64::checked_add, Value::Long)
        }
        (DataType::Int64, Operator::Add) => {
            fold::<Int64Type, i64>(batches, groups, field, |v| v, i64::checked_add, Value::Long)
        }
        (DataType::Float32, Operator::Add) => {
            fold::<Float32Type, f64>(batches, groups, field, f64::from, |a, b| Some(a + b), Value::Double)
        }
        (DataType::Float64, Operator::Add) => {
            fold::<Float64Type, f64>(batches, groups, field, |v| v, |a, b| Some(a + b), Value::Double)
        }
        (DataType::Decimal128(_, scale), Operator::Add) => {
            let scale = *scale as u8;
            fold::<Decimal128Type, i128>(
                batches,
                groups,
                field,
                |v| v,
                |a, b| a.checked_add(b).filter(|sum| sum.abs() < DECIMAL_LIMIT),
                |unscaled| Value::Decimal { unscaled, scale },
            )
        }
        (DataType::Int8, _) => extreme::<Int8Type>(batches, groups, field, operator, |v| Value::Integer(v.into())),
        (DataType::Int16, _) => extreme::<Int16Type>(batches, groups, field, operator, |v| Value::Integer(v.into())),
        (DataType::Int32, _) => extreme::<Int32Type>(batches, groups, field, operator, Value::Integer),
        (DataType::Int64, _) => extreme::<Int64Type>(batches, groups, field, operator, Value::Long),
        (DataType::Float32, _) => extreme::<Float32Type>(batches, groups, field, operator, |v| Value::Double(v.into())),
        (DataType::Float64, _) => extreme::<Float64Type>(batches, groups, field, operator, Value::Double),
        (DataType::Decimal128(_, scale), _) => {
            let scale = *scale as u8;
            extreme::<Decimal128Type>(batches, groups, field, operator, |unscaled| Value::Decimal {
                unscaled,
                scale,
            })
        }
        (DataType::Date32, Operator::Min | Operator::Max) => {
            extreme::<Date32Type>(batches, groups, field, operator, |days| {
                Value::Instant(i64::from(days) * MICROS_PER_DAY)
            })
        }
        (DataType::Timestamp(..), Operator::Min | Operator::Max) => {
            extreme::<TimestampMicrosecondType>(batches, groups, field, operator, Value::Instant)
        }
        (other, _) => unreachable!("the configuration lets no {operator:?} run over {other}"),
    }
}

fn extreme<T: ArrowPrimitiveType>(
    batches: &[RecordBatch],
    groups: &Groups<'_>,
    field: usize,
    operator: Operator,
    value: impl Fn(T::Native) -> Value,
) -> Result<Vec<Option<Value>>, OutOfRange>
where
    T::Native: PartialOrd,
{
    let better = |a: T::Native, b: T::Native| {
        let takes_b = match operator {
            Operator::Max => b > a,
            _ => b < a,
        };
        Some(if takes_b { b } else { a })
    };
    fold::<T, T::Native>(batches, groups, field, |v| v, better, value)
}

fn fold<T: ArrowPrimitiveType, A: Copy>(
    batches: &[RecordBatch],
    groups: &Groups<'_>,
    field: usize,
    widen: impl Fn(T::Native) -> A,
    combine: impl Fn(A, A) -> Option<A>,
    value: impl Fn(A) -> Value,
) -> Result<Vec<Option<Value>>, OutOfRange> {
    let mut totals: Vec<Option<A>> = vec![None; groups.count];
    let mut rows = groups.rows.iter();
    for batch in batches {
        let column = batch.column(field).as_primitive::<T>();
        for (cell, &group) in column.iter().zip(&mut rows) {
            let Some(cell) = cell.map(&widen) else { continue };
            let total = &mut totals[group as usize];
            *total = Some(match *total {
                Some(so_far) => combine(so_far, cell).ok_or(OutOfRange)?,
                None => cell,
            });
        }
    }
    Ok(totals.into_iter().map(|total| total.map(&value)).collect())
}

//! Arrow columns under construction: a row is pushed cell by cell, then kept whole or taken back whole.
//!
//! Owns: the buffers of one batch. Plain vectors rather than Arrow's builders, which cannot be cut back to an
//! earlier length; cutting back is how a bad record leaves no trace beside its neighbours.
//! Does not own: whether a cell fits its column (`value`).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, NullBufferBuilder, PrimitiveArray,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef,
};

use super::value::Cell;

/// The rows of one batch.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

impl Columns {
    /// `string_bytes` is the expected size of each column's strings, in column order.
    pub(super) fn new(schema: SchemaRef, rows: usize, string_bytes: &[usize]) -> Self {
        let columns = schema
            .fields()
            .iter()
            .zip(string_bytes)
            .map(|(field, bytes)| Column::new(field.data_type(), rows, *bytes))
            .collect();
        Self {
            schema,
            columns,
            rows: 0,
        }
    }

    /// The next cell of `column` in the row being built. Every column gets one before [`Self::keep_row`].
    #[inline]
    pub(super) fn push(&mut self, column: usize, cell: Cell<'_>) {
        self.columns[column].push(cell);
    }

    pub(super) fn keep_row(&mut self) {
        self.rows += 1;
        debug_assert!(self.columns.iter().all(|column| column.nulls.len() == self.rows));
    }

    /// Takes back the cells pushed since the last kept row.
    #[cold]
    pub(super) fn drop_row(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }

    /// Bytes of each column's strings so far, in column order.
    pub(super) fn string_bytes(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().map(|column| match &column.values {
            Values::Text { bytes, .. } => bytes.len(),
            _ => 0,
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn finish(self) -> RecordBatch {
        let arrays = self.columns.into_iter().map(Column::finish).collect();
        RecordBatch::try_new(self.schema, arrays)
            .expect("the columns were made from this schema, are equally long, and required cells are never null")
    }
}

#[derive(Debug)]
struct Column {
    values: Values,
    nulls: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Text { offsets: Vec<i32>, bytes: Vec<u8> },
    Boolean(BooleanBufferBuilder),
    Byte(Vec<i8>),
    Short(Vec<i16>),
    Integer(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal { values: Vec<i128>, data_type: DataType },
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
}

impl Column {
    fn new(data_type: &DataType, rows: usize, string_bytes: usize) -> Self {
        let values = match data_type {
            DataType::Utf8 => {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                Values::Text {
                    offsets,
                    bytes: Vec::with_capacity(string_bytes),
                }
            }
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(rows)),
            DataType::Int8 => Values::Byte(Vec::with_capacity(rows)),
            DataType::Int16 => Values::Short(Vec::with_capacity(rows)),
            DataType::Int32 => Values::Integer(Vec::with_capacity(rows)),
            DataType::Int64 => Values::Long(Vec::with_capacity(rows)),
            DataType::Float32 => Values::Float(Vec::with_capacity(rows)),
            DataType::Float64 => Values::Double(Vec::with_capacity(rows)),
            DataType::Decimal128(..) => Values::Decimal {
                values: Vec::with_capacity(rows),
                data_type: data_type.clone(),
            },
            DataType::Date32 => Values::Date(Vec::with_capacity(rows)),
            DataType::Timestamp(..) => Values::Timestamp(Vec::with_capacity(rows)),
            other => unreachable!("no declared type is stored as {other}"),
        };
        let nulls = NullBufferBuilder::new(rows);
        Self { values, nulls }
    }

    #[inline]
    fn push(&mut self, cell: Cell<'_>) {
        match (&mut self.values, cell) {
            (Values::Text { offsets, bytes }, Cell::Text(text)) => {
                bytes.extend_from_slice(text);
                // The caller bounds a batch's payloads, and with them its strings, to 2^31 bytes.
                offsets.push(bytes.len() as i32);
            }
            (Values::Boolean(values), Cell::Boolean(value)) => values.append(value),
            // `value` has checked the range of the declared type: none of these cuts a digit.
            (Values::Byte(values), Cell::Integer(value)) => values.push(value as i8),
            (Values::Short(values), Cell::Integer(value)) => values.push(value as i16),
            (Values::Integer(values), Cell::Integer(value)) => values.push(value as i32),
            (Values::Long(values), Cell::Integer(value)) => values.push(value),
            (Values::Float(values), Cell::Float(value)) => values.push(value),
            (Values::Double(values), Cell::Double(value)) => values.push(value),
            (Values::Decimal { values, .. }, Cell::Decimal(value)) => values.push(value),
            (Values::Date(values), Cell::Date(value)) => values.push(value),
            (Values::Timestamp(values), Cell::Timestamp(value)) => values.push(value),
            (_, Cell::Null) => return self.push_null(),
            (values, cell) => unreachable!("a cell {cell:?} for a column {values:?}"),
        }
        self.nulls.append_non_null();
    }

    fn push_null(&mut self) {
        match &mut self.values {
            Values::Text { offsets, bytes } => offsets.push(bytes.len() as i32),
            Values::Boolean(values) => values.append(false),
            Values::Byte(values) => values.push(0),
            Values::Short(values) => values.push(0),
            Values::Integer(values) | Values::Date(values) => values.push(0),
            Values::Long(values) | Values::Timestamp(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
        }
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Text { offsets, bytes } => {
                offsets.truncate(rows + 1);
                bytes.truncate(offsets[rows] as usize);
            }
            Values::Boolean(values) => values.truncate(rows),
            Values::Byte(values) => values.truncate(rows),
            Values::Short(values) => values.truncate(rows),
            Values::Integer(values) | Values::Date(values) => values.truncate(rows),
            Values::Long(values) | Values::Timestamp(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
        }
        self.nulls.truncate(rows);
    }

    fn finish(mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        fn primitive<T: ArrowPrimitiveType>(
            values: Vec<T::Native>,
            nulls: Option<arrow::buffer::NullBuffer>,
        ) -> PrimitiveArray<T> {
            PrimitiveArray::new(values.into(), nulls)
        }
        match self.values {
            Values::Text { offsets, bytes } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                // Checks UTF-8 once more for the column as a whole, which costs next to nothing and spares an
                // `unsafe` here.
                let array = StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls);
                Arc::new(array.expect("the tokenizer hands out whole strings of valid UTF-8"))
            }
            Values::Boolean(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Byte(values) => Arc::new(primitive::<Int8Type>(values, nulls)),
            Values::Short(values) => Arc::new(primitive::<Int16Type>(values, nulls)),
            Values::Integer(values) => Arc::new(primitive::<Int32Type>(values, nulls)),
            Values::Long(values) => Arc::new(primitive::<Int64Type>(values, nulls)),
            Values::Float(values) => Arc::new(primitive::<Float32Type>(values, nulls)),
            Values::Double(values) => Arc::new(primitive::<Float64Type>(values, nulls)),
            Values::Decimal { values, data_type } => {
                Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(data_type))
            }
            Values::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
            Values::Timestamp(values) => {
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"))
            }
        }
    }
}

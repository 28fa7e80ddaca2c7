//! A record's document, straight from the Arrow columns.
//!
//! Owns: the shape of a document: `_id` first, then the declared fields in their order, nulls left out.
//! Does not own: the element encodings (`element`), commands around documents (`insert`).
//!
//! This is the hot path of the sink: per record a walk over typed columns that appends to one buffer. The same
//! row always makes the same bytes — a replay is recognised by comparing them.

use arrow::array::cast::AsArray;
use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::array::{Array, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;

use super::element::{self, kind};
use crate::schema::{FieldType, ID_COLUMN, StreamSchema};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Builds documents of one stream.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    types: Vec<FieldType>,
    /// Per declared field the bytes before its value: element type, name, zero.
    headers: Vec<Vec<u8>>,
    id_header: Vec<u8>,
    id_index: usize,
}

impl Encoder {
    pub fn new(schema: &StreamSchema) -> Self {
        let header = |kind, name: &str| {
            let mut header = Vec::with_capacity(name.len() + 2);
            element::name(&mut header, kind, name);
            header
        };
        Self {
            types: schema.fields.iter().map(|f| f.ty).collect(),
            headers: schema.fields.iter().map(|f| header(kind_of(f.ty), &f.name)).collect(),
            id_header: header(kind::INT64, ID_COLUMN),
            id_index: schema.id_index(),
        }
    }

    /// The rows of one batch, ready to be written.
    pub fn rows<'a>(&'a self, batch: &'a RecordBatch) -> Rows<'a> {
        let columns = (self.types.iter().zip(&self.headers).zip(batch.columns()))
            .map(|((ty, header), array)| Column {
                header,
                nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
                values: Values::new(*ty, array),
            })
            .collect();
        Rows {
            id_header: &self.id_header,
            ids: batch.column(self.id_index).as_primitive::<Int64Type>().values(),
            columns,
        }
    }
}

pub(super) fn kind_of(ty: FieldType) -> u8 {
    match ty {
        FieldType::String => kind::STRING,
        FieldType::Boolean => kind::BOOLEAN,
        FieldType::Byte | FieldType::Short | FieldType::Integer => kind::INT32,
        FieldType::Long => kind::INT64,
        FieldType::Float | FieldType::Double => kind::DOUBLE,
        FieldType::Decimal { .. } => kind::DECIMAL128,
        FieldType::Date | FieldType::Timestamp => kind::DATE,
    }
}

pub(super) struct Rows<'a> {
    id_header: &'a [u8],
    ids: &'a [i64],
    columns: Vec<Column<'a>>,
}

struct Column<'a> {
    header: &'a [u8],
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    String(&'a StringArray),
    Boolean(&'a BooleanArray),
    Byte(&'a [i8]),
    Short(&'a [i16]),
    Integer(&'a [i32]),
    Long(&'a [i64]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    Decimal(&'a [i128], u8),
    Date(&'a [i32]),
    Timestamp(&'a [i64]),
}

impl<'a> Values<'a> {
    /// Panics where the batch is not of the stream's schema: decode and sinks share that one.
    fn new(ty: FieldType, array: &'a dyn Array) -> Self {
        match ty {
            FieldType::String => Self::String(array.as_string()),
            FieldType::Boolean => Self::Boolean(array.as_boolean()),
            FieldType::Byte => Self::Byte(array.as_primitive::<Int8Type>().values()),
            FieldType::Short => Self::Short(array.as_primitive::<Int16Type>().values()),
            FieldType::Integer => Self::Integer(array.as_primitive::<Int32Type>().values()),
            FieldType::Long => Self::Long(array.as_primitive::<Int64Type>().values()),
            FieldType::Float => Self::Float(array.as_primitive::<Float32Type>().values()),
            FieldType::Double => Self::Double(array.as_primitive::<Float64Type>().values()),
            FieldType::Decimal { scale, .. } => Self::Decimal(array.as_primitive::<Decimal128Type>().values(), scale),
            FieldType::Date => Self::Date(array.as_primitive::<Date32Type>().values()),
            FieldType::Timestamp => Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().values()),
        }
    }

    fn append(&self, row: usize, buffer: &mut Vec<u8>) {
        match self {
            Self::String(values) => element::text(buffer, values.value(row)),
            Self::Boolean(values) => buffer.push(values.value(row).into()),
            Self::Byte(values) => buffer.extend_from_slice(&i32::from(values[row]).to_le_bytes()),
            Self::Short(values) => buffer.extend_from_slice(&i32::from(values[row]).to_le_bytes()),
            Self::Integer(values) => buffer.extend_from_slice(&values[row].to_le_bytes()),
            Self::Long(values) => buffer.extend_from_slice(&values[row].to_le_bytes()),
            Self::Float(values) => buffer.extend_from_slice(&f64::from(values[row]).to_le_bytes()),
            Self::Double(values) => buffer.extend_from_slice(&values[row].to_le_bytes()),
            Self::Decimal(values, scale) => buffer.extend_from_slice(&element::decimal128(values[row], *scale)),
            Self::Date(values) => element::date(buffer, i64::from(values[row]) * DAY),
            Self::Timestamp(values) => element::date(buffer, values[row]),
        }
    }
}

impl Rows<'_> {
    pub fn ids(&self) -> &[i64] {
        self.ids
    }

    /// Appends the document of `row`.
    pub fn append(&self, row: usize, buffer: &mut Vec<u8>) {
        let document = element::open(buffer);
        buffer.extend_from_slice(self.id_header);
        buffer.extend_from_slice(&self.ids[row].to_le_bytes());
        for column in &self.columns {
            if column.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            buffer.extend_from_slice(column.header);
            column.values.append(row, buffer);
        }
        element::close(buffer, document);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
        Int64Array, TimestampMicrosecondArray,
    };
    use bson::{Bson, DateTime, doc};

    use super::*;
    use crate::schema::{Field, PartitionColumn};

    fn schema(types: &[(&str, FieldType)], partition_by: Vec<PartitionColumn>) -> StreamSchema {
        let mut fields = vec![Field {
            name: "at".into(),
            ty: FieldType::Timestamp,
            required: true,
            unit: None,
        }];
        fields.extend(types.iter().map(|(name, ty)| Field {
            name: (*name).into(),
            ty: *ty,
            required: false,
            unit: None,
        }));
        StreamSchema::new(fields, 0, partition_by, chrono_tz::Tz::UTC)
    }

    fn encoded(schema: &StreamSchema, mut columns: Vec<ArrayRef>, ids: &[i64]) -> Vec<bson::Document> {
        if schema.has_date_column() {
            columns.push(Arc::new(Date32Array::from(vec![7; ids.len()])));
        }
        columns.push(Arc::new(Int64Array::from(ids.to_vec())));
        columns.push(Arc::new(
            TimestampMicrosecondArray::from(vec![Some(5); ids.len()]).with_timezone("UTC"),
        ));
        let batch = RecordBatch::try_new(schema.arrow().clone(), columns).expect("columns match the schema");
        let encoder = Encoder::new(schema);
        let rows = encoder.rows(&batch);
        (0..ids.len())
            .map(|row| {
                let mut buffer = Vec::new();
                rows.append(row, &mut buffer);
                let raw = bson::RawDocumentBuf::from_bytes(buffer).expect("framed");
                raw.as_ref().try_into().expect("well formed")
            })
            .collect()
    }

    fn instants(micros: &[i64]) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC"))
    }

    #[test]
    fn every_type_reads_back_as_its_bson_type() {
        let decimal = FieldType::Decimal {
            precision: 18,
            scale: 2,
        };
        let schema = schema(
            &[
                ("text", FieldType::String),
                ("flag", FieldType::Boolean),
                ("byte", FieldType::Byte),
                ("short", FieldType::Short),
                ("integer", FieldType::Integer),
                ("long", FieldType::Long),
                ("float", FieldType::Float),
                ("double", FieldType::Double),
                ("money", decimal),
                ("day", FieldType::Date),
            ],
            vec![],
        );
        let money = Decimal128Array::from(vec![-150])
            .with_precision_and_scale(18, 2)
            .expect("valid");
        let documents = encoded(
            &schema,
            vec![
                instants(&[1_500]),
                Arc::new(StringArray::from(vec!["é"])),
                Arc::new(BooleanArray::from(vec![true])),
                Arc::new(Int8Array::from(vec![i8::MIN])),
                Arc::new(Int16Array::from(vec![i16::MIN])),
                Arc::new(Int32Array::from(vec![i32::MIN])),
                Arc::new(Int64Array::from(vec![i64::MIN])),
                Arc::new(Float32Array::from(vec![0.5])),
                Arc::new(Float64Array::from(vec![-0.1])),
                Arc::new(money),
                Arc::new(Date32Array::from(vec![-1])),
            ],
            &[i64::MAX],
        );
        let expected = doc! {
            "_id": i64::MAX,
            "at": DateTime::from_millis(1),
            "text": "é",
            "flag": true,
            "byte": i32::from(i8::MIN),
            "short": i32::from(i16::MIN),
            "integer": i32::MIN,
            "long": i64::MIN,
            "float": 0.5,
            "double": -0.1,
            "money": Bson::Decimal128("-1.50".parse().expect("a decimal")),
            "day": DateTime::from_millis(-86_400_000),
        };
        assert_eq!(documents, std::slice::from_ref(&expected));
        let names: Vec<_> = documents[0].keys().collect();
        assert_eq!(
            names,
            expected.keys().collect::<Vec<_>>(),
            "_id first, then the declared order"
        );
    }

    #[test]
    fn null_fields_are_left_out_and_neighbours_are_unharmed() {
        let schema = schema(&[("a", FieldType::String), ("b", FieldType::Long)], vec![]);
        let documents = encoded(
            &schema,
            vec![
                instants(&[0, -1]),
                Arc::new(StringArray::from(vec![None, Some("x")])),
                Arc::new(Int64Array::from(vec![Some(1), None])),
            ],
            &[10, 11],
        );
        let expected = [
            doc! { "_id": 10i64, "at": DateTime::from_millis(0), "b": 1i64 },
            doc! { "_id": 11i64, "at": DateTime::from_millis(-1), "a": "x" },
        ];
        assert_eq!(documents, expected);
    }

    #[test]
    fn the_derived_date_and_kafkas_timestamp_stay_out() {
        let schema = schema(&[], vec![PartitionColumn::EventDate]);
        let documents = encoded(&schema, vec![instants(&[0])], &[1]);
        assert_eq!(documents, [doc! { "_id": 1i64, "at": DateTime::from_millis(0) }]);
    }
}

//! Rows out of Parquet: Arrow columns and a file's partition values → plain values.
//!
//! Owns: which Arrow types hold a declared type without loss, partition values from the log (Delta does not
//! keep those columns in the file), and whether a file's directory says the same as the log.
//! Does not own: reading files (`lake`), comparing rows (`compare`).

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use chrono::NaiveDate;
use object_store::path::Path;

use super::super::compare::Stored;
use super::super::document::Odd;
use super::super::oracle::{Row, Value, time};
use crate::offsets::RecordId;
use crate::schema::{DATE_COLUMN, FieldType, ID_COLUMN, StreamSchema, TIMESTAMP_COLUMN};

/// The directory that stands for null.
const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file's partition values as the log has them; null where there is none.
pub type PartitionValues = BTreeMap<String, Option<String>>;

/// The columns of one batch, ready to be asked row by row.
#[derive(Debug)]
pub struct Columns {
    ids: ArrayRef,
    fields: Vec<(String, Source)>,
    date: Result<Option<NaiveDate>, Odd>,
    timestamp: Source,
    /// Columns that hold nothing of this schema's time.
    undeclared: Vec<(String, ArrayRef)>,
}

/// Where a field's values come from in this file.
#[derive(Debug)]
enum Source {
    /// The same for every row of the file.
    Constant(Option<Value>),
    Column(FieldType, ArrayRef),
    /// Of a type that cannot hold the declared one.
    Foreign(String),
}

impl Columns {
    pub fn new(schema: &StreamSchema, batch: &RecordBatch, partition: &PartitionValues) -> anyhow::Result<Self> {
        let partition_value = |name: &str| {
            let value = partition.get(name).cloned().flatten();
            // To Delta the empty string in a partition column is null.
            value.filter(|text| !text.is_empty())
        };
        let fields = schema.fields.iter().enumerate().map(|(index, field)| {
            let source = if schema.is_partition_field(index) {
                Source::Constant(partition_value(&field.name).map(Value::String))
            } else {
                Source::of(field.ty, batch.column_by_name(&field.name))
            };
            (field.name.clone(), source)
        });
        let date = match partition_value(DATE_COLUMN).filter(|_| schema.has_date_column()) {
            None => Ok(None),
            Some(text) => time::date(&text).map(Some).ok_or_else(|| Odd::new(DATE_COLUMN, text)),
        };
        Ok(Self {
            ids: ids(batch)?,
            fields: fields.collect(),
            date,
            timestamp: Source::of(FieldType::Timestamp, batch.column_by_name(TIMESTAMP_COLUMN)),
            undeclared: Vec::new(),
        })
    }

    /// A value in one of these columns makes a row odd.
    pub fn without_values_in(self, names: &[&str], batch: &RecordBatch) -> Self {
        let column = |name: &&str| Some(((*name).to_owned(), batch.column_by_name(name)?.clone()));
        Self {
            undeclared: names.iter().filter_map(column).collect(),
            ..self
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn id(&self, row: usize) -> Option<RecordId> {
        id_at(&self.ids, row).map(RecordId)
    }

    /// The whole row. Asked only for rows that are compared: it copies every text.
    pub fn stored(&self, id: RecordId, row: usize) -> Stored {
        match self.row(id, row) {
            Ok(row) => Stored::Row(row),
            Err(odd) => Stored::Odd(id, odd),
        }
    }

    fn row(&self, id: RecordId, row: usize) -> Result<Row, Odd> {
        if let Some((name, _)) = self.undeclared.iter().find(|(_, column)| column.is_valid(row)) {
            return Err(Odd::new(name, "a value in a column that was not declared then"));
        }
        let values = self
            .fields
            .iter()
            .map(|(name, source)| source.value(row).map_err(|found| Odd::new(name, found)))
            .collect::<Result<Vec<_>, _>>()?;
        let timestamp = self
            .timestamp
            .value(row)
            .map_err(|found| Odd::new(TIMESTAMP_COLUMN, found))?;
        Ok(Row {
            id,
            values,
            date: self.date.clone()?,
            timestamp_us: timestamp.and_then(|value| match value {
                Value::Timestamp(micros) => Some(micros),
                _ => None,
            }),
        })
    }
}

/// The `_id` column of a batch.
pub fn ids(batch: &RecordBatch) -> anyhow::Result<ArrayRef> {
    let ids = batch.column_by_name(ID_COLUMN).context("it has no column _id")?;
    if ids.data_type() != &DataType::Int64 {
        bail!("its column _id is {} and not int64", ids.data_type());
    }
    Ok(ids.clone())
}

pub fn id_at(ids: &ArrayRef, row: usize) -> Option<i64> {
    let ids = ids.as_primitive::<Int64Type>();
    ids.is_valid(row).then(|| ids.value(row))
}

impl Source {
    fn of(ty: FieldType, column: Option<&ArrayRef>) -> Self {
        // A file written before the field was declared has no such column: null, by Delta's rule.
        let Some(column) = column else {
            return Self::Constant(None);
        };
        let declared = ty.arrow();
        if column.data_type() == &declared {
            return Self::Column(ty, column.clone());
        }
        if !is_another_spelling(column.data_type(), &declared) {
            return Self::Foreign(format!("a column of type {}", column.data_type()));
        }
        match arrow::compute::cast(column, &declared) {
            Ok(column) => Self::Column(ty, column),
            Err(error) => Self::Foreign(error.to_string()),
        }
    }

    fn value(&self, row: usize) -> Result<Option<Value>, String> {
        let (ty, column) = match self {
            Self::Constant(value) => return Ok(value.clone()),
            Self::Foreign(found) => return Err(found.clone()),
            Self::Column(ty, column) => (*ty, column),
        };
        if column.is_null(row) {
            return Ok(None);
        }
        Ok(Some(match ty {
            FieldType::String => Value::String(column.as_string::<i32>().value(row).to_owned()),
            FieldType::Boolean => Value::Boolean(column.as_boolean().value(row)),
            FieldType::Byte => Value::Integer(column.as_primitive::<Int8Type>().value(row).into()),
            FieldType::Short => Value::Integer(column.as_primitive::<Int16Type>().value(row).into()),
            FieldType::Integer => Value::Integer(column.as_primitive::<Int32Type>().value(row).into()),
            FieldType::Long => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
            FieldType::Float => Value::Float(column.as_primitive::<Float32Type>().value(row)),
            FieldType::Double => Value::Double(column.as_primitive::<Float64Type>().value(row)),
            FieldType::Decimal { scale, .. } => {
                Value::Decimal(column.as_primitive::<Decimal128Type>().value(row), scale)
            }
            FieldType::Date => Value::Date(column.as_primitive::<Date32Type>().value(row)),
            FieldType::Timestamp => Value::Timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        }))
    }
}

/// Another way to hold the same values, as engines that rewrite files may choose; not a conversion.
fn is_another_spelling(found: &DataType, declared: &DataType) -> bool {
    match (found, declared) {
        (DataType::LargeUtf8 | DataType::Utf8View, DataType::Utf8) => true,
        (DataType::Dictionary(_, values), declared) => values.as_ref() == declared,
        (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), DataType::Timestamp(..)) => true,
        _ => false,
    }
}

/// Does the file lie in the directories its partition values call for, in the table's order? Engines that read
/// the files without the log take the values from there.
pub fn lies_where_it_belongs(path: &Path, columns: &[&str], partition: &PartitionValues) -> bool {
    let parts: Vec<_> = path.parts().collect();
    let directories = &parts[..parts.len().saturating_sub(1)];
    directories.len() == columns.len()
        && directories.iter().zip(columns).all(|(directory, column)| {
            let Some((name, value)) = directory.as_ref().split_once('=') else {
                return false;
            };
            let unescaped = |text: &str| {
                let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
                decoded.map(|text| text.into_owned()).unwrap_or_default()
            };
            let value = Some(unescaped(value)).filter(|_| value != NULL_DIRECTORY);
            unescaped(name) == *column && value == partition.get(*column).cloned().flatten().filter(|v| !v.is_empty())
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int64Array,
        LargeStringArray, StringArray, TimestampMicrosecondArray,
    };

    use super::*;
    use crate::verify::form::Form;
    use crate::verify::testing::{row, stream};

    fn partition(date: &str, region: Option<&str>) -> PartitionValues {
        BTreeMap::from([
            ("date".to_owned(), Some(date.to_owned())),
            ("region".to_owned(), region.map(str::to_owned)),
        ])
    }

    /// The row `FULL` as a file would hold it.
    fn batch() -> RecordBatch {
        let utc = |micros| Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as ArrayRef;
        let money = Decimal128Array::from(vec![150])
            .with_precision_and_scale(18, 2)
            .unwrap();
        RecordBatch::try_from_iter([
            ("at", utc(Some(1_719_786_600_123_456))),
            ("amount", Arc::new(money)),
            ("quantity", Arc::new(Int64Array::from(vec![3]))),
            ("ratio", Arc::new(Float64Array::from(vec![0.5]))),
            ("weight", Arc::new(Float32Array::from(vec![0.1]))),
            ("small", Arc::new(Int8Array::from(vec![-1]))),
            ("open", Arc::new(BooleanArray::from(vec![true]))),
            ("day", Arc::new(Date32Array::from(vec![1]))),
            ("seen", utc(None)),
            ("_id", Arc::new(Int64Array::from(vec![7]))),
            ("_timestamp", utc(Some(1_000_000))),
        ])
        .unwrap()
    }

    const FULL: &str = r#"{"at":"2024-06-30T22:30:00.123456Z","region":"Corse","amount":1.5,"quantity":3,"ratio":0.5,
        "weight":0.1,"small":-1,"open":true,"day":"1970-01-02"}"#;

    fn read(batch: &RecordBatch, partition: &PartitionValues) -> Stored {
        let columns = Columns::new(&stream().schema, batch, partition).unwrap();
        columns.stored(columns.id(0).unwrap(), 0)
    }

    fn replaced(name: &str, column: ArrayRef) -> RecordBatch {
        let batch = batch();
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, old)| {
            let new = if field.name() == name {
                column.clone()
            } else {
                old.clone()
            };
            (field.name().clone(), new)
        });
        RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_file_and_its_partition_values_make_the_oracles_row() {
        let Stored::Row(found) = read(&batch(), &partition("2024-07-01", Some("Corse"))) else {
            panic!("no row")
        };
        assert_eq!(found, row(&stream(), 7, FULL));
    }

    #[test]
    fn a_wrong_partition_shows_as_a_difference() {
        let Stored::Row(found) = read(&batch(), &partition("2024-06-30", None)) else {
            panic!("no row")
        };
        let differences = Form::Lake.differences(&stream().schema, &row(&stream(), 7, FULL), &found);
        let fields: Vec<_> = differences.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(fields, ["region", "date"]);
    }

    #[test]
    fn another_spelling_of_a_type_is_the_same_and_another_type_is_odd() {
        let same = replaced("quantity", Arc::new(Int64Array::from(vec![3])));
        assert!(matches!(read(&same, &partition("2024-07-01", None)), Stored::Row(_)));
        let micros = TimestampMicrosecondArray::from(vec![0]).with_timezone("+00:00");
        let zone = replaced("at", Arc::new(micros));
        assert!(matches!(read(&zone, &partition("2024-07-01", None)), Stored::Row(_)));

        let money = Decimal128Array::from(vec![1500])
            .with_precision_and_scale(18, 3)
            .unwrap();
        let scale = replaced("amount", Arc::new(money));
        assert!(matches!(read(&scale, &partition("2024-07-01", None)), Stored::Odd(_, odd) if odd.field == "amount"));
        let naive = replaced("at", Arc::new(TimestampMicrosecondArray::from(vec![0])));
        assert!(matches!(read(&naive, &partition("2024-07-01", None)), Stored::Odd(_, odd) if odd.field == "at"));
        let text = replaced("quantity", Arc::new(StringArray::from(vec!["3"])));
        assert!(matches!(read(&text, &partition("2024-07-01", None)), Stored::Odd(_, odd) if odd.field == "quantity"));
        assert!(is_another_spelling(
            LargeStringArray::from(vec!["a"]).data_type(),
            &DataType::Utf8
        ));
    }

    #[test]
    fn a_value_in_a_column_that_was_not_declared_then_is_odd() {
        let without = |names: &[&str]| {
            let columns = Columns::new(&stream().schema, &batch(), &partition("2024-07-01", None)).unwrap();
            columns.without_values_in(names, &batch()).stored(RecordId(7), 0)
        };
        assert!(matches!(without(&["amount"]), Stored::Odd(_, odd) if odd.field == "amount"));
        assert!(
            matches!(without(&["seen", "nowhere"]), Stored::Row(_)),
            "null, or not in the file"
        );
    }

    #[test]
    fn a_file_without_ids_is_an_error() {
        let without = batch().project(&[0, 1]).unwrap();
        assert!(Columns::new(&stream().schema, &without, &partition("2024-07-01", None)).is_err());
    }

    #[test]
    fn a_file_lies_where_its_partition_values_say() {
        let columns = ["date", "region"];
        let lies = |path: &str, region| {
            lies_where_it_belongs(&Path::parse(path).unwrap(), &columns, &partition("2024-07-01", region))
        };
        assert!(lies("date=2024-07-01/region=Corse/part-0.parquet", Some("Corse")));
        assert!(lies("date=2024-07-01/region=a%2Fb%3D/part-0.parquet", Some("a/b=")));
        assert!(lies(
            "date=2024-07-01/region=__HIVE_DEFAULT_PARTITION__/part-0.parquet",
            None
        ));
        assert!(!lies("date=2024-07-01/region=Bretagne/part-0.parquet", Some("Corse")));
        assert!(!lies("region=Corse/date=2024-07-01/part-0.parquet", Some("Corse")));
        assert!(!lies("date=2024-07-01/part-0.parquet", Some("Corse")));
        assert!(!lies("part-0.parquet", Some("Corse")));
    }
}

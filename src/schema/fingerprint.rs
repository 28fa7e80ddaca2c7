//! A schema as one line of text: what tells two schemas apart, and what either sink keeps of the one in force.
//!
//! Owns: the text, a contract (it lies in MongoDB's progress and in the table's properties), and reading it back:
//! what a sink recorded years ago is enough to judge a change, and to decode the records of that time.
//! Does not own: what a difference means (`evolution`).
//!
//! ```text
//!  at timestamp!;site string!;value decimal(18,3);seen timestamp@ms;by date,site at at in UTC
//! ```
//! `!` is required, `@` the unit of an epoch number. No name of a field can hold a blank, a comma or a semicolon.

use std::fmt::Write as _;

use super::{DATE_COLUMN, EpochUnit, Field, FieldType, PartitionColumn, StreamSchema};

impl StreamSchema {
    /// Differs whenever two schemas would store the same record differently.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for f in &self.fields {
            let _ = write!(text, "{} {};", f.name, f.description("", ""));
        }
        let _ = write!(
            text,
            "by {} at {} in {}",
            self.partition_names().join(","),
            self.fields[self.event_time].name,
            self.timezone
        );
        text
    }

    /// The schema of a fingerprint; `None` where the text is none.
    pub fn parse(fingerprint: &str) -> Option<Self> {
        let (fields, rest) = match fingerprint.rsplit_once(';') {
            Some((fields, rest)) => (fields.split(';').map(field).collect::<Option<Vec<_>>>()?, rest),
            None => return None,
        };
        let (partition_by, rest) = rest.strip_prefix("by ")?.split_once(" at ")?;
        let (event_time, timezone) = rest.split_once(" in ")?;
        let index = |name: &str| fields.iter().position(|field: &Field| field.name == name);
        let event_time = index(event_time)?;
        let names = partition_by.split(',').filter(|name| !name.is_empty());
        let partition_by = names.map(|name| match index(name) {
            Some(field) => Some(PartitionColumn::Field(field)),
            None => (name == DATE_COLUMN).then_some(PartitionColumn::EventDate),
        });
        let partition_by = partition_by.collect::<Option<Vec<_>>>()?;
        Some(Self::new(fields, event_time, partition_by, timezone.parse().ok()?))
    }
}

impl Field {
    /// Type, whether it is required, unit; the separators stand before the two latter.
    pub(super) fn description(&self, before_required: &str, before_unit: &str) -> String {
        let mut text = self.ty.to_string();
        if self.required {
            text.push_str(before_required);
            text.push_str(if before_required.is_empty() { "!" } else { "required" });
        }
        if let Some(unit) = self.unit {
            text.push_str(before_unit);
            text.push_str(match unit {
                EpochUnit::Seconds => "@s",
                EpochUnit::Milliseconds => "@ms",
                EpochUnit::Microseconds => "@us",
            });
        }
        text
    }
}

fn field(text: &str) -> Option<Field> {
    let (name, text) = text.split_once(' ')?;
    let (text, unit) = match text.split_once('@') {
        None => (text, None),
        Some((text, "s")) => (text, Some(EpochUnit::Seconds)),
        Some((text, "ms")) => (text, Some(EpochUnit::Milliseconds)),
        Some((text, "us")) => (text, Some(EpochUnit::Microseconds)),
        Some(_) => return None,
    };
    let plain = text.strip_suffix('!');
    Some(Field {
        name: name.to_owned(),
        ty: field_type(plain.unwrap_or(text))?,
        required: plain.is_some(),
        unit,
    })
}

fn field_type(text: &str) -> Option<FieldType> {
    Some(match text {
        "string" => FieldType::String,
        "boolean" => FieldType::Boolean,
        "byte" => FieldType::Byte,
        "short" => FieldType::Short,
        "integer" => FieldType::Integer,
        "long" => FieldType::Long,
        "float" => FieldType::Float,
        "double" => FieldType::Double,
        "date" => FieldType::Date,
        "timestamp" => FieldType::Timestamp,
        _ => {
            let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            FieldType::Decimal {
                precision: precision.parse().ok()?,
                scale: scale.parse().ok()?,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_back_as_the_schema_it_was_made_of() {
        let all = "at timestamp!;site string!;value decimal(18,3);seen timestamp!@ms;a byte;b short;c integer;d long;\
                   e float;f double;g boolean;h date;by date,site at at in Europe/Paris";
        let schema = StreamSchema::parse(all).expect("a fingerprint");
        assert_eq!(schema.fingerprint(), all);
        assert_eq!((schema.fields.len(), schema.event_time), (12, 0));
        assert!(schema.has_date_column() && schema.is_partition_field(1));
        let value = schema.field("value").expect("declared");
        assert_eq!(
            (value.required, value.ty.to_string()),
            (false, "decimal(18,3)".to_owned())
        );
        assert_eq!(schema.fields[3].unit, Some(EpochUnit::Milliseconds));
    }

    #[test]
    fn a_declared_field_called_date_is_no_derived_one_and_partitions_may_be_none() {
        let declared = "at timestamp!;date string;by date at at in UTC";
        let schema = StreamSchema::parse(declared).expect("a fingerprint");
        assert!(!schema.has_date_column() && schema.is_partition_field(1));
        let none = "at timestamp!;by  at at in UTC";
        assert_eq!(StreamSchema::parse(none).expect("a fingerprint").fingerprint(), none);
    }

    #[test]
    fn what_is_no_fingerprint_is_none() {
        for text in [
            "",
            "at timestamp!",
            "at timestamp!;by  at other in UTC",
            "at timestamp!;by nothing at at in UTC",
            "at timestamp!;by  at at in Nowhere",
            "at instant!;by  at at in UTC",
            "at timestamp!@h;by  at at in UTC",
            "at decimal(18);by  at at in UTC",
        ] {
            assert!(StreamSchema::parse(text).is_none(), "{text}");
        }
    }
}

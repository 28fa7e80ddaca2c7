//! What may be asked: the parameters of a request, checked against the stream's schema.
//!
//! Owns: their names, forms, defaults and bounds. A parameter that is not known is an error, as an unknown key of the
//! configuration is: a misspelt filter must not widen an answer.
//! Does not own: where the answer comes from (`source`), asking for it (`answer`).

use std::collections::{BTreeMap, BTreeSet};

use bson::Bson;
use chrono::{DateTime, NaiveDate, Utc};

use super::error::ApiError;
use crate::config::{Every, StreamConfig};
use crate::schema::{Field, FieldType};

const MAX_ROWS: usize = 100_000;
const MAX_RECORDS: usize = 1_000;

/// Names and values, as they stand in the URL.
pub(super) type Parameters = Vec<(String, String)>;

/// Half open: `from` belongs to it, `to` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Period {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// Of one field any of the values, of several fields all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filters(pub BTreeMap<String, Vec<Bson>>);

/// Measures over a period.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Aggregate {
    pub period: Period,
    pub measures: Vec<String>,
    pub every: Option<Every>,
    pub by: Vec<String>,
    pub filters: Filters,
    pub order: Option<Order>,
    pub limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub column: String,
    pub descending: bool,
}

/// The newest records.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Records {
    pub filters: Filters,
    pub limit: usize,
}

impl Aggregate {
    pub fn parse(parameters: Parameters, stream: &StreamConfig) -> Result<Self, ApiError> {
        let mut given = Given::new(
            parameters,
            &["from", "to", "filter", "measures", "every", "by", "order", "limit"],
        )?;
        let period = Period {
            from: instant("from", given.required("from")?)?,
            to: instant("to", given.required("to")?)?,
        };
        if period.from >= period.to {
            return Err(ApiError::parameter("to", "must be after `from`"));
        }
        let measures = list("measures", given.required("measures")?)?;
        let by = given.one("by")?.map_or(Ok(Vec::new()), |text| list("by", text))?;
        for name in &by {
            field(stream, "by", name)?;
        }
        let every = given.one("every")?.map(every).transpose()?;
        let order = given.one("order")?.map(|text| Order::parse(&text));
        if let Some(order) = &order {
            let is_time = every.is_some() && order.column == "t";
            if !is_time && !measures.contains(&order.column) && !by.contains(&order.column) {
                return Err(ApiError::parameter(
                    "order",
                    format!("names no column of the answer: {}", order.column),
                ));
            }
        }
        Ok(Self {
            period,
            measures,
            every,
            by,
            filters: given.filters(stream)?,
            order,
            limit: given.limit(10_000, MAX_ROWS)?,
        })
    }
}

impl Records {
    pub fn parse(parameters: Parameters, stream: &StreamConfig) -> Result<Self, ApiError> {
        let mut given = Given::new(parameters, &["filter", "limit"])?;
        Ok(Self {
            filters: given.filters(stream)?,
            limit: given.limit(50, MAX_RECORDS)?,
        })
    }
}

impl Order {
    fn parse(text: &str) -> Self {
        let (column, descending) = text.strip_prefix('-').map_or((text, false), |column| (column, true));
        Self {
            column: column.to_owned(),
            descending,
        }
    }
}

/// Parameters that have not been asked for yet.
pub(super) struct Given(BTreeMap<String, Vec<String>>);

impl Given {
    pub fn new(parameters: Parameters, known: &[&str]) -> Result<Self, ApiError> {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in parameters {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                return Err(ApiError::parameter(
                    &name,
                    format!("is no parameter here; known are: {known}"),
                ));
            }
            given.entry(name).or_default().push(value);
        }
        Ok(Self(given))
    }

    fn one(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let values = self.0.remove(name).unwrap_or_default();
        match <[String; 1]>::try_from(values) {
            Ok([value]) => Ok(Some(value)),
            Err(none) if none.is_empty() => Ok(None),
            Err(_) => Err(ApiError::parameter(name, "is given more than once")),
        }
    }

    fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.one(name)?
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ApiError::parameter(name, "is required"))
    }

    fn limit(&mut self, default: usize, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.one("limit")? else {
            return Ok(default);
        };
        match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
            _ => Err(ApiError::parameter(
                "limit",
                format!("wants a number from 1 to {most}, found {text:?}"),
            )),
        }
    }

    fn filters(&mut self, stream: &StreamConfig) -> Result<Filters, ApiError> {
        let mut filters = Filters::default();
        for text in self.0.remove("filter").unwrap_or_default() {
            let (name, value) = match text.split_once(':') {
                Some((name, value)) => (name, Some(value)),
                None => (text.as_str(), None),
            };
            let field = field(stream, "filter", name)?;
            let value = value.map_or(Ok(Bson::Null), |value| typed(field, value))?;
            let values = filters.0.entry(name.to_owned()).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Ok(filters)
    }
}

fn instant(name: &str, text: String) -> Result<DateTime<Utc>, ApiError> {
    DateTime::parse_from_rfc3339(&text)
        .map(|time| time.to_utc())
        .map_err(|_| {
            ApiError::parameter(
                name,
                format!("wants a time such as 2026-01-31T00:00:00Z, found {text:?}"),
            )
        })
}

fn every(text: String) -> Result<Every, ApiError> {
    Every::parse(&text).map_err(|why| ApiError::parameter("every", why))
}

/// Names, separated by commas.
fn list(parameter: &str, text: String) -> Result<Vec<String>, ApiError> {
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() < names.len() || names.iter().any(String::is_empty) {
        return Err(ApiError::parameter(
            parameter,
            format!("wants names separated by commas, each once, found {text:?}"),
        ));
    }
    Ok(names)
}

fn field<'a>(stream: &'a StreamConfig, parameter: &str, name: &str) -> Result<&'a Field, ApiError> {
    let fields = &stream.schema.fields;
    fields.iter().find(|field| field.name == name).ok_or_else(|| {
        let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let message = format!(
            "names {name:?}, which stream {} does not have; it has {}",
            stream.name,
            known.join(", ")
        );
        ApiError::parameter(parameter, message)
    })
}

/// A value as MongoDB has it.
fn typed(field: &Field, text: &str) -> Result<Bson, ApiError> {
    let refused = |wanted: &str| {
        ApiError::parameter(
            "filter",
            format!("wants {wanted} for {}, a {}, found {text:?}", field.name, field.ty),
        )
    };
    match field.ty {
        FieldType::String => Ok(Bson::String(text.to_owned())),
        FieldType::Boolean => text.parse().map(Bson::Boolean).map_err(|_| refused("true or false")),
        FieldType::Byte | FieldType::Short | FieldType::Integer | FieldType::Long => {
            text.parse().map(Bson::Int64).map_err(|_| refused("a whole number"))
        }
        FieldType::Date => {
            let day = text
                .parse::<NaiveDate>()
                .map_err(|_| refused("a day such as 2026-01-31"))?;
            let midnight = day.and_hms_opt(0, 0, 0).expect("every day has one").and_utc();
            Ok(Bson::DateTime(bson::DateTime::from_millis(midnight.timestamp_millis())))
        }
        FieldType::Float | FieldType::Double | FieldType::Decimal { .. } | FieldType::Timestamp => Err(
            ApiError::parameter("filter", format!("is not possible by {}, a {}", field.name, field.ty)),
        ),
    }
}

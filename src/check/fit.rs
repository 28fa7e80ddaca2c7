//! Do the declared fields fit what the sinks hold? One line per stream and sink that holds something.
//!
//! Owns: the sentence. A sink that cannot be asked has failed its own probe, and gets no line here.
//! Does not own: the judgement (`schema::evolution`, `lake::delta::spec`, `sink::mongo`), making the change (`run`).

use std::time::Duration;

use crate::config::{Config, StreamConfig};
use crate::error::SinkError;
use crate::lake::delta::log::LogTail;
use crate::lake::delta::names::AppIds;
use crate::lake::delta::spec::TableSpec;
use crate::lake::store::Store;
use crate::schema::evolution::Fit;
use crate::sink::SinkName;
use crate::sink::mongo;

/// What is said of one stream in one sink.
pub struct Judgement {
    /// May be several lines.
    pub text: String,
    pub fits: bool,
}

/// Looks at every stream's sinks; nothing is created or changed.
pub async fn all(config: &Config, timeout: Duration) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    for stream in &config.streams {
        if stream.mongo.enabled {
            let asked = tokio::time::timeout(timeout, mongo::fit(&config.job, stream)).await;
            judgements.extend(judgement(stream, SinkName::Mongo, asked.ok()));
        }
        if stream.lake.enabled {
            let asked = tokio::time::timeout(timeout, in_lake(&config.job, stream)).await;
            judgements.extend(judgement(stream, SinkName::Lake, asked.ok()));
        }
    }
    judgements
}

/// `None` where nothing is stored, or where the sink did not answer.
fn judgement(
    stream: &StreamConfig,
    sink: SinkName,
    answer: Option<Result<Option<Fit>, SinkError>>,
) -> Option<Judgement> {
    let (fits, found) = match answer? {
        Ok(None) | Err(SinkError::Infrastructure(_) | SinkError::Lost { .. }) => return None,
        Ok(Some(Fit::Same)) => (true, "as stored".to_owned()),
        Ok(Some(Fit::Change(change))) => (true, format!("the next run changes what is stored: {change}")),
        Err(SinkError::Invariant(refused)) => (false, refused.to_string()),
    };
    let mark = if fits { "ok    " } else { "failed" };
    Some(Judgement {
        text: format!("{mark}  fields of stream {} in {sink}: {found}", stream.name),
        fits,
    })
}

async fn in_lake(job: &str, stream: &StreamConfig) -> Result<Option<Fit>, SinkError> {
    let lake = &stream.lake;
    let store = Store::open_existing(&lake.root, &lake.storage, &stream.name);
    let Some(store) = store.map_err(SinkError::Infrastructure)? else {
        return Ok(None);
    };
    let Some(log) = LogTail::load(&store, &AppIds::new(job, &stream.name)).await? else {
        return Ok(None);
    };
    let spec = TableSpec::new(job, &stream.name, &stream.topic, &stream.schema);
    Ok(Some(spec.check(store.location(), &log.protocol, &log.metadata)?))
}

//! May this instance take part at all? Judged once, before it joins the consumer group.
//!
//! Owns: comparing what this instance's configuration says with what both sinks have recorded.
//! Does not own: the rules (each sink checks its own identity in `progress`, `resume` checks one against the
//! other), and everything that can change later: the coordinator judges again at every assignment.
//!
//! An instance with another schema, job, table root or database would be refused by the coordinator as well, but
//! only after the group had given it partitions, which are taken from instances that work. And an instance that
//! is given none would never be judged: `run --once` would end with exit 0.

use std::collections::BTreeMap;

use crate::config::StreamConfig;
use crate::config::secret::mask_uri;
use crate::error::{Invariant, SinkError};
use crate::offsets::{Partition, RecordId, TopicId};
use crate::resume::{self, Known};
use crate::sink::SinkName;
use crate::sink::driver::SinkHandle;

/// Says why this instance must not run. A service that is missing is no reason: the coordinator waits for it.
pub async fn judge(stream: &StreamConfig, sinks: &[SinkHandle]) -> Result<(), Invariant> {
    let mut doubted = false;
    loop {
        let known = match look(sinks).await {
            Ok(known) => known,
            // Rows that were taken out of the table are a loss, which may have been accepted: the coordinator's part.
            Err(SinkError::Invariant(_)) if rows_are_missing(sinks).await => return Ok(()),
            Err(SinkError::Invariant(invariant)) => return Err(invariant),
            Err(SinkError::Infrastructure(_) | SinkError::Lost { .. }) => return Ok(()),
        };
        match resume::plan(&known) {
            Ok(_) => return Ok(()),
            // The sinks are read one after the other, and another instance may have written between.
            Err(_) if !std::mem::replace(&mut doubted, true) => {}
            Err(invariant) => return Err(located(&invariant, stream)),
        }
    }
}

async fn rows_are_missing(sinks: &[SinkHandle]) -> bool {
    for sink in sinks {
        if sink.standing().await.is_ok_and(|standing| standing.removed.is_some()) {
            return true;
        }
    }
    false
}

/// What both sinks have recorded. Kafka is not asked, so that a missing broker holds nothing up: the topic's id
/// stays unknown, and the log's ends play no part.
async fn look(sinks: &[SinkHandle]) -> Result<BTreeMap<Partition, Known>, SinkError> {
    let all: Vec<Partition> = (0..1 << RecordId::PARTITION_BITS).map(Partition).collect();
    let mut known: BTreeMap<Partition, Known> = BTreeMap::new();
    let absent: BTreeMap<SinkName, Option<_>> = sinks.iter().map(|sink| (sink.name, None)).collect();
    for sink in sinks {
        for (partition, position) in sink.progress(&TopicId::unknown(), &all).await? {
            let known = known.entry(partition).or_insert_with(|| Known {
                recorded: absent.clone(),
                ..Known::default()
            });
            known.recorded.insert(sink.name, Some(position));
        }
    }
    Ok(known)
}

/// Two sinks that do not belong together are most often a root or a database that differs from the other
/// instances': say which ones are meant here.
fn located(invariant: &Invariant, stream: &StreamConfig) -> Invariant {
    let root = mask_uri(&stream.lake.root);
    Invariant::new(
        format!(
            "{}, or it is not the one that the other sink was filled beside: this instance writes stream {} to database \
             {} and to the lake at {root}",
            invariant.what, stream.name, stream.mongo.database
        ),
        format!(
            "name the mongo.database and the lake.root of the instances before; {}",
            invariant.choices
        ),
    )
}

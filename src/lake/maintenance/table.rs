//! A table that is looked after, by a running job or by command.
//!
//! Owns: opening it, following its log, and whether it may be touched at all: what the stream itself would refuse to write
//! into is left as it is, down to the files that a person may need to heal it.
//! Does not own: the duties (`compact`, `checkpoint`, `vacuum`), when they are done (`crate::upkeep`).

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::plan::{Bin, PlanSettings, plan};
use crate::config::StreamConfig;
use crate::error::{Invariant, SinkError};
use crate::lake::delta::files::{self, FileState};
use crate::lake::delta::log::LogTail;
use crate::lake::delta::names::AppIds;
use crate::lake::delta::spec::TableSpec;
use crate::lake::store::Store;

pub struct Table {
    pub store: Store,
    pub log: LogTail,
    spec: TableSpec,
}

/// Files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    pub files: u64,
    pub bytes: u64,
}

impl Sum {
    pub fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    pub fn mean(&self) -> u64 {
        self.bytes.checked_div(self.files).unwrap_or_default()
    }
}

impl Table {
    /// The stream's table at its newest version; `None` where there is none yet.
    pub async fn open(job: &str, stream: &StreamConfig) -> Result<Option<Self>, SinkError> {
        let lake = &stream.lake;
        let store = Store::open_existing(&lake.root, &lake.storage, &stream.name).map_err(SinkError::Infrastructure)?;
        let Some(store) = store else { return Ok(None) };
        let log = LogTail::load(&store, &AppIds::new(job, &stream.name)).await?;
        let spec = TableSpec::new(job, &stream.name, &stream.topic, &stream.schema);
        Ok(log.map(|log| Self { store, log, spec }))
    }

    /// Follows the log to its end.
    pub async fn refresh(&mut self) -> Result<(), SinkError> {
        self.log.refresh(&self.store).await.map(drop)
    }

    /// May it be touched? A table of another job, of a form that we do not write, or with rows taken out behind our
    /// progress may not.
    pub fn check(&self) -> Result<(), Invariant> {
        let (location, log) = (self.store.location(), &self.log);
        self.spec.check(location, &log.protocol, &log.metadata)?;
        match &log.damage {
            None => Ok(()),
            Some(damage) => Err(Invariant::new(
                damage.said(location),
                "restore the table, or accept the loss (affluent run --accept-loss); until then its files stay as they are",
            )),
        }
    }

    /// What is worth putting together now, and all there is. Holds the files below the target's size.
    pub async fn plan(&self, now: DateTime<Utc>, settings: &PlanSettings) -> Result<(Sum, Vec<Bin>), SinkError> {
        let mut all = Sum::default();
        let mut small = Vec::new();
        let reading = files::visit(&self.store, self.log.version, |state| {
            if let FileState::Active(file) = state {
                all.add(file.size);
                if file.size < settings.target {
                    small.push(file);
                }
            }
        });
        reading.await?;
        Ok((all, plan(small, now.timestamp_millis(), settings)))
    }
}

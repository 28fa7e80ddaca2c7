//! The lake's side: one snapshot of the Delta table, its files, and their rows.
//!
//! Owns: opening the table, the pass over the `_id` columns that learns which offsets a file holds (a file
//! mixes partitions, so its statistics say nothing about them), and reading the files a window needs.
//! Does not own: the log's other contents (`log`), rows out of columns (`columns`), any comparison.

pub mod columns;
pub mod damage;
pub mod log;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context, bail};
use deltalake_core::DeltaTable;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStream;

use self::columns::{Columns, PartitionValues};
use self::log::LogState;
use super::compare::{Comparison, Kind};
use super::plan::{Place, Plan, Reach, Side, name_of};
use super::records::Coordinates;
use super::schemas::{SchemaIndex, Schemas};
use crate::config::StreamConfig;
use crate::lake::delta::library;
use crate::lake::read::StoredObject;
use crate::lake::store::Store;
use crate::offsets::{Epoch, Offset, OffsetRange, Partition, RecordId, TopicId};
use crate::schema::ID_COLUMN;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 16 * 1024;

/// One version of a table.
#[derive(Debug)]
pub struct LakeSide {
    pub version: u64,
    pub log: LogState,
    store: Arc<dyn ObjectStore>,
    files: Vec<DataFile>,
}

#[derive(Debug)]
struct DataFile {
    path: Path,
    bytes: u64,
    partition: PartitionValues,
    /// Offsets the file holds of each partition, from the lowest to the highest; only those compared.
    held: BTreeMap<Partition, OffsetRange>,
}

/// What the ids alone tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdSurvey {
    pub files: u64,
    /// Rows whose records Kafka no longer has.
    pub unverifiable: u64,
    /// With the reason.
    pub foreign: Kind<(String, String)>,
    /// Files that do not lie where their partition values say.
    pub misplaced: Kind<String>,
    /// Files the log promises that are gone or cannot be read; what they held shows as missing.
    pub damaged: Kind<String>,
}

impl LakeSide {
    /// The newest snapshot; `None` where there is no table yet. A damaged log is an error with a
    /// [`damage::finding`].
    pub async fn open(stream: &StreamConfig) -> anyhow::Result<Option<Self>> {
        let lake = &stream.lake;
        let Some(place) = Store::open_existing(&lake.root, &lake.storage, &stream.name)? else {
            return Ok(None);
        };
        let mut table = library::table(&place);
        let store = Arc::clone(place.objects());
        // Our own reading comes first: it names a torn commit, and fixes the version for the library's.
        let Some((version, log)) = log::read(&store).await? else {
            return Ok(None);
        };
        let loading = table.load_version(version).await;
        loading.with_context(|| format!("cannot open version {version} of the delta table {}", place.location()))?;
        let files = active_files(&table).await?;
        Ok(Some(Self {
            version,
            log,
            store,
            files,
        }))
    }

    /// How often the topic has been re-created: each time the table's progress goes on under another topic id.
    pub fn epoch(&self, job: &str, stream: &str, topic_id: &TopicId) -> Epoch {
        let earlier = self
            .topics(job, stream)
            .into_iter()
            .filter(|id| id.is_known() && id != topic_id);
        Epoch(u8::try_from(earlier.count()).unwrap_or(u8::MAX))
    }

    /// Topic ids under which the table has progress.
    pub fn topics(&self, job: &str, stream: &str) -> BTreeSet<TopicId> {
        let prefix = format!("affluent/{job}/{stream}/");
        let of_application = |app: &String| {
            let (topic, _) = app.strip_prefix(&prefix)?.split_once('/')?;
            Some(TopicId(topic.to_owned()))
        };
        self.log.transactions.keys().filter_map(of_application).collect()
    }

    /// Start and next offset of every partition the table has progress of under this topic id.
    ///
    /// `affluent/<job>/<stream>/<topic id>/<partition>` holds the last offset included, the same with `/start`
    /// the last one before the start. Both sinks begin at one start, so `other_start` serves where it is missing.
    pub fn reach(
        &self,
        job: &str,
        stream: &str,
        topic_id: &TopicId,
        other_start: impl Fn(Partition) -> Option<Offset>,
    ) -> BTreeMap<Partition, Reach> {
        // What began under a broker without topic ids goes on under the id that is known now.
        let unknown = TopicId::unknown();
        let topic_id = if self.topics(job, stream).contains(topic_id) {
            topic_id
        } else {
            &unknown
        };
        let prefix = format!("affluent/{job}/{stream}/{topic_id}/");
        let transactions = &self.log.transactions;
        let of_partition = |(app, last): (&String, &i64)| {
            let partition = Partition(app.strip_prefix(&prefix)?.parse().ok()?);
            let recorded = transactions.get(&format!("{app}/start")).map(|before| before + 1);
            let reach = Reach {
                start: recorded.or_else(|| other_start(partition)).unwrap_or(0),
                next: last + 1,
                // Rows and progress come in one commit: there is nothing beyond.
                end: last + 1,
            };
            Some((partition, reach))
        };
        transactions.iter().filter_map(of_partition).collect()
    }

    /// Reads every file's ids: learns where they are, and judges those that no window will see.
    pub async fn survey(&mut self, stream: &StreamConfig, plan: &Plan) -> anyhow::Result<IdSurvey> {
        let mut survey = IdSurvey::default();
        let columns = stream.schema.partition_names();
        for index in 0..self.files.len() {
            let file = &self.files[index];
            survey.files += 1;
            if !columns::lies_where_it_belongs(&file.path, &columns, &file.partition) {
                survey.misplaced.add(|| file.path.to_string());
            }
            match self.survey_file(file, plan, &mut survey).await {
                Ok(held) => self.files[index].held = held,
                Err(error) => note_damage(error, file, &mut survey.damaged)?,
            }
        }
        Ok(survey)
    }

    async fn survey_file(
        &self,
        file: &DataFile,
        plan: &Plan,
        survey: &mut IdSurvey,
    ) -> anyhow::Result<BTreeMap<Partition, OffsetRange>> {
        let mut held: BTreeMap<Partition, OffsetRange> = BTreeMap::new();
        let mut batches = self.rows(file, true).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = columns::ids(&batch)?;
            for row in 0..ids.len() {
                let Some(id) = columns::id_at(&ids, row) else {
                    survey
                        .foreign
                        .add(|| ("null".to_owned(), "a row without an id".to_owned()));
                    continue;
                };
                match plan.place(Side::Lake, id) {
                    Place::Compared => {
                        let (partition, offset) = (RecordId(id).partition(), RecordId(id).offset());
                        held.entry(partition)
                            .and_modify(|range| {
                                range.start = range.start.min(offset);
                                range.end = range.end.max(offset + 1);
                            })
                            .or_insert(OffsetRange::new(offset, offset + 1));
                    }
                    Place::Unverifiable => survey.unverifiable += 1,
                    Place::Foreign(why) => survey.foreign.add(|| (name_of(id), why.to_owned())),
                }
            }
        }
        Ok(held)
    }

    /// Of these records, those the table has a row of. Asks files for more than a window's comparison does: also
    /// for records that Kafka no longer has.
    pub async fn holding(&self, epoch: Epoch, wanted: &BTreeSet<Coordinates>) -> anyhow::Result<BTreeSet<Coordinates>> {
        let mut held = BTreeSet::new();
        for file in &self.files {
            if let Err(error) = self.holding_in_file(file, epoch, wanted, &mut held).await {
                note_damage(error, file, &mut Kind::default())?;
            }
        }
        Ok(held)
    }

    async fn holding_in_file(
        &self,
        file: &DataFile,
        epoch: Epoch,
        wanted: &BTreeSet<Coordinates>,
        held: &mut BTreeSet<Coordinates>,
    ) -> anyhow::Result<()> {
        let mut batches = self.rows(file, true).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = columns::ids(&batch)?;
            let ids = (0..ids.len()).filter_map(|row| columns::id_at(&ids, row)).map(RecordId);
            let of_epoch = ids.filter(|id| id.0 >= 0 && id.epoch() == epoch);
            held.extend(
                of_epoch
                    .map(|id| (id.partition(), id.offset()))
                    .filter(|record| wanted.contains(record)),
            );
        }
        Ok(())
    }

    /// Shows a window's comparison every row the table has of it; answers which files turned out damaged.
    pub async fn compare(&self, schemas: &Schemas, comparison: &mut Comparison) -> anyhow::Result<Kind<String>> {
        let mut damaged = Kind::default();
        let wanted: HashMap<Partition, OffsetRange> = comparison.expected().ranges().collect();
        let overlaps = |(partition, held): (&Partition, &OffsetRange)| {
            let range = wanted.get(partition);
            range.is_some_and(|range| held.start < range.end && range.start < held.end)
        };
        for file in self.files.iter().filter(|file| file.held.iter().any(overlaps)) {
            if let Err(error) = self.compare_file(schemas, file, comparison).await {
                note_damage(error, file, &mut damaged)?;
            }
        }
        Ok(damaged)
    }

    async fn compare_file(
        &self,
        schemas: &Schemas,
        file: &DataFile,
        comparison: &mut Comparison,
    ) -> anyhow::Result<()> {
        let mut batches = self.rows(file, false).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = columns::ids(&batch)?;
            // A file that was put together of others has rows of several times.
            let mut by_schema: BTreeMap<SchemaIndex, Columns> = BTreeMap::new();
            for row in 0..ids.len() {
                let id = columns::id_at(&ids, row).map(RecordId);
                let Some(id) = id.filter(|id| comparison.expected().contains(*id)) else {
                    continue;
                };
                let index = schemas.at(Side::Lake, id.partition(), id.offset());
                let columns = match by_schema.entry(index) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let schema = &schemas.stream(index).schema;
                        let columns = Columns::new(schema, &batch, &file.partition)?;
                        new.insert(columns.without_values_in(&schemas.undeclared(index), &batch))
                    }
                };
                comparison.observe(columns.stored(id, row));
            }
        }
        Ok(())
    }

    async fn rows(&self, file: &DataFile, ids_only: bool) -> anyhow::Result<ParquetRecordBatchStream<StoredObject>> {
        let reader = StoredObject {
            store: self.store.clone(),
            path: file.path.clone(),
            bytes: file.bytes,
        };
        let mut builder = reader.open().await?.with_batch_size(BATCH_ROWS);
        if ids_only {
            let mask = ProjectionMask::columns(builder.parquet_schema(), [ID_COLUMN]);
            builder = builder.with_projection(mask);
        }
        Ok(builder.build()?)
    }
}

fn note_damage(error: anyhow::Error, file: &DataFile, damaged: &mut Kind<String>) -> anyhow::Result<()> {
    let error = damage::judge(error, &file.path);
    match damage::finding(&error) {
        Some(finding) => {
            damaged.add(|| finding.to_string());
            Ok(())
        }
        None => Err(error),
    }
}

async fn active_files(table: &DeltaTable) -> anyhow::Result<Vec<DataFile>> {
    let log_store = table.log_store();
    let mut files = Vec::new();
    let mut views = table.snapshot()?.snapshot().file_views(log_store.as_ref(), None);
    while let Some(file) = views.try_next().await? {
        if file.deletion_vector_descriptor().is_some() {
            bail!(
                "{} has a deletion vector, which verify cannot read: run REORG … APPLY (PURGE) first",
                file.path()
            );
        }
        files.push(DataFile {
            path: file.object_store_path(),
            bytes: u64::try_from(file.size()).unwrap_or_default(),
            partition: file.partition_values_map().into_iter().collect(),
            held: BTreeMap::new(),
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests;

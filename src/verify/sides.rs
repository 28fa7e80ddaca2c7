//! Both sinks as they are when a verification begins, and what they have recorded.
//!
//! Owns: the order of reading (the lake's snapshot, then MongoDB's, then the ends of Kafka's log: each must
//! cover what was seen before it), and the signs that there is nothing to compare.
//! Does not own: comparing (`stream`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lake::{LakeSide, damage};
use super::mongo::{MongoSide, MongoSnapshot};
use super::plan::{PartitionPlan, Plan, Reach};
use super::records::{self, Coordinates};
use super::schemas::Schemas;
use crate::config::{Config, StreamConfig};
use crate::kafka::admin::{TopicDescription, watermarks};
use crate::offsets::{Epoch, Partition, TopicId};

pub struct Sides {
    /// `None`: switched off, or no table yet.
    pub lake: Option<LakeSide>,
    /// `None`: switched off.
    pub mongo: Option<(MongoSide, MongoSnapshot)>,
}

impl Sides {
    /// What is wrong with the table itself goes to `problems`.
    pub async fn open(stream: &StreamConfig, problems: &mut Vec<String>) -> anyhow::Result<Self> {
        let mut lake = None;
        if stream.lake.enabled {
            lake = match LakeSide::open(stream).await {
                Ok(lake) => lake,
                Err(error) => match damage::finding(&error) {
                    Some(finding) => {
                        problems.push(format!("the lake's table: {finding}"));
                        None
                    }
                    None => return Err(error),
                },
            };
        }
        let mut mongo = None;
        if stream.mongo.enabled {
            let side = MongoSide::connect(&stream.mongo).await?;
            let snapshot = side.snapshot(stream).await?;
            mongo = Some((side, snapshot));
        }
        Ok(Self { lake, mongo })
    }

    /// Signs that a sink is not this job's, or not of this topic: then there is nothing to compare.
    pub fn strangers(&self, job: &str, stream: &str, topic_id: &TopicId) -> Vec<String> {
        let mut signs = BTreeSet::new();
        if let Some(lake) = &self.lake {
            signs.extend(strange_table(lake, job, stream, topic_id));
        }
        for progress in self.mongo.iter().flat_map(|(_, snapshot)| snapshot.progress.values()) {
            if progress.job != job {
                signs.insert(format!("the collection belongs to job {}, not {job}", progress.job));
            }
            if progress.topic_id.is_known() && topic_id.is_known() && progress.topic_id != *topic_id {
                signs.insert(recreated("mongodb", &progress.topic_id, topic_id));
            }
            if progress.state != "ready" {
                let state = &progress.state;
                signs.insert(format!(
                    "mongodb's side is in state {state}: verify again when it is ready"
                ));
            }
        }
        signs.into_iter().collect()
    }

    pub async fn plan(&self, config: &Config, stream: &StreamConfig, topic: &TopicDescription) -> anyhow::Result<Plan> {
        let epoch = self.epoch(&config.job, &stream.name, &topic.id);
        let mongo = self.mongo_reach(stream, epoch).await?;
        let other_start = |partition| mongo.get(&partition).map(|reach| reach.start);
        let lake = self.lake.as_ref();
        let lake = lake.map(|lake| lake.reach(&config.job, &stream.name, &topic.id, other_start));
        let lake = lake.unwrap_or_default();
        let ends = watermarks(&config.kafka, &stream.topic, &topic.partitions, records::ASK_TIMEOUT).await?;
        let partitions = ends.into_iter().map(|(partition, ends)| {
            let plan = PartitionPlan {
                low: ends.low,
                high: ends.high.max(ends.low),
                mongo: mongo.get(&partition).copied(),
                lake: lake.get(&partition).copied(),
            };
            (partition, plan)
        });
        Ok(Plan {
            epoch,
            partitions: partitions.collect(),
        })
    }

    /// Which schema was in force where; an error where a sink's record of it cannot be read.
    pub fn schemas(&self, stream: &Arc<StreamConfig>, plan: &Plan) -> anyhow::Result<Schemas> {
        let none = BTreeMap::new();
        let mongo = self.mongo.as_ref().map_or(&none, |(_, snapshot)| &snapshot.progress);
        let partitions = plan.partitions.keys().copied().collect();
        Schemas::read(stream, plan.epoch, &partitions, mongo, self.lake.as_ref())
    }

    /// Of these records, those that either sink holds.
    pub async fn holding(
        &self,
        stream: &StreamConfig,
        plan: &Plan,
        wanted: &BTreeSet<Coordinates>,
    ) -> anyhow::Result<BTreeSet<Coordinates>> {
        let mut held = BTreeSet::new();
        if wanted.is_empty() {
            return Ok(held);
        }
        if let Some((side, _)) = &self.mongo {
            held.append(&mut side.holding(stream, plan.epoch, wanted).await?);
        }
        if let Some(side) = &self.lake {
            held.append(&mut side.holding(plan.epoch, wanted).await?);
        }
        Ok(held)
    }

    /// MongoDB records the epoch; a table tells it by the topics it has gone through.
    fn epoch(&self, job: &str, stream: &str, topic_id: &TopicId) -> Epoch {
        let progress = self.mongo.iter().flat_map(|(_, snapshot)| snapshot.progress.values());
        let recorded = progress.map(|progress| progress.epoch).max();
        let lake = self.lake.as_ref();
        recorded
            .or_else(|| lake.map(|lake| lake.epoch(job, stream, topic_id)))
            .unwrap_or_default()
    }

    async fn mongo_reach(&self, stream: &StreamConfig, epoch: Epoch) -> anyhow::Result<BTreeMap<Partition, Reach>> {
        let mut reaches = BTreeMap::new();
        let Some((side, snapshot)) = &self.mongo else {
            return Ok(reaches);
        };
        for (partition, progress) in &snapshot.progress {
            let last = side.last_offset(stream, epoch, *partition).await?;
            reaches.insert(*partition, progress.reach(last));
        }
        Ok(reaches)
    }
}

fn strange_table(lake: &LakeSide, job: &str, stream: &str, topic_id: &TopicId) -> Option<String> {
    if let Some(owner) = lake.log.configuration.get("affluent.job").filter(|owner| *owner != job) {
        return Some(format!("the lake's table belongs to job {owner}, not {job}"));
    }
    let topics = lake.topics(job, stream);
    let goes_on =
        topics.is_empty() || !topic_id.is_known() || topics.contains(topic_id) || !topics.iter().all(TopicId::is_known);
    let newest = topics.last().filter(|_| !goes_on)?;
    Some(recreated("the lake", newest, topic_id))
}

fn recreated(sink: &str, held: &TopicId, topic_id: &TopicId) -> String {
    format!("the topic was re-created: {sink} holds records of topic id {held}, kafka's is {topic_id}")
}

//! "There is something new": MongoDB's side of the streams, followed, and told to whoever listens.
//!
//! Owns: one change stream per process on the progress documents, however many listen; how often it is told.
//! Does not own: what is new (a listener asks again).
//!
//! ```text
//!  _affluent_progress ──change stream──▶ follow ──watch──▶ one server-sent stream per listener
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use bson::{Document, doc};
use chrono::{SecondsFormat, Utc};
use futures::stream::{Stream, StreamExt as _, select_all};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::documents::Documents;
use crate::health::{Part, StreamHealth};
use crate::sink::mongo::PROGRESS_COLLECTION;

/// Between two notices of one stream to one listener.
const AT_MOST_EVERY: Duration = Duration::from_millis(250);
/// Before MongoDB is asked again after it failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// So that proxies do not take a quiet connection for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is known of one stream's MongoDB side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Grows whenever progress has moved.
    pub changes: u64,
    /// Whether MongoDB can be followed now.
    pub is_followed: bool,
}

/// A stream as it is followed.
#[derive(Clone, Debug)]
pub(super) struct Followed(watch::Receiver<Seen>);

impl Followed {
    /// Follows a stream until `shutdown`. `told`: who is to know whether that works.
    pub fn start(documents: Documents, stream: &str, told: Option<StreamHealth>, shutdown: CancellationToken) -> Self {
        let (sender, receiver) = watch::channel(Seen::default());
        let stream = stream.to_owned();
        tokio::spawn(async move {
            tokio::select! {
                () = follow(documents, stream, told, sender) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self(receiver)
    }

    pub fn seen(&self) -> Seen {
        *self.0.borrow()
    }
}

async fn follow(documents: Documents, stream: String, told: Option<StreamHealth>, sender: watch::Sender<Seen>) {
    if let Some(told) = &told {
        told.starting([Part::Mongo]);
    }
    loop {
        let ended = follow_once(&documents, &stream, told.as_ref(), &sender).await;
        sender.send_if_modified(|seen| std::mem::replace(&mut seen.is_followed, false));
        if let Err(error) = ended {
            match &told {
                Some(told) => told.held(Part::Mongo, error),
                None => tracing::debug!(stream, %error, "the progress in mongodb cannot be followed"),
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn follow_once(
    documents: &Documents,
    stream: &str,
    told: Option<&StreamHealth>,
    sender: &watch::Sender<Seen>,
) -> mongodb::error::Result<()> {
    let of_stream =
        doc! { "$match": { "documentKey._id": { "$gt": format!("{stream}/"), "$lt": format!("{stream}0") } } };
    let only_that = doc! { "$project": { "_id": 1, "operationType": 1 } };
    let collection = documents.0.collection::<Document>(PROGRESS_COLLECTION);
    let changes = collection.watch().pipeline([of_stream, only_that]).await?;
    let mut changes = changes.with_type::<Document>();
    // Also what came while nobody was looking.
    let moved = |seen: &mut Seen| {
        seen.changes += 1;
        seen.is_followed = true;
    };
    sender.send_modify(moved);
    if let Some(told) = told {
        told.ok(Part::Mongo);
    }
    while let Some(change) = changes.next().await {
        change?;
        sender.send_modify(moved);
    }
    Ok(())
}

/// The notices for one listener.
pub(super) fn notices(
    streams: &BTreeMap<String, Arc<super::Served>>,
    shutdown: CancellationToken,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let all = streams.values().filter_map(|served| {
        let (_, followed) = served.documents.as_ref()?;
        Some(of_stream(served.config.name.clone(), followed.0.clone()).boxed())
    });
    let events = select_all(all).take_until(shutdown.cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn of_stream(stream: String, mut seen: watch::Receiver<Seen>) -> impl Stream<Item = Result<Event, Infallible>> {
    seen.mark_changed();
    futures::stream::unfold((stream, seen, None), |(stream, mut seen, told)| async move {
        if let Some(told) = told {
            tokio::time::sleep_until(told).await;
        }
        seen.changed().await.ok()?;
        let name = match seen.borrow_and_update().is_followed {
            true => "progress",
            false => "unavailable",
        };
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let event = Event::default()
            .event(name)
            .data(json!({ "stream": stream, "at": at }).to_string());
        let next = tokio::time::Instant::now() + AT_MOST_EVERY;
        Some((Ok(event), (stream, seen, Some(next))))
    })
}

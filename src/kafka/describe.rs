//! `DescribeTopics`, the one admin request that tells a topic's id, through `rdkafka-sys`: the safe
//! wrapper does not have it.
//!
//! Owns: every `unsafe` block that speaks to librdkafka, and how its UUID becomes a [`TopicId`].
//! Does not own: which client is asked, and what its silence means (`admin`).

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::admin::{TopicDescription, any_broker};
use crate::offsets::{Partition, TopicId};

/// How long one wait for the answer may keep the client's own queue (log lines, token refreshes) unserved.
const SERVE_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub(super) enum DescribeError {
    #[error("the topic's name contains a zero byte")]
    Name,
    #[error("no broker answers: {0}")]
    Brokers(KafkaError),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// The request failed as a whole.
    #[error("{0}")]
    Request(String),
    /// The broker answered with an error for this topic.
    #[error("{0}")]
    Topic(RDKafkaErrorCode),
}

/// Asks for one topic; `None` where there is none of that name. Blocks up to `timeout`.
pub(super) fn describe<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicDescription>, DescribeError> {
    let name = CString::new(topic).map_err(|_| DescribeError::Name)?;
    let deadline = Instant::now() + timeout;
    let broker = any_broker(client.client(), topic, timeout).map_err(DescribeError::Brokers)?;
    let timeout = deadline.saturating_duration_since(Instant::now());
    let rk = client.client().native_ptr();

    // SAFETY: `rk` lives as long as `client`, which outlives this call; a queue has no other requirement.
    let queue = unsafe { Owned::new(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy) };
    request(rk, &name, broker, &queue, timeout)?;
    let event = wait(client, &queue, timeout)?;

    // SAFETY: the event is live; the accessors only read it, and the string they return lives as long.
    unsafe {
        if sys::rd_kafka_event_error(event.ptr()) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(DescribeError::Request(text(sys::rd_kafka_event_error_string(
                event.ptr(),
            ))));
        }
    }
    read(&event)
}

/// Sends the request; its answer will arrive on `queue`.
fn request(
    rk: *mut sys::rd_kafka_t,
    name: &CStr,
    broker: i32,
    queue: &Owned<sys::rd_kafka_queue_t>,
    timeout: Duration,
) -> Result<(), DescribeError> {
    // librdkafka refuses more than an hour.
    let timeout_ms = timeout.as_millis().clamp(1, 3_600_000) as i32;
    let mut names = [name.as_ptr()];
    let mut reason = [0 as c_char; 256];
    // SAFETY: `rk` and the queue are live; `names` holds one valid C string which librdkafka copies before it
    // returns; `reason` is as long as told; options and collection are copied by the request and freed here.
    unsafe {
        let options = Owned::new(
            sys::rd_kafka_AdminOptions_new(rk, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            sys::rd_kafka_AdminOptions_destroy,
        );
        let (buffer, length) = (reason.as_mut_ptr(), reason.len());
        for set in [
            sys::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), timeout_ms, buffer, length),
            sys::rd_kafka_AdminOptions_set_broker(options.ptr(), broker, buffer, length),
        ] {
            if set != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(DescribeError::Request(text(buffer)));
            }
        }
        let topics = Owned::new(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        );
        sys::rd_kafka_DescribeTopics(rk, topics.ptr(), options.ptr(), queue.ptr());
    }
    Ok(())
}

/// Waits for the answer, serving the client's own queue meanwhile: without that a token would not be
/// refreshed and the reason of a failure would stay unheard.
fn wait<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    queue: &Owned<sys::rd_kafka_queue_t>,
    timeout: Duration,
) -> Result<Owned<sys::rd_kafka_event_t>, DescribeError> {
    // librdkafka keeps `timeout` itself and says more about it than we could: give it a head start.
    let deadline = Instant::now() + timeout + Duration::from_secs(2);
    while Instant::now() < deadline {
        // SAFETY: the queue is live; the returned event, if any, is ours to destroy.
        let event = unsafe { sys::rd_kafka_queue_poll(queue.ptr(), SERVE_INTERVAL.as_millis() as i32) };
        if !event.is_null() {
            // SAFETY: not null, and owned by us since the poll.
            return Ok(unsafe { Owned::new(event, sys::rd_kafka_event_destroy) });
        }
        let _ = client.poll(Duration::ZERO);
    }
    Err(DescribeError::NoAnswer(timeout))
}

fn read(event: &Owned<sys::rd_kafka_event_t>) -> Result<Option<TopicDescription>, DescribeError> {
    // SAFETY: every pointer below is borrowed from the live event; arrays are read only up to the counts
    // librdkafka gives with them; null is checked wherever its documentation allows it.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.ptr());
        if result.is_null() {
            return Err(DescribeError::Request("an answer to another request".to_owned()));
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Ok(None);
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            match RDKafkaErrorCode::from(sys::rd_kafka_error_code(error)) {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition => return Ok(None),
                code => return Err(DescribeError::Topic(code)),
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let id = match id.is_null() {
            true => TopicId::unknown(),
            false => topic_id(
                sys::rd_kafka_Uuid_most_significant_bits(id),
                sys::rd_kafka_Uuid_least_significant_bits(id),
            ),
        };
        let infos = sys::rd_kafka_TopicDescription_partitions(topic, &mut count);
        let mut partitions: Vec<Partition> = (0..count)
            .map(|i| Partition(sys::rd_kafka_TopicPartitionInfo_partition(*infos.add(i))))
            .collect();
        partitions.sort_unstable();
        Ok(Some(TopicDescription { id, partitions }))
    }
}

/// As Kafka's own tools print it. librdkafka's text form has the standard alphabet, whose `/` would break
/// the lake's `appId`, so the bits are encoded here. All zero, from brokers without ids, is the unknown id.
fn topic_id(most: i64, least: i64) -> TopicId {
    let mut bits = [0; 16];
    bits[..8].copy_from_slice(&most.to_be_bytes());
    bits[8..].copy_from_slice(&least.to_be_bytes());
    TopicId(URL_SAFE_NO_PAD.encode(bits))
}

/// # Safety
/// `message` is null or a valid C string.
unsafe fn text(message: *const c_char) -> String {
    if message.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}

/// A native object that is destroyed exactly once, also on an early return.
struct Owned<T> {
    object: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `object` is live and ours, and `destroy` is its destructor.
    unsafe fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Self {
        let object = NonNull::new(object).expect("librdkafka aborts rather than return null from a constructor");
        Self { object, destroy }
    }

    fn ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` was promised ownership, and nobody destroys the object before this.
        unsafe { (self.destroy)(self.object.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_22_characters_of_the_url_safe_alphabet() {
        // All ones would be slashes and a padded end in the standard alphabet.
        assert_eq!(topic_id(-1, -1).0, "_____________________w");
        assert_eq!(
            topic_id(0x0102_0304_0506_0708, 0x090a_0b0c_0d0e_0f10).0,
            "AQIDBAUGBwgJCgsMDQ4PEA"
        );
    }

    #[test]
    fn the_zero_id_is_the_unknown_id() {
        assert_eq!(topic_id(0, 0), TopicId::unknown());
        assert!(!topic_id(0, 0).is_known());
    }
}

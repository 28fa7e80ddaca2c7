//! A fetched record's headers as plain values.
//!
//! Owns: reading them without the wrapper's `Headers` trait, which panics on a name that is not UTF-8 —
//! one such record would end the process at every restart.
//! Does not own: what the headers mean (`dead_letter`).

use std::ffi::CStr;
use std::ptr;

use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

use crate::batch::Headers;

/// `None` where the record has no headers. Bytes of a name that are not UTF-8 become U+FFFD.
pub fn record_headers(message: &BorrowedMessage<'_>) -> Option<Box<Headers>> {
    let mut native = ptr::null_mut();
    // SAFETY: the message is live while borrowed; its headers are parsed in place and stay its own.
    let answer = unsafe { sys::rd_kafka_message_headers(message.ptr(), &mut native) };
    if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || native.is_null() {
        return None;
    }
    let mut headers = Headers::new();
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: `native` is live as above; for each index below the count librdkafka sets a C string and
    // either null or `size` readable bytes; both are copied before the next call.
    unsafe {
        while sys::rd_kafka_header_get_all(native, headers.len(), &mut name, &mut value, &mut size)
            == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            let bytes = |start: *const u8| std::slice::from_raw_parts(start, size).to_vec();
            headers.push((name, (!value.is_null()).then(|| bytes(value.cast()))));
        }
    }
    (!headers.is_empty()).then(|| Box::new(headers))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, Producer};
    use rdkafka::{ClientConfig, Offset, TopicPartitionList};

    use super::*;

    /// Sends one record with two headers through the native call: the wrapper takes only UTF-8 names.
    fn send(brokers: &str) {
        use sys::rd_kafka_vtype_t::*;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .create()
            .expect("producer");
        let (name, value) = (c"n\xe9", b"\xff\x00");
        // SAFETY: tags and arguments alternate as documented, and everything pointed to is copied by the call.
        let error = unsafe {
            sys::rd_kafka_producev(
                producer.client().native_ptr(),
                RD_KAFKA_VTYPE_TOPIC,
                c"sales".as_ptr(),
                RD_KAFKA_VTYPE_PARTITION,
                0_i32,
                RD_KAFKA_VTYPE_HEADER,
                name.as_ptr(),
                value.as_ptr(),
                value.len() as isize,
                RD_KAFKA_VTYPE_HEADER,
                c"null".as_ptr(),
                ptr::null::<u8>(),
                0_isize,
                RD_KAFKA_VTYPE_END,
            )
        };
        assert_eq!(error, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        producer.flush(Duration::from_secs(20)).expect("delivered");
    }

    #[test]
    fn a_name_that_is_not_utf8_ends_nothing() {
        let cluster = MockCluster::new(1).expect("mock cluster");
        cluster.create_topic("sales", 1, 1).expect("topic");
        send(&cluster.bootstrap_servers());

        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", "test")
            .create()
            .expect("consumer");
        let mut partitions = TopicPartitionList::new();
        let added = partitions.add_partition_offset("sales", 0, Offset::Beginning);
        added.and_then(|()| consumer.assign(&partitions)).expect("assigned");
        let deadline = Instant::now() + Duration::from_secs(30);
        let message = loop {
            assert!(Instant::now() < deadline, "no record came");
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                break message;
            }
        };
        let expected = vec![
            ("n\u{fffd}".to_owned(), Some(b"\xff\x00".to_vec())),
            ("null".to_owned(), None),
        ];
        assert_eq!(record_headers(&message), Some(Box::new(expected)));
    }
}

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

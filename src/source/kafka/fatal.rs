//! Errors after which the Kafka client never works again, in words that say what to do.
//!
//! Owns: the sentence for each. Does not own: noticing them (`super`), stopping the stream (`pipeline`).
//!
//! Most of them are about static membership. The two group protocols settle a duplicate `group.instance.id`
//! differently: the classic one lets the newcomer take over and fences the older member; KIP-848 refuses the
//! newcomer as long as the older member is known, be it alive or killed less than a session timeout ago.

use rdkafka::error::RDKafkaErrorCode;

use crate::error::Invariant;

const OWN_ID: &str = "give every process a group.instance.id of its own in [kafka.properties]";

/// Who met the error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub stream: &'a str,
    pub group: &'a str,
    /// As the group knows it.
    pub instance: Option<&'a str>,
}

/// `code` is librdkafka's, where it has recorded a fatal error.
pub(super) fn invariant(code: Option<RDKafkaErrorCode>, reason: &str, member: Member<'_>) -> Invariant {
    let Member {
        stream,
        group,
        instance,
    } = member;
    match (code, instance) {
        (Some(RDKafkaErrorCode::FencedInstanceId), Some(id)) => Invariant::new(
            format!("another member of group {group} has joined with our group.instance.id `{id}` and taken our place"),
            format!("{OWN_ID}, then start again"),
        ),
        (Some(RDKafkaErrorCode::UnreleasedInstanceId), Some(id)) => Invariant::new(
            format!("group {group} still has another member with our group.instance.id `{id}`"),
            format!(
                "{OWN_ID}; if that member is this process before it was killed, start again when its session \
                 has timed out (group.consumer.session.timeout.ms, 45 s by default)"
            ),
        ),
        _ => Invariant::new(
            format!("the Kafka client of stream {stream} in group {group} cannot go on: {reason}"),
            "see what the client says, then start again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(code: Option<RDKafkaErrorCode>, instance: Option<&str>) -> String {
        let member = Member {
            stream: "sales",
            group: "shop",
            instance,
        };
        invariant(code, "the reason", member).to_string()
    }

    #[test]
    fn a_duplicate_static_member_is_named_with_the_remedy() {
        for code in [
            RDKafkaErrorCode::FencedInstanceId,
            RDKafkaErrorCode::UnreleasedInstanceId,
        ] {
            let text = text(Some(code), Some("one-sales"));
            assert!(text.contains("`one-sales`") && text.contains("shop"), "{text}");
            assert!(text.contains("group.instance.id of its own"), "{text}");
        }
    }

    #[test]
    fn any_other_fatal_error_keeps_the_clients_reason() {
        let text = text(Some(RDKafkaErrorCode::GroupAuthorizationFailed), None);
        assert!(text.contains("the reason") && text.contains("sales"), "{text}");
    }
}

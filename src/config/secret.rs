//! What must never be printed: which keys hold secrets, and URIs without their user info.
//!
//! Owns: the one rule for every place that prints a configured value: `check`, problem reports, logs.
//! Masking too much costs a look into the file, masking too little costs a password: doubts mask.

use std::borrow::Cow;

/// Stands for a hidden value. Legal inside a URI, so a masked URI still parses.
pub const MASK: &str = "***";

/// Does the value of this key stay hidden? Keys are judged by their last words, in any case and with any
/// separator: `sasl.password`, `aws_secret_access_key`, `AWS_SESSION_TOKEN`, `ssl.key.pem`.
pub fn is_secret_key(key: &str) -> bool {
    const ENDINGS: [&str; 7] = ["password", "passphrase", "secret", "token", "key", "key.pem", "key_pem"];
    let key = key.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// The value as it may be printed under its key.
pub fn mask<'a>(key: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret_key(key) {
        Cow::Borrowed(MASK)
    } else {
        mask_uri(value)
    }
}

/// The text without user info and without secret query parameters, if it is a URI; else as it is.
pub fn mask_uri(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Cow::Borrowed(text);
    };
    let rest_masked = mask_query(mask_user_info(scheme, rest));
    if rest_masked == rest {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{scheme}://{rest_masked}"))
    }
}

/// Replaces what stands before the `@`. A password with an unescaped `/`, `?` or `@` makes the URI invalid,
/// and an invalid URI is the one that ends up in an error report: so the last `@` counts, except where
/// it plainly belongs to a path.
fn mask_user_info<'a>(scheme: &str, rest: &'a str) -> Cow<'a, str> {
    let Some((before, after)) = rest.rsplit_once('@') else {
        return Cow::Borrowed(rest);
    };
    let authority = before.split('/').next().unwrap_or(before);
    let in_path = !scheme.starts_with("mongodb")
        && before.contains('/')
        && !authority.contains('@')
        && match authority.split_once(':') {
            None => true,
            Some((_, port)) => port.parse::<u16>().is_ok(),
        };
    if in_path {
        return Cow::Borrowed(rest);
    }
    Cow::Owned(format!("{MASK}@{after}"))
}

fn mask_query(rest: Cow<'_, str>) -> Cow<'_, str> {
    let Some((before, query)) = rest.split_once('?') else {
        return rest;
    };
    let parameters: Vec<String> = query.split('&').map(mask_parameter).collect();
    Cow::Owned(format!("{before}?{}", parameters.join("&")))
}

fn mask_parameter(parameter: &str) -> String {
    let Some((name, value)) = parameter.split_once('=') else {
        return parameter.to_owned();
    };
    // `authMechanismProperties=AWS_SESSION_TOKEN:…,…` holds pairs of its own.
    let holds_secret = value
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .any(|(key, _)| is_secret_key(key));
    if is_secret_key(name) || holds_secret {
        format!("{name}={MASK}")
    } else {
        parameter.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_secret_by_their_ending() {
        for key in [
            "sasl.password",
            "AWS_SECRET_ACCESS_KEY",
            "ssl.key.pem",
            "aws_session_token",
            "sasl.oauthbearer.client.secret",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["aws_access_key_id", "ssl.key.location", "sasl.username", "group"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn user_info_is_masked_even_where_the_password_breaks_the_uri() {
        assert_eq!(mask_uri("mongodb://ann:pw@h:1/?a=b"), "mongodb://***@h:1/?a=b");
        assert_eq!(mask_uri("mongodb://ann:p/w@x@h"), "mongodb://***@h");
        assert_eq!(mask_uri("mongodb://ann:p?w@h"), "mongodb://***@h");
        assert_eq!(mask_uri("s3://id:secret@bucket/x"), "s3://***@bucket/x");
        assert_eq!(mask_uri("s3://id:se/cret@bucket/x"), "s3://***@bucket/x");
    }

    #[test]
    fn an_at_sign_in_a_path_is_no_user_info() {
        for uri in [
            "s3://bucket/a@b",
            "hdfs://host:9000/a@b",
            "file:///home/a@b",
            "lake",
            "a@b",
        ] {
            assert_eq!(mask_uri(uri), uri);
        }
    }

    #[test]
    fn secret_query_parameters_are_masked() {
        assert_eq!(
            mask_uri("mongodb://h/?tlsCertificateKeyFilePassword=x&replicaSet=rs0"),
            "mongodb://h/?tlsCertificateKeyFilePassword=***&replicaSet=rs0"
        );
        assert_eq!(
            mask_uri("mongodb://h/?authMechanismProperties=A:b,AWS_SESSION_TOKEN:x"),
            "mongodb://h/?authMechanismProperties=***"
        );
    }
}

//! Where a row's file lies, and how the log names it. Pure.
//!
//! Owns: the partition path `date=2026-01-31/region=…`, its escaping, and the names of data files.
//! Two encodings lie on top of each other and must not be mixed up:
//!
//! ```text
//!  value      ─ Hive escaping ─▶  directory on disk      ─ URI encoding ─▶  `add.path` in the log
//!  a/b à      ─────────────────▶  region=a%2Fb %C3%A0    ────────────────▶  region=a%252Fb%20%25C3%25A0
//! ```
//!
//! Directories are ASCII, further than Hive and Spark go, and so the log's paths have one spelling only. Of letters beyond
//! ASCII they would have two, and each is deadly to somebody: Spark's VACUUM compares the log's text with the URI that Java
//! makes of a file it found (`Î` as it is), and deletes a file in use that is spelled otherwise; delta-rs reads paths as
//! texts and writes `%C3%8E`, so what its DELETE, RESTORE or OPTIMIZE takes out of the table would stay in it.
//! Readers take values from the log. Who takes them from paths decodes UTF-8 (DuckDB, Arrow, Polars), except on a JVM.
//! Does not own: splitting batches (`split`), writing files (`parquet`).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode_byte, utf8_percent_encode};

/// Directory name of a null, in Hive's words.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest file or directory name, in bytes, that the usual file systems take.
pub const MAX_NAME_BYTES: usize = 255;

/// All but RFC 2396's characters of a path. `*` and `'`, of which not everybody thinks so, are in no directory's name.
const URI: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'(')
    .remove(b')')
    .remove(b'/')
    .remove(b';')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',');

/// Values of a partition, in the order of the table's partition columns; `None` is null.
pub type PartitionValues = Vec<Option<String>>;

/// `date=2026-01-31/region=Bretagne`, or nothing for a table without partitions.
pub fn partition_path(columns: &[String], values: &PartitionValues) -> String {
    let segments: Vec<String> = columns
        .iter()
        .zip(values)
        .map(|(column, value)| segment(column, value.as_deref()))
        .collect();
    segments.join("/")
}

/// The file's place below the table's root.
pub fn file_path(partition_path: &str, name: &str) -> String {
    if partition_path.is_empty() {
        name.to_owned()
    } else {
        format!("{partition_path}/{name}")
    }
}

/// A name nobody has used: the log decides what counts, so it says nothing about the content.
pub fn file_name() -> String {
    format!("part-{}.zstd.parquet", uuid::Uuid::new_v4())
}

/// `add.path`: the place as a URI reference, as `java.net.URI` and delta-rs both spell it.
pub fn log_path(path: &str) -> String {
    utf8_percent_encode(path, URI).to_string()
}

/// Can a directory carry this partition value? A longer one would make every commit fail, so decoding
/// rejects it (`RejectCode::InvalidPartitionValue`). The literal null name is no value either.
pub fn can_carry(column: &str, value: &str) -> bool {
    value != NULL_PARTITION && segment(column, Some(value)).len() <= MAX_NAME_BYTES
}

fn segment(column: &str, value: Option<&str>) -> String {
    // Hive has no empty directory value; decoding reads an empty string in a partition column as null.
    let value = match value {
        None | Some("") => Cow::Borrowed(NULL_PARTITION),
        Some(value) => escape(value),
    };
    format!("{}={value}", escape(column))
}

fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(must_escape) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if must_escape(byte) {
            escaped.push_str(percent_encode_byte(byte));
        } else {
            escaped.push(char::from(byte));
        }
    }
    Cow::Owned(escaped)
}

/// What is beyond ASCII; the set of Spark's `escapePathName`; plus what Windows, Google's and Amazon's stores advise against.
fn must_escape(byte: u8) -> bool {
    !(0x20..0x80).contains(&byte)
        || matches!(
            byte,
            b'"' | b'#' | b'%' | b'\'' | b'*' | b'/' | b':' | b'=' | b'?' | b'\\' | 0x7F | b'{' | b'[' | b']' | b'^'
        )
        || matches!(byte, b'}' | b'<' | b'>' | b'|' | b'`' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::path::Path;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    fn path_of(region: Option<&str>) -> String {
        partition_path(
            &["date".into(), "region".into()],
            &vec![Some("2026-01-31".into()), region.map(Into::into)],
        )
    }

    #[test]
    fn ordinary_values_stand_as_they_are() {
        assert_eq!(path_of(Some("Bretagne")), "date=2026-01-31/region=Bretagne");
        assert_eq!(
            path_of(Some("Île-de-France")),
            "date=2026-01-31/region=%C3%8Ele-de-France"
        );
        assert_eq!(
            path_of(Some("Hauts de France")),
            "date=2026-01-31/region=Hauts de France"
        );
    }

    #[test]
    fn null_and_the_empty_string_share_the_directory_of_null() {
        assert_eq!(path_of(None), "date=2026-01-31/region=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(path_of(Some("")), path_of(None));
    }

    #[test]
    fn the_log_encodes_the_directory_once_more() {
        let path = path_of(Some("a/b=c%20 é😀"));
        assert_eq!(path, "date=2026-01-31/region=a%2Fb%3Dc%2520 %C3%A9%F0%9F%98%80");
        assert_eq!(
            log_path(&path),
            "date=2026-01-31/region=a%252Fb%253Dc%252520%20%25C3%25A9%25F0%259F%2598%2580"
        );
    }

    /// Left: values. Right: the `add.path` that Spark 4.0.0 with Delta 4.0.1 wrote for the same ones; delta-rs keeps it.
    #[test]
    fn within_ascii_the_log_spells_paths_as_spark_does() {
        for (value, spark) in [
            ("a b", "region=a%20b"),
            ("d'Azur", "region=d%2527Azur"),
            ("a+b", "region=a+b"),
            ("$x", "region=$x"),
            ("&", "region=&"),
            (",", "region=,"),
            (";", "region=;"),
            ("100%", "region=100%2525"),
        ] {
            assert_eq!(log_path(&segment("region", Some(value))), spark);
        }
    }

    #[test]
    fn paths_are_ascii_whatever_the_value() {
        for value in ["Île-de-France", "e\u{301}", "日本", "😀 emoji", "\u{a0}"] {
            let path = path_of(Some(value));
            assert!(path.is_ascii() && log_path(&path).is_ascii(), "{path}");
            assert_eq!(read_back(&path).as_deref(), Some(value));
        }
    }

    /// The way back: `%` and two hexadecimal digits are a byte of UTF-8.
    fn hive_unescape(text: &str) -> String {
        percent_decode_str(text).decode_utf8().expect("UTF-8").into_owned()
    }

    /// The region's value as a reader of directories gets it back.
    fn read_back(path: &str) -> Option<String> {
        let (column, value) = path.split('/').nth(1)?.split_once('=')?;
        assert_eq!(column, "region");
        (value != NULL_PARTITION).then(|| hive_unescape(value))
    }

    #[test]
    fn awkward_values_come_back_as_they_were() {
        let long = "é".repeat(41);
        for value in [
            "with space",
            " leading and trailing ",
            "Provence-Alpes-Côte d'Azur",
            "a/b",
            "../../etc/passwd",
            "/etc",
            ".",
            "..",
            "...",
            ".hidden",
            "_private",
            "a=b",
            "region=x",
            "100%",
            "%2F",
            "%",
            "12:30",
            "\"double\"",
            "back\\slash",
            "C:\\x",
            "line\nbreak\r\ttab",
            "\u{0}",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "{[braces]}",
            "<>|*?#`~^",
            "+&,;$!@()",
            "e\u{301}",
            "日本",
            "😀👨‍👩‍👧",
            "__hive_default_partition__",
            "null",
            "NULL",
            &long,
        ] {
            assert!(can_carry("region", value), "{value:?}");
            let path = path_of(Some(value));
            assert_eq!(read_back(&path).as_deref(), Some(value), "{path}");
            assert!(
                !path.contains('\\') && !path.chars().any(|c| c.is_ascii_control()),
                "{path:?}"
            );
        }
        assert_eq!(read_back(&path_of(None)), None);
        assert_eq!(
            read_back(&path_of(Some(""))),
            None,
            "no directory can tell it from null"
        );
    }

    #[test]
    fn no_two_values_share_a_directory() {
        let values = [
            "a/b", "a%2Fb", "a%252Fb", "A/B", "a b", "a+b", "a%20b", "é", "e\u{301}", ".", "..",
        ];
        let paths: std::collections::BTreeSet<String> = values.iter().map(|value| path_of(Some(value))).collect();
        assert_eq!(paths.len(), values.len());
    }

    #[test]
    fn a_columns_name_is_escaped_too() {
        let path = partition_path(&["a/b=c".into()], &vec![Some("x".into())]);
        assert_eq!(path, "a%2Fb%3Dc=x");
    }

    /// What the log's readers do: decode the URI reference once, then look for that object below the table's root.
    #[tokio::test]
    async fn on_a_local_disk_every_value_stays_below_the_table() {
        use object_store::local::LocalFileSystem;
        use object_store::{ObjectStore, ObjectStoreExt};

        let dir = tempfile::tempdir().expect("a directory");
        let table = dir.path().join("table");
        std::fs::create_dir(&table).expect("creates");
        let store = LocalFileSystem::new_with_prefix(&table).expect("opens");
        let values = [
            "..",
            "../..",
            ".",
            "/",
            "//",
            "%2e%2e",
            "a/../../b",
            "\\..\\..",
            "😀 é",
            "\u{1}",
            "100%",
        ];
        for value in values {
            let path = file_path(&path_of(Some(value)), &file_name());
            let named = log_path(&path);
            let found = percent_decode_str(&named).decode_utf8().expect("UTF-8").into_owned();
            let object = Path::parse(&found).expect("an object's path");
            store
                .put(&object, value.as_bytes().to_vec().into())
                .await
                .expect("writes");
            assert!(table.join(&path).is_file(), "{path}");
            let stored = store.get(&object).await.expect("reads").bytes().await.expect("reads");
            assert_eq!(stored, value.as_bytes());
        }
        let beside = std::fs::read_dir(dir.path()).expect("reads").count();
        let below: Vec<_> = std::fs::read_dir(&table).expect("reads").collect();
        assert_eq!(
            (beside, below.len()),
            (1, 1),
            "nothing but date=… below, nothing beside"
        );
        let listed: Vec<_> = futures::TryStreamExt::try_collect(store.list(None))
            .await
            .expect("lists");
        let listed: Vec<object_store::ObjectMeta> = listed;
        assert_eq!(listed.len(), values.len());
    }

    #[test]
    fn values_too_long_for_a_directory_are_known_before_they_are_written() {
        assert!(can_carry("region", &"x".repeat(248)));
        assert!(!can_carry("region", &"x".repeat(249)));
        assert!(!can_carry("region", &"/".repeat(83)));
        assert!(!can_carry("region", NULL_PARTITION));
    }

    proptest! {
        #[test]
        fn any_value_comes_back_from_the_log_and_stays_in_the_table(value in "(\\PC|[\\x00-\\x1f./%]){1,40}") {
            let path = file_path(&path_of(Some(&value)), &file_name());
            let decoded = percent_decode_str(&log_path(&path)).decode_utf8().expect("UTF-8").into_owned();
            prop_assert_eq!(&decoded, &path);
            let object = Path::parse(&path).expect("no store refuses it");
            prop_assert_eq!(object.as_ref(), path.as_str());
            prop_assert_eq!(object.parts().count(), 3);
            let segment = path.split('/').nth(1).expect("region").strip_prefix("region=").expect("name");
            let unescaped = percent_decode_str(segment).decode_utf8().expect("UTF-8").into_owned();
            prop_assert_eq!(&unescaped, &value);
            prop_assert_eq!(hive_unescape(segment), value);
        }
    }
}

use proptest::prelude::*;

use super::*;

/// Reads one payload with the declared fields `a` and `b`.
fn read(payload: &[u8]) -> Result<Vec<String>, RejectCode> {
    let mut reader = ObjectReader::new(["a", "b"].into_iter());
    read_with(&mut reader, payload)
}

fn read_with(reader: &mut ObjectReader, payload: &[u8]) -> Result<Vec<String>, RejectCode> {
    let mut tokens = Tokens::new(2);
    reader.read(payload, &mut tokens).map_err(|fault| fault.code)?;
    let shown = |token: &Token<'_>| match token {
        Token::Number(text) => String::from_utf8_lossy(text).into_owned(),
        token => match token.text(&tokens.unescaped) {
            Some(text) => format!("{:?}", std::str::from_utf8(text).expect("tokens are UTF-8")),
            None => format!("{token:?}"),
        },
    };
    Ok(tokens.fields.iter().map(shown).collect())
}

fn tokens(expected: [&str; 2]) -> Result<Vec<String>, RejectCode> {
    Ok(expected.map(str::to_owned).to_vec())
}

#[test]
fn every_kind_of_value_becomes_its_token() {
    assert_eq!(read(br#"{"a":"x","b":-1.50e3}"#), tokens([r#""x""#, "-1.50e3"]));
    assert_eq!(
        read(br#" { "b" : null , "a" : true } "#),
        tokens(["Boolean(true)", "Null"])
    );
    assert_eq!(read(br#"{"a":[1,[2,{}]],"b":{"c":[]}}"#), tokens(["Array", "Object"]));
    assert_eq!(read(b"{}"), tokens(["Absent", "Absent"]));
}

#[test]
fn escaped_strings_and_keys_are_decoded() {
    assert_eq!(
        read(br#"{"\u0061":"\u00cele-de-France\n\/\"","b":"\ud83d\ude00\u0000"}"#),
        tokens([r#""Île-de-France\n/\"""#, r#""😀\0""#])
    );
    assert_eq!(read(br#"{"a":"","b":"\\"}"#), tokens([r#""""#, r#""\\""#]));
}

#[test]
fn the_last_of_equal_keys_counts() {
    assert_eq!(read(br#"{"a":1,"b":2,"a":"x"}"#), tokens([r#""x""#, "2"]));
    assert_eq!(read(br#"{"a":{"a":7},"a":null}"#), tokens(["Null", "Absent"]));
    assert_eq!(read(br#"{"a":"\n","a":"\t"}"#), tokens([r#""\t""#, "Absent"]));
}

#[test]
fn what_is_not_one_json_object_is_invalid() {
    for payload in [
        &b""[..],
        b" ",
        b"null",
        b"[]",
        b"[{}]",
        b"\"{}\"",
        b"17",
        b"{",
        b"{}{}",
        b"{} {}",
        b"{},",
        b"{}x",
        b"{}\0",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        br#"{"a":1,}"#,
        br#"{"a":[1,]}"#,
        br#"{,}"#,
        br#"{"a"}"#,
        br#"{"a":}"#,
        br#"{"a" 1}"#,
        br#"{"a":1 "b":2}"#,
        br#"{a:1}"#,
        br#"{'a':1}"#,
        br#"{1:1}"#,
        br#"{"a":01}"#,
        br#"{"a":+1}"#,
        br#"{"a":.5}"#,
        br#"{"a":1.}"#,
        br#"{"a":1e}"#,
        br#"{"a":-}"#,
        br#"{"a":NaN}"#,
        br#"{"a":Infinity}"#,
        br#"{"a":-Infinity}"#,
        br#"{"a":nul}"#,
        br#"{"a":True}"#,
        br#"{"a":1}//"#,
        br#"{"a":[}"#,
        br#"{"a":[1}"#,
        br#"{"a":{"b":1]}"#,
        b"{\"a\":1\xc2\xa0}",
    ] {
        let shown = String::from_utf8_lossy(payload);
        assert_eq!(read(payload), Err(RejectCode::InvalidJson), "{shown}");
    }
}

#[test]
fn broken_strings_are_invalid_wherever_they_stand() {
    let broken: [&[u8]; 9] = [
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\udc00 ",
        b"\\ud800\\u0041",
        b"\\x41",
        b"\\u00g0",
        b"\x1f",
    ];
    for string in broken {
        for (before, after) in [
            (r#"{"a":""#, r#""}"#),
            (r#"{"unknown":""#, r#""}"#),
            (r#"{""#, r#"":1}"#),
            (r#"{"unknown":[{"x":""#, r#""}]}"#),
            (r#"{"unknown":{""#, r#"":1}}"#),
            (r#"{"b":[""#, r#""]}"#),
        ] {
            let payload = [before.as_bytes(), string, after.as_bytes()].concat();
            let shown = String::from_utf8_lossy(&payload);
            assert_eq!(read(&payload), Err(RejectCode::InvalidJson), "{shown}");
        }
    }
}

#[test]
fn nesting_ends_at_64_levels_the_record_included() {
    let arrays = |depth: usize, key: &str| format!(r#"{{"{key}":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!(r#"{{"x":{}1{}}}"#, r#"{"y":"#.repeat(depth), "}".repeat(depth));
    for key in ["a", "x"] {
        assert!(read(arrays(63, key).as_bytes()).is_ok());
        assert_eq!(read(arrays(64, key).as_bytes()), Err(RejectCode::TooDeep));
    }
    assert!(read(objects(63).as_bytes()).is_ok());
    assert_eq!(read(objects(64).as_bytes()), Err(RejectCode::TooDeep));
    // side by side is not deep
    assert!(read(format!(r#"{{"x":[{}[]]}}"#, "[[]],".repeat(100)).as_bytes()).is_ok());
    // brackets in strings do not count
    assert!(read(format!(r#"{{"x":["{}"]}}"#, "[".repeat(100)).as_bytes()).is_ok());
}

#[test]
fn the_first_problem_in_reading_order_is_reported() {
    let deep = "[".repeat(200);
    assert_eq!(read(format!(r#"{{"x":{deep}!"#).as_bytes()), Err(RejectCode::TooDeep));
    assert_eq!(
        read(format!(r#"{{"y":!,"x":{deep}"#).as_bytes()),
        Err(RejectCode::InvalidJson)
    );
    // a million brackets are refused at the 64th
    assert_eq!(
        read(format!(r#"{{"x":{}"#, "[".repeat(1_000_000)).as_bytes()),
        Err(RejectCode::TooDeep)
    );
}

#[test]
fn numbers_of_any_length_are_json() {
    let long = "9".repeat(5000);
    let payload = format!(r#"{{"x":[{long}.5e7,-{long}],"a":{long},"b":"\n","x":{long}}} "#);
    assert_eq!(read(payload.as_bytes()), tokens([&long, r#""\n""#]));
    assert_eq!(
        read(format!(r#"{{"a":{long}.}}"#).as_bytes()),
        Err(RejectCode::InvalidJson)
    );
    assert_eq!(
        read(format!(r#"{{"a":{long}"#).as_bytes()),
        Err(RejectCode::InvalidJson)
    );
}

#[test]
fn positions_count_from_the_start_of_the_payload() {
    let mut reader = ObjectReader::new(["a"].into_iter());
    let mut position = |payload: &str| {
        let fault = reader
            .read(payload.as_bytes(), &mut Tokens::new(1))
            .expect_err("broken");
        fault.error.rsplit(' ').next().map(str::to_owned)
    };
    assert_eq!(position(r#"{"a":1 !"#), Some("7".to_owned()));
    let long = "9".repeat(5000);
    assert_eq!(position(&format!(r#"{{"a":{long} !"#)), Some("5006".to_owned()));
}

#[test]
fn keys_in_any_order_find_their_fields() {
    let mut reader = ObjectReader::new(["a", "b"].into_iter());
    for payload in [
        r#"{"a":1,"b":2}"#,
        r#"{"b":2,"a":1}"#,
        r#"{"b":2,"a":1}"#,
        r#"{"x":0,"b":2,"x":0,"a":1}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"a":1,"a":1,"b":2,"b":2}"#,
    ] {
        assert_eq!(
            read_with(&mut reader, payload.as_bytes()),
            tokens(["1", "2"]),
            "{payload}"
        );
    }
}

#[test]
fn unknown_names_are_counted_up_to_a_bound() {
    let mut reader = ObjectReader::new(["a"].into_iter());
    for name in 0..150 {
        let payload = format!(r#"{{"x":1,"n{name}":{{"nested":1}},"x":2}}"#);
        reader.read(payload.as_bytes(), &mut Tokens::new(1)).expect("valid");
    }
    let unknown = reader.take_unknown_fields();
    assert_eq!(unknown["x"], 300);
    assert_eq!(unknown["n0"], 1);
    assert_eq!(unknown[OTHER_NAMES], 51);
    assert_eq!(unknown.len(), MAX_UNKNOWN_NAMES + 1);
    assert!(!unknown.contains_key("nested"));
    assert!(reader.take_unknown_fields().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// serde_json agrees on what JSON is, apart from the numbers it cannot hold and its own depth limit.
    #[test]
    fn what_is_well_formed_agrees_with_serde_json(
        payload in r#"\{("[abx]":(1|"[a\\n]{0,2}"|\[(1|"",?|\{\}){0,2}\]|null|true|-0\.5e1|\{("y":1,?){0,2}\}) ?,? ?){0,4}\} ?"#,
    ) {
        let oracle = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&payload);
        prop_assert_eq!(read(payload.as_bytes()).is_ok(), oracle.is_ok(), "{}", payload);
    }

    #[test]
    fn no_payload_panics(payload in r#"[\{\}\[\]",:\\a1eu.tfn -]{0,60}"#) {
        let _ = read(payload.as_bytes());
        let _ = read(format!("{{\"a\":{payload}").as_bytes());
    }
}

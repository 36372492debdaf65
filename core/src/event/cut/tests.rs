use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// Cuts `body` in one piece with the default limits.
fn cut(body: &[u8]) -> (Vec<Piece>, Result<(), Broken>) {
    cut_in(&[body], Limits::default())
}

/// Cuts a body that arrives in `chunks`, taking after every chunk.
fn cut_in(chunks: &[&[u8]], limits: Limits) -> (Vec<Piece>, Result<(), Broken>) {
    let mut cutter = Cutter::new(limits);
    let mut pieces = Vec::new();
    for chunk in chunks {
        cutter.write(chunk);
        pieces.extend(cutter.take());
    }
    let end = cutter.finish();
    pieces.extend(cutter.take());
    let body = chunks.concat();
    for piece in &mut pieces {
        if let Piece::Record { raw, start, .. } = piece {
            assert!(body[*start as usize..].starts_with(raw), "elsewhere");
            *start = 0;
        }
    }
    (pieces, end)
}

fn whole(text: &str) -> Piece {
    whole_at(0, text)
}

fn whole_at(start: u64, text: &str) -> Piece {
    Piece::Record {
        raw: Bytes::copy_from_slice(text.as_bytes()),
        start,
        header: Header::scan(text.as_bytes()),
    }
}

fn records(texts: &[&str]) -> Vec<Piece> {
    texts.iter().map(|text| whole(text)).collect()
}

/// Splits `body` at the given places, which may lie beyond its end.
fn split<'a>(body: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|at| at % (body.len() + 1)).collect();
    places.sort_unstable();
    let mut chunks = Vec::new();
    let mut start = 0;
    for at in places {
        chunks.push(&body[start..at]);
        start = at;
    }
    chunks.push(&body[start..]);
    chunks
}

#[test]
fn cuts_arrays_of_every_shape() {
    for (body, expected) in [
        ("[]", &[] as &[&str]),
        (" [ \n ] \r\n", &[]),
        ("\u{feff}[]\u{feff}", &[]),
        ("\u{feff} [{}]", &["{}"]),
        (r#"[{"Id":1},{"Id":2}]"#, &[r#"{"Id":1}"#, r#"{"Id":2}"#]),
        ("[ {} ,\n\t{}\r\n]\n", &["{}", "{}"]),
        ("[{\n  \"Id\": 1\n}]", &["{\n  \"Id\": 1\n}"]),
        (
            r#"["a,b]\"}",1 ,null, [1,[2]] ]"#,
            &[r#""a,b]\"}""#, "1", "null", "[1,[2]]"],
        ),
        (
            r#"[{"a":"\\"},{"a":"\\\""}]"#,
            &[r#"{"a":"\\"}"#, r#"{"a":"\\\""}"#],
        ),
        (r#"[{"a":"}]{["},2]"#, &[r#"{"a":"}]{["}"#, "2"]),
        (r#"[{"a":"é,😀"}]"#, &[r#"{"a":"é,😀"}"#]),
        ("[1,,2,]", &["1", "2"]),
        ("[ , ]", &[]),
        // No JSON, but records.
        ("[not json , {'a':1} x]", &["not json", "{'a':1} x"]),
        (r#"[{"a":1],{"b":2}]"#, &[r#"{"a":1]"#, r#"{"b":2}"#]),
        ("[}},{}]", &["}}", "{}"]),
        ("[{}}{},1]", &["{}}{}", "1"]),
        (r"[\,{}]", &[r"\", "{}"]),
    ] {
        let (pieces, end) = cut(body.as_bytes());
        assert_eq!(pieces, records(expected), "{body}");
        assert_eq!(end, Ok(()), "{body}");
    }
}

#[test]
fn says_what_is_broken_and_keeps_the_records_before_it() {
    for (body, expected, broken) in [
        ("", &[] as &[&str], Broken::Empty),
        (" \r\n", &[], Broken::Empty),
        ("\u{feff}", &[], Broken::Empty),
        ("{}", &[], Broken::NotAnArray),
        ("null", &[], Broken::NotAnArray),
        ("\u{feff}\u{feff}[]", &[], Broken::NotAnArray),
        ("<html>[1]", &[], Broken::NotAnArray),
        ("[", &[], Broken::Unclosed),
        ("[{},", &["{}"], Broken::Unclosed),
        ("[{},{}", &["{}"], Broken::Unclosed),
        ("[{},12", &["{}"], Broken::Unclosed),
        (r#"[{},{"a":"b"#, &["{}"], Broken::Truncated),
        (r#"[{},{"a":"]"#, &["{}"], Broken::Truncated),
        (r#"[{},"a\"#, &["{}"], Broken::Truncated),
        ("[{}][{}]", &["{}"], Broken::Trailing),
        ("[{}]}", &["{}"], Broken::Trailing),
        ("[{}],", &["{}"], Broken::Trailing),
    ] {
        let (pieces, end) = cut(body.as_bytes());
        assert_eq!(pieces, records(expected), "{body}");
        assert_eq!(end, Err(broken), "{body}");
    }
    assert_eq!(cut(b"\xEF\xBB[]").1, Err(Broken::NotAnArray));
    assert_eq!(cut(b"\xEF\xBB").1, Err(Broken::NotAnArray));
    assert_eq!(cut(b"[]\xEF\xBB").1, Err(Broken::Trailing));
    assert_eq!(cut(b"[]\xEF\xBB \xBF").1, Err(Broken::Trailing));
}

#[test]
fn a_large_record_comes_in_parts() {
    let limits = Limits { record_bytes: 4 };
    let part = |text: &'static str, last| Piece::Oversize {
        part: Bytes::from_static(text.as_bytes()),
        last,
    };
    for (body, expected) in [
        ("[1234,5]", vec![whole("1234"), whole("5")]),
        (
            "[12345,6]",
            vec![part("1234", false), part("5", true), whole("6")],
        ),
        (
            "[\"23456789\",1]",
            vec![
                part("\"234", false),
                part("5678", false),
                part("9\"", true),
                whole("1"),
            ],
        ),
        (
            "[1    ,2]",
            vec![part("1   ", false), part("", true), whole("2")],
        ),
        ("[1   ,2]", vec![whole("1"), whole("2")]),
    ] {
        assert_eq!(
            cut_in(&[body.as_bytes()], limits),
            (expected, Ok(())),
            "{body}"
        );
    }
}

#[test]
fn memory_stays_bounded() {
    let mut cutter = Cutter::new(Limits { record_bytes: 100 });
    let mut taken = 0;
    let mut write = |cutter: &mut Cutter, bytes: &[u8]| {
        cutter.write(bytes);
        for piece in cutter.take() {
            let Piece::Oversize { part, .. } = piece else {
                panic!("not oversize");
            };
            taken += part.len();
        }
        assert!(cutter.pending_bytes() <= 100 + bytes.len());
    };
    for _ in 0..1000 {
        write(&mut cutter, &[b' '; 64]);
    }
    write(&mut cutter, b"[");
    for _ in 0..1000 {
        write(&mut cutter, &[b'\n'; 64]);
    }
    write(&mut cutter, b"\"");
    for _ in 0..1000 {
        write(&mut cutter, &[b'x'; 64]);
    }
    write(&mut cutter, b"\"]");
    for _ in 0..1000 {
        write(&mut cutter, &[b'\t'; 64]);
    }
    assert_eq!(cutter.finish(), Ok(()));
    assert_eq!(taken, 64_002);
}

#[test]
fn records_of_one_take_share_a_buffer_and_the_tail_moves_on() {
    let mut cutter = Cutter::new(Limits::default());
    cutter.write(br#"[{"Id":1},{"Id":2},{"I"#);
    let first = cutter.take();
    let expected = [whole_at(1, r#"{"Id":1}"#), whole_at(10, r#"{"Id":2}"#)];
    assert_eq!(first, expected);
    let [
        Piece::Record { raw: one, .. },
        Piece::Record { raw: two, .. },
    ] = &first[..]
    else {
        panic!("two records");
    };
    assert_eq!(two.as_ptr() as usize - one.as_ptr() as usize, 9);
    assert_eq!(cutter.pending_bytes(), 3);
    assert_eq!(cutter.take(), []);
    cutter.write(br#"d":3}]"#);
    assert_eq!(cutter.take(), [whole_at(19, r#"{"Id":3}"#)]);
    assert_eq!(cutter.finish(), Ok(()));
    assert_eq!(cutter.pending_bytes(), 0);
}

/// Values with all that makes cutting hard: nesting, quotes, brackets, backslashes, white space, any character.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![r#"[\\"\[\]{},: \n😀é]{0,12}"#, any::<String>()];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Arrays of objects, most of them with something that does not belong there.
fn odd_objects() -> impl Strategy<Value = String> {
    let member = r#" ?"(Id|id|a|Operation|UserId|\\\\|\\")" ?:( ?"[a\\\]}{,]{0,3}"|[1a"\[\]{}\\]{0,3}|\{"Id":["\]}\\]{0,2}\}|\[\{\},"x{0,70}"\])"#;
    let object = prop::collection::vec(member, 0..5).prop_map(|members| members.join(","));
    prop::collection::vec((object, r"\} ?|\]|,\}|"), 0..6).prop_map(|objects| {
        let objects = objects
            .iter()
            .map(|(inside, end)| format!("{{{inside}{end}"));
        format!("[{}]", objects.collect::<Vec<_>>().join(","))
    })
}

proptest! {
    #[test]
    fn equals_serde_wherever_the_body_is_split(
        values in prop::collection::vec(value(), 0..8),
        pretty in any::<bool>(),
        places in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        let body = if pretty {
            serde_json::to_vec_pretty(&values).unwrap()
        } else {
            serde_json::to_vec(&values).unwrap()
        };
        let expected: Vec<&RawValue> = serde_json::from_slice(&body).unwrap();
        let expected: Vec<&str> = expected.into_iter().map(RawValue::get).collect();
        let (pieces, end) = cut_in(&split(&body, &places), Limits::default());
        prop_assert_eq!(pieces, records(&expected));
        prop_assert_eq!(end, Ok(()));
    }

    #[test]
    fn any_bytes_cut_the_same_wherever_they_are_split(
        body in prop_oneof![
            any::<Vec<u8>>(),
            r#"[\[\]{},:\\"a \u{feff}]{0,60}"#.prop_map(String::into_bytes),
            r#"\[[\[\]{},:\\"a ]{0,60}"#.prop_map(String::into_bytes),
            odd_objects().prop_map(String::into_bytes),
        ],
        places in prop::collection::vec(any::<usize>(), 0..10),
        record_bytes in prop_oneof![0..12_usize, Just(1000)],
    ) {
        let limits = Limits { record_bytes };
        let whole = cut_in(&[&body], limits);
        prop_assert_eq!(&cut_in(&split(&body, &places), limits), &whole);
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        prop_assert_eq!(&cut_in(&bytes, limits), &whole);
    }
}

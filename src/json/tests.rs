//! The whole module against `serde_json`, and against vectors made from RFC 8259.

use std::{fs, path::Path as FilePath};

use proptest::prelude::*;
use serde::{Deserializer, de};
use serde_json::value::RawValue;

use super::*;

/// A document as `serde_json` reads it, members in order, scalars as they are written.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Object(Vec<(String, Self)>),
    Array(Vec<Self>),
    Scalar(String),
}

impl Tree {
    /// `None` where `serde_json` refuses it or it is too deep. Of equal names the last value counts, in the first place.
    fn read(body: &[u8]) -> Option<Self> {
        let raw = serde_json::from_slice::<&RawValue>(body).ok()?;
        Self::of(raw.get(), 0)
    }

    fn of(raw: &str, depth: usize) -> Option<Self> {
        let is_room = depth < DEPTH_MAX;
        match raw.as_bytes()[0] {
            b'{' => {
                let mut tree = Self::Object(Vec::new());
                for (name, value) in pairs(raw)? {
                    tree.set(&name, Self::of(value.get(), depth + 1)?);
                }
                is_room.then_some(tree)
            }
            b'[' => {
                let values: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
                let values = values.iter().map(|value| Self::of(value.get(), depth + 1));
                Some(Self::Array(values.collect::<Option<_>>()?)).filter(|_| is_room)
            }
            // Half of a surrogate pair shows only when the string is made.
            b'"' => serde_json::from_str::<String>(raw).ok().map(|_| Self::Scalar(raw.to_owned())),
            _ => Some(Self::Scalar(raw.to_owned())),
        }
    }

    fn set(&mut self, name: &str, value: Self) {
        let Self::Object(members) = self else { panic!("no object") };
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => members.push((name.to_owned(), value)),
        }
    }

    /// Merges `other` into this object as the rules say; false where they forbid it.
    fn merge(&mut self, other: &Self, conflict: Conflict, depth: Depth, seen: &mut Vec<String>) -> bool {
        let (Self::Object(members), Self::Object(others)) = (&mut *self, other) else { panic!("no objects") };
        for (name, value) in others {
            let Some((_, known)) = members.iter_mut().find(|(known, _)| known == name) else {
                members.push((name.clone(), value.clone()));
                continue;
            };
            if let (Self::Object(_), Self::Object(_), Depth::Deep) = (&*known, value, depth) {
                if !known.merge(value, conflict, depth, &mut Vec::new()) {
                    return false;
                }
                continue;
            }
            match conflict {
                Conflict::Last => *known = value.clone(),
                Conflict::First => {}
                Conflict::Error => return false,
                Conflict::Array if seen.contains(name) => {
                    let Self::Array(values) = known else { panic!("no array") };
                    values.push(value.clone());
                }
                Conflict::Array => {
                    *known = Self::Array(vec![known.clone(), value.clone()]);
                    seen.push(name.clone());
                }
            }
        }
        true
    }
}

/// The members of an object as they are written, also those whose name comes again.
fn pairs(raw: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Pairs;
    impl<'de> de::Visitor<'de> for Pairs {
        type Value = Vec<(String, &'de RawValue)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_map(Pairs).ok()
}

/// `body` is accepted by us as by `serde_json`, and its members are where `serde_json` finds them.
#[track_caller]
fn reads_alike(body: &[u8]) {
    let mut members = Members::new(7);
    let scanned = scan(body, &mut members);
    let expected = Tree::read(body);
    assert_eq!(scanned.is_ok(), expected.is_some(), "{scanned:?}: {:?}", String::from_utf8_lossy(body));
    invariants::json(body);
    let Ok(Document { kind: Kind::Object, span }) = scanned else { return };

    let text = std::str::from_utf8(span.of(body)).expect("it was checked");
    let expected = pairs(text).expect("it was checked");
    let found = members.list().iter().map(|member| {
        let mut name = Vec::new();
        write::unescape(member.key.of(body), &mut name);
        (String::from_utf8(name).expect("a name is UTF-8"), member.value.of(body))
    });
    let expected_values = expected.iter().map(|(name, value)| (name.clone(), value.get().as_bytes()));
    assert!(found.eq(expected_values));
    let first = expected.iter().enumerate().find_map(|(index, (name, _))| {
        Some((expected[..index].iter().position(|(earlier, _)| earlier == name)?, index))
    });
    assert_eq!(members.duplicate(), first, "{text}");
}

/// Accepted or not, wherever it lies within the blocks.
#[track_caller]
fn check_all(bodies: &[&[u8]], is_good: bool) {
    for body in bodies {
        for shift in 0..130 {
            let mut moved = vec![b' '; shift];
            moved.extend_from_slice(body);
            let checked = check(&moved);
            assert_eq!(
                checked.is_ok(),
                is_good,
                "{:?} after {shift}: {checked:?}",
                String::from_utf8_lossy(body)
            );
        }
        reads_alike(body);
    }
}

#[test]
fn what_rfc_8259_allows_is_accepted() {
    check_all(
        &[
            b"null",
            b"true",
            b"false",
            b"0",
            b"-0",
            b"\"\"",
            b"{}",
            b"[]",
            b" [ ] ",
            b"{ }",
            b"\t\r\n 1 \t\r\n",
            // §6 Numbers.
            b"-1",
            b"10",
            b"1234567890",
            b"0.0",
            b"-0.10",
            b"1.5",
            b"0e0",
            b"0E+1",
            b"1e400",
            b"-1.5e-03",
            b"1e00",
            b"0e-0",
            b"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            b"0.12345678901234567890123456789012345678901234567890123456789012345678901234567890e+1234567",
            b"[1,-2,3.0,4e5,0]",
            b"[0 ,1]",
            // §7 Strings.
            br#""\"\\\/\b\f\n\r\t""#,
            br#""\u0000\u00e9\uFFFF\uaBcD""#,
            br#""\ud83d\ude00""#,
            br#""\uD834\uDD1Ex""#,
            br#""\\""#,
            br#""\\\\""#,
            br#""\\\"""#,
            b"\"\x7f\"",
            "\"é€😀\u{2028}\"".as_bytes(),
            br#""{[,:]}""#,
            br#""\\u12""#,
            // §4 Objects, §5 Arrays.
            br#"{"":0}"#,
            br#"{"a":1,"a":2}"#,
            br#"{"a":{"b":{"c":[]}},"d":[{},[],[[]]]}"#,
            br#"{ "a" : [ 1 , { } ] }"#,
            br#"[true,false,null]"#,
            br#"[[],{},"",0]"#,
            br#"{"\u0061":1,"a":2}"#,
            br#"[{"a":1},{"a":2}]"#,
            "{\"ключ\":\"значение\"}".as_bytes(),
        ],
        true,
    );
}

#[test]
fn what_it_does_not_allow_is_refused() {
    check_all(
        &[
            b"",
            b" ",
            b"\n\t",
            b"\xef\xbb\xbf1",
            b"nul",
            b"nulll",
            b"True",
            b"truefalse",
            b"true false",
            b"tru e",
            b"truE",
            b"fals",
            b"falsy",
            b"n",
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"undefined",
            b"'a'",
            b"a",
            b"/**/1",
            b"1//",
            b"#",
            b"\x00",
            b"1\x00",
            b"\x0c1",
            b"\xa01",
            b"1,",
            b",1",
            b",",
            b":",
            b"1:2",
            // Numbers.
            b"01",
            b"-01",
            b"00",
            b"-",
            b"+1",
            b"--1",
            b"1-",
            b"1+",
            b"1-1",
            b".5",
            b"1.",
            b"-.5",
            b"1..2",
            b"1.2.3",
            b"1.e5",
            b"1e",
            b"1e+",
            b"1E-",
            b"e5",
            b"1ee5",
            b"1e5e5",
            b"1e5.5",
            b"1e+-5",
            b"1e++5",
            b"0x10",
            b"1a",
            b"1 2",
            b"1_0",
            b"0e1-",
            b"-e1",
            b"1.5.e3",
            b"[1.2.3]",
            b"[0,00]",
            b"[-]",
            b"[1e1e1]",
            b"1true",
            b"true1",
            b"-true",
            b"0.1e",
            b"\xef\xbc\x91",
            // Strings.
            b"\"",
            b"\"a",
            b"a\"",
            b"\"\\\"",
            b"\"\\",
            b"\"\\x41\"",
            b"\"\\'\"",
            b"\"\\a\"",
            b"\"\\u\"",
            b"\"\\u12\"",
            b"\"\\u12G4\"",
            b"\"\\U0041\"",
            b"\"\\u 041\"",
            b"\"a\nb\"",
            b"\"\t\"",
            b"\"\x00\"",
            b"\"\x1f\"",
            b"\"a\"b",
            b"\"a\"\"b\"",
            b"\\\"a\"",
            b"\"a\"\\",
            br#""\ud800""#,
            br#""\udc00""#,
            br#""\ud800\ud800""#,
            br#""\ud800\u0041""#,
            br#""\ud800x\udc00""#,
            br#""\ud800\\udc00""#,
            br#""\udc00\ud800""#,
            br#""\ud800\ud800\udc00""#,
            br#""\ud83d\ude0""#,
            br#""\ud83d\n""#,
            // UTF-8 (RFC 3629): alone, overlong, surrogates, too large, cut.
            b"\"\x80\"",
            b"\"\xc0\xaf\"",
            b"\"\xc1\xbf\"",
            b"\"\xe0\x80\xaf\"",
            b"\"\xed\xa0\x80\"",
            b"\"\xf4\x90\x80\x80\"",
            b"\"\xf8\x88\x80\x80\x80\"",
            b"\"\xff\"",
            b"\"\xc3\"",
            b"\"\xe2\x82\"",
            b"\"\xf0\x9f\x98\"",
            b"{\"\xff\":1}",
            b"\xff",
            b"[\xc3\xa9]",
            // Objects and arrays.
            b"{",
            b"}",
            b"[",
            b"]",
            b"[}",
            b"{]",
            b"[1",
            b"1]",
            b"[1,]",
            b"[,1]",
            b"[,]",
            b"[1,,2]",
            b"[1 2]",
            b"[1:2]",
            b"[\"a\":1]",
            b"[1}",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{\"a\":1,,\"b\":2}",
            b"{,}",
            b"{:1}",
            b"{1:1}",
            b"{a:1}",
            b"{null:1}",
            b"{\"a\" 1}",
            b"{\"a\"::1}",
            b"{\"a\":1:2}",
            b"{\"a\":1 \"b\":2}",
            b"{\"a\",\"b\"}",
            b"{\"a\":\"b\":\"c\"}",
            b"{\"a\":1]",
            b"[{\"a\":1]}",
            b"[[]",
            b"[]]",
            b"{}{}",
            b"[][]",
            b"{},{}",
            b"[],[]",
            b"{} 1",
            b"1 {}",
            b"[] ,",
            b", []",
            b"{[]:1}",
            b"{{}}",
            b"{\"a\":1,2}",
            b"{\"a\":1,\"b\"}",
            b"[1],",
            b"{\"a\":1}:",
            b"1,\"a\":2",
            b"\"a\":2",
            b"{\"a\":[}",
            b"{\"a\":{]}",
            b"[\"a\",]",
            b"[ , ]",
            b"{ , }",
            b"[1 , ]",
            b"{\"a\" : 1 , }",
            b"{\"a\":1}}",
            b"{\"a\":1}]",
            b"{}]",
            b"[]}",
        ],
        false,
    );
}

#[test]
fn containers_nest_128_deep_and_no_deeper() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[ \n", " ]")] {
        for depth in [1, 63, 64, 65, 127, 128, 129, 130, 191, 192, 193, 256, 257, 300, 2000] {
            for shift in [0, 1, 37, 63] {
                let inside = if open.len() > 4 { "1" } else { "" };
                let body = [&" ".repeat(shift), &open.repeat(depth), inside, &close.repeat(depth)].concat();
                let checked = check(body.as_bytes());
                if depth <= DEPTH_MAX {
                    assert!(checked.is_ok(), "{checked:?}");
                } else {
                    assert!(matches!(checked, Err(BadJson::TooDeep { .. })), "{checked:?}");
                }
            }
        }
    }
    // Deep within one block, and out of it again.
    let body = [&"[".repeat(120), &"[".repeat(9), &"]".repeat(9), "", &"]".repeat(120)].concat();
    assert!(matches!(check(body.as_bytes()), Err(BadJson::TooDeep { .. })));
    let body = format!("[{}]", vec!["[[[{}]]]"; 500].join(","));
    assert!(check(body.as_bytes()).is_ok());
}

/// Bodies whose every piece crosses a block's edge at every place, whole and cut short.
#[test]
fn edges_of_blocks_are_like_any_other_place() {
    let tokens = [
        r#""\"\\\"""#,
        r#""\\\\\\\\\\\\""#,
        r#""\u00e9\ud83d\ude00""#,
        "\"é€😀\"",
        "-12.50e+10",
        "0.1",
        "true",
        "false",
        "null",
        r#"{"key":"value"}"#,
        r#"{"k\n":[1,{}]}"#,
        "[ ]",
        "{ }",
        r#""a long string that is in more than one block, most of the time it is""#,
        "10000000000000000000000000000000000000000000000000000000000000000000.5",
        " \n \t 1 ",
    ];
    for token in tokens {
        for shift in 0..=64 {
            let space = " ".repeat(shift);
            let name = "n".repeat(shift);
            for body in [
                format!("{space}{token}"),
                format!("[{space}{token},{token}]"),
                format!(r#"{{"{name}":{token}}}"#),
                format!(r#"{{"a":{token},"{name}":{token}{space}}}"#),
            ] {
                reads_alike(body.as_bytes());
            }
        }
        let body = format!(r#"{{"a":{token},"b":[{token}]}}"#);
        for end in 0..body.len() {
            reads_alike(&body.as_bytes()[..end]);
            let ended = [&body.as_bytes()[..end], b"\"]}"].concat();
            reads_alike(&ended);
        }
    }
}

#[test]
fn every_byte_at_every_place_is_judged_like_serde_json() {
    let body = br#"{"a":[1,-2.5e+3,{"b":"x\"y\\"}],"\u00fc":true,"f":[null,{}]}"#;
    for at in 0..body.len() {
        for byte in 0..=255 {
            let mut body = body.to_vec();
            body[at] = byte;
            let mut members = Members::new(7);
            assert_eq!(scan(&body, &mut members).is_ok(), Tree::read(&body).is_some(), "{byte} at {at}");
        }
    }
}

#[test]
fn the_corpus_holds() {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus/json");
    let files: Vec<_> = fs::read_dir(folder).expect("the corpus is there").flatten().collect();
    assert!(!files.is_empty());
    for file in files {
        let body = fs::read(file.path()).expect("a file of the corpus");
        reads_alike(&body);
    }
}

/// Text of JSON: mostly valid, with all that may be in it.
fn document() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => "[a-d]",
        1 => Just(r"\u0061".to_owned()),
        1 => Just("ü\\n".to_owned()),
        1 => "[ -!#-\\[\\]-~é-€😀]{0,80}",
    ];
    let space = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n    ")];
    let scalar = prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        "(true|false|null)",
        name.clone().prop_map(|name| format!("\"{name}\"")),
        Just(r#""\ud83d\ude00 \\ \" \/""#.to_owned()),
    ];
    let value = scalar.prop_recursive(5, 60, 8, move |value| {
        let spaced = (space.clone(), value, space.clone()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (space.clone(), name.clone(), space.clone(), spaced.clone())
            .prop_map(|(a, name, b, value)| format!("{a}\"{name}\"{b}:{value}"));
        prop_oneof![
            prop::collection::vec(spaced, 0..8).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member, 0..8).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    });
    (" {0,70}", value).prop_map(|(before, value)| before + &value)
}

/// An object.
fn object() -> impl Strategy<Value = String> {
    document()
        .prop_map(|text| if text.trim_start().starts_with('{') { text } else { format!("{{\"a\":{text}}}") })
}

fn part<'a>(place: &'a Place, body: &'a str, members: &'a mut Members) -> Part<'a> {
    let document = scan(body.as_bytes(), members).expect("JSON");
    Part { place, body: body.as_bytes(), document, members: Some(members) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn documents_are_read_like_serde_json(body in document()) {
        prop_assert!(check(body.as_bytes()).is_ok());
        reads_alike(body.as_bytes());
    }

    #[test]
    fn damaged_documents_are_judged_like_serde_json(
        body in document(),
        at in any::<prop::sample::Index>(),
        other in "[\\[\\]{}:,\"\\\\0-9eE+.tn\\- ü\n]",
        how in 0..4,
    ) {
        let mut body = body.into_bytes();
        let at = at.index(body.len());
        match how {
            0 => { body.remove(at); }
            1 => { body.splice(at..at, other.bytes()); }
            2 => { body.splice(at..=at, other.bytes()); }
            _ => body.truncate(at),
        }
        reads_alike(&body);
    }

    #[test]
    fn any_bytes_are_judged_like_serde_json(body in "[\\[\\]{}:,\"\\\\01eE+.tnrulfas\\- \n]{0,12}") {
        reads_alike(body.as_bytes());
    }

    #[test]
    fn merging_is_what_serde_json_would_do(bodies in prop::collection::vec(object(), 0..4)) {
        let mut merger = Merger::new(7);
        let mut pieces = Pieces::new();
        let mut rooms: Vec<_> = bodies.iter().map(|_| Members::new(7)).collect();
        let parts: Vec<_> =
            bodies.iter().zip(&mut rooms).map(|(body, room)| part(&Place::Root, body, room)).collect();
        for conflict in [Conflict::Last, Conflict::First, Conflict::Error, Conflict::Array] {
            for depth in [Depth::Shallow, Depth::Deep] {
                if (conflict, depth) == (Conflict::Array, Depth::Deep) {
                    // Arrays of conflicts within objects within each other: too much for an oracle this simple.
                    continue;
                }
                let merged = merger.merge(&parts, conflict, depth, &mut pieces);
                let mut expected = Tree::Object(Vec::new());
                let mut seen = Vec::new();
                let is_good = bodies.iter().all(|body| {
                    let other = Tree::read(body.as_bytes()).expect("JSON");
                    expected.merge(&other, conflict, depth, &mut seen)
                });
                prop_assert_eq!(merged.is_ok(), is_good);
                if is_good {
                    let mut whole = Vec::new();
                    pieces.join(|index| bodies[index].as_bytes(), &mut whole);
                    prop_assert_eq!(whole.len(), pieces.bytes());
                    prop_assert_eq!(Tree::read(&whole), Some(expected), "{}", String::from_utf8_lossy(&whole));
                    prop_assert!(!pieces.slices(|index| bodies[index].as_bytes()).any(<[u8]>::is_empty));
                }
            }
        }
    }
}

//! What must hold for any bytes whatever. The fuzz target and the tests that replay its corpus both call this.

use super::{
    BadJson, Conflict, Depth, Document, Edit, Editor, Kind, Members, Merger, Name, Part, Path, Pieces, Place,
    block::Portable, check, grammar, scan, walk,
};

/// What we accept, `serde_json` accepts too, but for numbers it has no type for and the last level of nesting; and the
/// other way round. Every implementation reads the same. Places are where the members are. What is made of JSON is JSON.
pub fn json(bytes: &[u8]) {
    let mut members = Members::new(7);
    let scanned = scan(bytes, &mut members);
    assert_eq!(scanned, check(bytes));
    agrees_with_serde(bytes, scanned);
    all_read_the_same(bytes);
    let Ok(document) = scanned else { return };
    members_are_where_they_are(bytes, document, &members);
    merged_is_json(bytes, document, &members);
    edited_is_json(bytes, document);
}

fn agrees_with_serde(bytes: &[u8], scanned: Result<Document, BadJson>) {
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(_) => assert!(scanned.is_ok(), "{scanned:?}, yet serde_json takes it"),
        Err(error) => {
            let error = error.to_string();
            let is_stricter =
                ["number out of range", "recursion limit"].iter().any(|known| error.starts_with(known));
            assert!(scanned.is_err() || is_stricter, "accepted, yet serde_json says {error}");
        }
    }
}

fn all_read_the_same(bytes: &[u8]) {
    let mut marks = Vec::new();
    let read = grammar::read::<_, true>(Portable, bytes, &mut marks);
    // At other places within the blocks.
    let mut moved = vec![b' '; bytes.len() % 64 + 1];
    moved.extend_from_slice(bytes);
    assert_eq!(read.is_ok(), grammar::read::<_, false>(Portable, &moved, &mut Vec::new()).is_ok());
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = super::avx2::Avx2::detect() {
        let mut other = Vec::new();
        assert_eq!(read, avx2.read::<true>(bytes, &mut other));
        assert_eq!(marks, other);
    }
}

fn members_are_where_they_are(bytes: &[u8], document: Document, members: &Members) {
    let walked: Vec<_> = walk::entries(bytes, document.span).map(|entry| (entry.key, entry.value)).collect();
    let scanned: Vec<_> = members.list().iter().map(|member| (member.key, member.value)).collect();
    assert_eq!(walked, scanned);
    for member in members.list() {
        let value = check(member.value.of(bytes)).expect("a value is JSON");
        assert_eq!((value.kind, value.span.len()), (member.kind, member.value.len()));
        let key = &bytes[member.key.start as usize - 1..=member.key.end as usize];
        assert_eq!(check(key).map(|key| key.kind), Ok(Kind::String));
        assert_eq!(member.key_has_escapes, key.contains(&b'\\'));
    }
}

fn merged_is_json(bytes: &[u8], document: Document, members: &Members) {
    let mut merger = Merger::new(7);
    let mut pieces = Pieces::new();
    let under = Place::under("a\"b");
    let other = Place::parse("a.b").expect("a place");
    let root = Part { place: &Place::Root, body: bytes, document, members: Some(members) };
    let walked = Part { members: None, ..root };
    for conflict in [Conflict::Last, Conflict::First, Conflict::Error, Conflict::Array] {
        for depth in [Depth::Shallow, Depth::Deep] {
            let parts = [Part { place: &under, ..root }, root, Part { place: &other, ..root }, walked];
            let merged = merger.merge(&parts, conflict, depth, &mut pieces);
            if document.kind == Kind::Object && conflict != Conflict::Error {
                assert_eq!(merged, Ok(()));
            }
            if merged.is_ok() {
                is_json(&pieces, bytes);
            }
        }
    }
}

fn edited_is_json(bytes: &[u8], document: Document) {
    let path = |text| Path::parse(text).expect("a path");
    let mut pieces = Pieces::new();
    for pick in ["", "a", "a[*].b"] {
        for only in [&[][..], &["a", "b.c[0]"], &["a.b", "[*]"]] {
            for drop in [&[][..], &["a"], &["a.b", "b[*]", "[1]"]] {
                let rename = vec![(path("a"), Name::new("b")), (path("b.c"), Name::new("x\n"))];
                let [only, drop] = [only, drop].map(|texts| texts.iter().map(|text| path(text)).collect());
                let edit = Edit::new(path(pick), only, drop, rename).expect("an edit");
                pieces.clear();
                if edit.apply(&mut Editor::default(), 0, bytes, document.span, &mut pieces) {
                    is_json(&pieces, bytes);
                } else {
                    assert_eq!(pieces.bytes(), 0);
                }
            }
        }
    }
}

fn is_json(pieces: &Pieces, body: &[u8]) {
    let mut whole = Vec::new();
    pieces.join(|_| body, &mut whole);
    assert_eq!(whole.len(), pieces.bytes());
    let checked = check(&whole);
    let is_good = matches!(checked, Ok(_) | Err(BadJson::TooDeep { .. }));
    assert!(is_good, "{checked:?}: {}", String::from_utf8_lossy(&whole));
}

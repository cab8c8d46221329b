use super::*;
use serde_json::value::RawValue;
use std::collections::HashMap;

fn oracle(body: &[u8], depth: usize) -> bool {
    if depth > DEPTH_MAX { }
    let Ok(raw) = serde_json::from_slice::<&RawValue>(body) else { return false };
    ok(raw.get(), depth)
}
fn ok(raw: &str, depth: usize) -> bool {
    match raw.as_bytes()[0] {
        b'{' => {
            struct V(bool, usize);
            impl<'de> serde::de::Visitor<'de> for V {
                type Value = bool;
                fn expecting(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
                    let mut good = true;
                    while let Some((_, value)) = map.next_entry::<String, &RawValue>()? {
                        good &= ok(value.get(), self.1 + 1);
                    }
                    Ok(good)
                }
            }
            use serde::Deserializer;
            depth < DEPTH_MAX && serde_json::Deserializer::from_str(raw).deserialize_map(V(true, depth)).unwrap_or(false)
        }
        b'[' => depth < DEPTH_MAX && serde_json::from_str::<Vec<&RawValue>>(raw).is_ok_and(|all| all.iter().all(|v| ok(v.get(), depth + 1))),
        b'"' => serde_json::from_str::<String>(raw).is_ok(),
        _ => true,
    }
}

fn same(body: &[u8]) {
    let want = oracle(body, 0);
    let mut members = Members::new(1);
    let got = scan(body, &mut members);
    assert_eq!(got.is_ok(), want, "{got:?} {}", String::from_utf8_lossy(body));
    let mut a = Vec::new();
    let mut b = Vec::new();
    let p = grammar::read::<_, true>(block::Portable, body, &mut a);
    let v = avx2::Avx2::detect().unwrap().read::<true>(body, &mut b);
    assert_eq!(p, v);
    assert_eq!(a, b);
    let _ = HashMap::<u8, u8>::new();
}

#[test]
fn lab() {
    let alphabet: Vec<&str> = vec!["{", "}", "[", "]", ",", ":", "\"a\"", "1", "true", " ", "\"", "\\", "0", "-", ".", "e", "null", "\\u00e9", "ü", "\\ud83d\\ude00", "false", "\n", "+", "E5", "\"\\ud800\""];
    let mut x = 88172645463325252u64;
    let mut rnd = |n: usize| { x ^= x << 13; x ^= x >> 7; x ^= x << 17; (x % n as u64) as usize };
    let mut good = 0;
    for _ in 0..400000 {
        let n = rnd(9) + 1;
        let pad = rnd(3) * rnd(66);
        let mut s = " ".repeat(pad);
        for _ in 0..n { s.push_str(alphabet[rnd(alphabet.len())]); }
        good += usize::from(oracle(s.as_bytes(), 0));
        same(s.as_bytes());
    }
    println!("{good}");
    // mutations of a valid body
    let base = r#"{"id":12,"a":[1,-2.5e+3,{"b":"x\"y\\","c":[true,false,null]},"ü\u00e9"],"d":{},"e":[],"f":[[],{}],"num":0.10,"z":"", "w" : { "k" : [ 1 , 2 ] } }"#.as_bytes();
    same(base);
    for _ in 0..400000 {
        let mut b = vec![b' '; rnd(66)];
        b.extend_from_slice(base);
        let keep = rnd(4) == 0;
        if keep { let n = rnd(b.len()); b.truncate(n); }
        for _ in 0..rnd(3) {
            let n = b.len(); if n == 0 { break }
            let i = rnd(n);
            match rnd(4) { 0 => { b.remove(i); } 1 => { let c = alphabet[rnd(alphabet.len())]; b.splice(i..i, c.bytes()); } 2 => { let j = rnd(n); b.swap(i, j); } _ => { b[i] = rnd(256) as u8; } }
        }
        same(&b);
    }
}

//! Three bodies into one object: `cargo bench --bench merge`, or `… -- NAME SIZE CALLS` for an instruction counter.
//!
//! GB/s of the bodies' bytes, CPU time of one thread, the best of many rounds; in brackets what Coregate's slices are to
//! it. The bodies go to the root, in `Object.assign` order. All make the same document, which is checked first; the
//! others write it into one buffer, as their interfaces have it, Coregate lists slices for one gathered write.
#![allow(clippy::print_stdout, reason = "a bench reports there")]

mod json_bodies;

use std::hint::black_box;

use coregate::json::{Conflict, Depth, Members, Merger, Part, Pieces, Place, scan};
use json_bodies::{orders, seconds};
use serde::{Deserializer, de};
use serde_json::value::RawValue;

type Bodies = [Vec<u8>; 3];

fn main() {
    let names = [
        "slices",
        "slices, joined",
        "RawValue",
        "Value",
        "simd-json",
        "simd-json tape",
        "sonic-rs",
        "memcpy",
    ];
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [name, size, calls] = &arguments[..] {
        let bodies = bodies(size.parse().expect("a size in KiB"));
        let mut work = work(name, &bodies);
        for _ in 0..calls.parse().expect("a number of calls") {
            work();
        }
        return;
    }
    for size in [1, 10, 100] {
        check(&bodies(size), &names);
    }
    // In turns, so that a busy machine is busy for all of them alike.
    let mut best = vec![[0.0_f64; 3]; names.len()];
    for _ in 0..5 {
        for (name, best) in names.iter().zip(&mut best) {
            for (size, best) in [1, 10, 100].into_iter().zip(best) {
                let bodies = bodies(size);
                #[expect(clippy::cast_precision_loss, reason = "bodies are short")]
                let bytes = bodies.iter().map(Vec::len).sum::<usize>() as f64;
                *best = best.max(bytes / seconds(work(name, &bodies)) / 1e9);
            }
        }
    }
    println!("{:<16}{:>16}{:>16}{:>16}", "GB/s", "3 x 1 KiB", "3 x 10 KiB", "3 x 100 KiB");
    for (name, speeds) in names.iter().zip(&best) {
        print!("{name:<16}");
        for (speed, ours) in speeds.iter().zip(&best[0]) {
            print!("{speed:>8.2} {:>7}", format!("({:.2})", ours / speed));
        }
        println!();
    }
}

fn bodies(kib: usize) -> Bodies {
    ["orders", "stock", "offers"].map(|name| orders(name, kib * 1024).into_bytes())
}

/// Each makes the document that `RawValue` makes.
fn check(bodies: &Bodies, names: &[&str]) {
    let mut expected = Vec::new();
    raw_value(bodies, &mut expected);
    let expected: serde_json::Value = serde_json::from_slice(&expected).expect("JSON");
    for name in names.iter().filter(|name| !["memcpy", "simd-json tape"].contains(name)) {
        let mut out = Vec::new();
        match *name {
            "slices" | "slices, joined" => Ours::new().join(bodies, &mut out),
            "Value" => value(bodies, &mut out),
            "simd-json" => simd(bodies, &mut Vec::new(), &mut simd_json::Buffers::default(), &mut out),
            "sonic-rs" => sonic(bodies, &mut out),
            _ => raw_value(bodies, &mut out),
        }
        let document: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert!(document == expected, "{name}");
    }
}

fn work<'b>(name: &str, bodies: &'b Bodies) -> Box<dyn FnMut() + 'b> {
    let bodies = black_box(bodies);
    let (mut ours, mut out, mut copy) = (Ours::new(), Vec::new(), Vec::new());
    let mut buffers = simd_json::Buffers::default();
    match name {
        "slices" => Box::new(move || {
            ours.merge(bodies);
            black_box(&ours.pieces);
        }),
        "slices, joined" => Box::new(move || {
            ours.join(bodies, &mut out);
            black_box(&out);
        }),
        "RawValue" => Box::new(move || {
            raw_value(bodies, &mut out);
            black_box(&out);
        }),
        "Value" => Box::new(move || {
            value(bodies, &mut out);
            black_box(&out);
        }),
        "simd-json" => Box::new(move || {
            simd(bodies, &mut copy, &mut buffers, &mut out);
            black_box(&out);
        }),
        "simd-json tape" => Box::new(move || {
            for body in bodies {
                copy.clear();
                copy.extend_from_slice(body);
                black_box(simd_json::to_tape(&mut copy).expect("JSON").0.len());
            }
        }),
        "sonic-rs" => Box::new(move || {
            sonic(bodies, &mut out);
            black_box(&out);
        }),
        "memcpy" => Box::new(move || {
            out.clear();
            for body in bodies {
                out.extend_from_slice(body);
            }
            black_box(&out);
        }),
        other => panic!("nothing is called {other}"),
    }
}

/// What a shard keeps for it.
struct Ours {
    members: [Members; 3],
    merger: Merger,
    pieces: Pieces,
}

impl Ours {
    fn new() -> Self {
        Self { members: [(); 3].map(|()| Members::new(7)), merger: Merger::new(7), pieces: Pieces::new() }
    }

    fn merge(&mut self, bodies: &Bodies) {
        let [a, b, c] = bodies;
        let [x, y, z] = &mut self.members;
        let parts = [part(a, x), part(b, y), part(c, z)];
        let merged = self.merger.merge(&parts, Conflict::Last, Depth::Shallow, &mut self.pieces);
        merged.expect("objects");
    }

    fn join(&mut self, bodies: &Bodies, out: &mut Vec<u8>) {
        self.merge(bodies);
        out.clear();
        self.pieces.join(|index| &bodies[index], out);
    }
}

fn part<'b>(body: &'b [u8], members: &'b mut Members) -> Part<'b> {
    let document = scan(body, members).expect("JSON");
    Part { place: &Place::Root, body, document, members: Some(members) }
}

struct InOrder;

impl<'de> de::Visitor<'de> for InOrder {
    type Value = Vec<(&'de str, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

fn raw_value(bodies: &Bodies, out: &mut Vec<u8>) {
    let mut merged: Vec<(&str, &RawValue)> = Vec::new();
    for body in bodies {
        let mut reader = serde_json::Deserializer::from_slice(body);
        for (name, value) in reader.deserialize_map(InOrder).expect("an object") {
            match merged.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => merged.push((name, value)),
            }
        }
        reader.end().expect("nothing after it");
    }
    write(merged.iter().map(|(name, value)| (*name, value.get())), out);
}

/// Names here have nothing to escape.
fn write<'a>(members: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    out.clear();
    let mut before: &[u8] = b"{\"";
    for (name, value) in members {
        for text in [before, name.as_bytes(), b"\":", value.as_bytes()] {
            out.extend_from_slice(text);
        }
        before = b",\"";
    }
    out.push(b'}');
}

fn value(bodies: &Bodies, out: &mut Vec<u8>) {
    let mut merged = serde_json::Map::new();
    for body in bodies {
        merged.extend(serde_json::from_slice::<serde_json::Map<_, _>>(body).expect("an object"));
    }
    out.clear();
    serde_json::to_writer(out, &merged).expect("JSON");
}

/// It reads in place, so the body is copied first, which a gateway could do without.
fn simd(bodies: &Bodies, copy: &mut Vec<u8>, buffers: &mut simd_json::Buffers, out: &mut Vec<u8>) {
    use simd_json::prelude::*;
    copy.clear();
    bodies.iter().for_each(|body| copy.extend_from_slice(body));
    let mut rest = &mut copy[..];
    let mut merged: Option<simd_json::BorrowedValue<'_>> = None;
    for body in bodies {
        let (own, others) = rest.split_at_mut(body.len());
        rest = others;
        let value = simd_json::to_borrowed_value_with_buffers(own, buffers).expect("JSON");
        match &mut merged {
            None => merged = Some(value),
            Some(merged) => {
                let members = merged.as_object_mut().expect("an object");
                let simd_json::BorrowedValue::Object(others) = value else { panic!("an object") };
                for (name, value) in *others {
                    members.insert(name, value);
                }
            }
        }
    }
    out.clear();
    merged.expect("three bodies").write(out).expect("JSON");
}

/// Takes whatever comes after the object.
fn sonic(bodies: &Bodies, out: &mut Vec<u8>) {
    let mut merged: Vec<(_, sonic_rs::LazyValue<'_>)> = Vec::new();
    for body in bodies {
        for member in sonic_rs::to_object_iter(&body[..]) {
            let (name, value) = member.expect("JSON");
            match merged.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => merged.push((name, value)),
            }
        }
    }
    write(merged.iter().map(|(name, value)| (name.as_ref(), value.as_raw_str())), out);
}

//! What checking a body and finding its members costs, in GB/s of CPU time: `cargo bench --bench json`.
#![allow(clippy::print_stdout, reason = "a bench reports there")]

mod json_bodies;

use std::hint::black_box;

use coregate::json::{Members, check, scan};
use json_bodies::{orders, pretty, seconds};

fn main() {
    println!("{:<28}{:>9}{:>9}{:>9}   GB/s", "", "1 KiB", "10 KiB", "100 KiB");
    let sizes = [1, 10, 100].map(|size| orders("orders", size * 1024));
    let spaced = sizes.each_ref().map(|body| pretty(body));
    let mut members = Members::new(7);
    report("check", &sizes, |body| check(body).is_ok());
    report("scan", &sizes, |body| scan(body, &mut members).is_ok());
    report("scan, printed for people", &spaced, |body| scan(body, &mut members).is_ok());
    report("UTF-8 only (simdutf8)", &sizes, |body| simdutf8::basic::from_utf8(body).is_ok());
    report("serde_json IgnoredAny", &sizes, |body| {
        serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
    });
}

fn report(name: &str, bodies: &[String; 3], mut read: impl FnMut(&[u8]) -> bool) {
    print!("{name:<28}");
    for body in bodies {
        let time = seconds(|| assert!(read(black_box(body.as_bytes()))));
        #[expect(clippy::cast_precision_loss, reason = "bodies are short")]
        let bytes = body.len() as f64;
        print!("{:>9.2}", bytes / time / 1e9);
    }
    println!();
}

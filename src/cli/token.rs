//! `coregate token verify`: the signatures of tokens, by the very code a route uses. Payloads are not looked at.

use std::{
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::auth::{
    Algs, KeySet, Reject,
    jws::{Jws, Room, TOKEN_BYTES_MAX},
};

/// Longest line of `--jsonl`.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(clap::Args)]
pub struct Verify {
    /// A JWK Set to verify with. The token comes from standard input: an argument can be read by everybody on this machine.
    #[arg(long, conflicts_with = "pem", required_unless_present_any = ["pem", "jsonl"])]
    jwks: Option<PathBuf>,
    /// Public keys or certificates to verify with.
    #[arg(long)]
    pem: Option<PathBuf>,
    /// Read lines {"jwks": …, "jws": "…"} from standard input, and answer each with {"valid": true} or {"valid": false}.
    #[arg(long, conflicts_with_all = ["jwks", "pem"])]
    jsonl: bool,
}

/// Returns the exit code: 0 if the token's signature is good, or all lines could be answered; 1 if it is not; 2 if something could
/// not be read.
pub fn verify(arguments: &Verify) -> u8 {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let mut room = Room::new(0);
    let result = if arguments.jsonl {
        lines(&mut io::stdin().lock(), &mut out, &mut room).map(|()| 0).map_err(|error| error.to_string())
    } else {
        one(arguments, &mut room).map(|answer| {
            let text = match answer {
                Ok(()) => "valid".to_owned(),
                Err(reject) => format!("not valid: {}", reject.text()),
            };
            // A closed pipe is no reason to answer anything else.
            let _ = writeln!(out, "{text}");
            u8::from(answer.is_err())
        })
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(err, "coregate: {error}");
        2
    })
}

fn one(arguments: &Verify, room: &mut Room) -> Result<Result<(), Reject>, String> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let (path, keys) = match (&arguments.jwks, &arguments.pem) {
        (Some(path), _) => (path, KeySet::from_jwks(&read(path)?, all())),
        (None, Some(path)) => (path, KeySet::from_pem(&read(path)?, all())),
        (None, None) => return Err("neither --jwks nor --pem".to_owned()),
    };
    let keys = keys.map_err(|bad| format!("{} {bad}", path.display()))?;
    let mut token = Vec::new();
    let limit = TOKEN_BYTES_MAX as u64 + 16;
    io::stdin().take(limit).read_to_end(&mut token).map_err(|error| error.to_string())?;
    Ok(signature(&keys, token.trim_ascii(), room))
}

/// Answers line by line, so that both sides may be alive.
fn lines(input: &mut impl BufRead, out: &mut impl Write, room: &mut Room) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
            return Err(io::Error::other(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        writeln!(out, "{{\"valid\": {}}}", is_valid(&line, room))?;
        out.flush()?;
    }
}

/// Whether a line's `jws` has a signature by a key of its `jwks`: a set, or a single JWK.
fn is_valid(line: &[u8], room: &mut Room) -> bool {
    let Ok(line) = serde_json::from_slice::<Value>(line) else { return false };
    let (Some(jwks), Some(Value::String(jws))) = (line.get("jwks"), line.get("jws")) else { return false };
    let document = match jwks.get("keys") {
        Some(_) => jwks.clone(),
        None => serde_json::json!({ "keys": [jwks] }),
    };
    let Ok(keys) = KeySet::from_jwks(document.to_string().as_bytes(), all()) else { return false };
    signature(&keys, jws.as_bytes(), room).is_ok()
}

fn signature(keys: &KeySet, token: &[u8], room: &mut Room) -> Result<(), Reject> {
    let jws = Jws::parse(token, room)?;
    keys.verify(&jws, room).map(|_| ())
}

const fn all() -> Algs {
    Algs::SYMMETRIC.or(Algs::ASYMMETRIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 §A.4.
    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

    #[test]
    fn every_line_is_answered() {
        let good = format!("{{\"jwks\":{{\"keys\":[{KEY}]}},\"jws\":\"{TOKEN}\"}}");
        let input = [
            good.clone(),
            String::new(),
            format!("{{\"jwks\":{KEY},\"jws\":\"{TOKEN}\"}}"),
            good.replace("Ed25519", "Ed448"),
            good.replace("RXh", "SXh"),
            good.replace("\"keys\":[", "\"keys\":[7,"),
            r#"{"jwks":{"keys":[]},"jws":"a.b.c"}"#.to_owned(),
            r#"{"jws":"a.b.c"}"#.to_owned(),
            format!("{{\"jwks\":{{\"keys\":[{KEY}]}},\"jws\":{{\"payload\":\"\",\"signatures\":[]}}}}"),
            "no JSON".to_owned(),
            good,
        ];
        let mut out = Vec::new();
        lines(&mut input.join("\n").as_bytes(), &mut out, &mut Room::new(1)).unwrap();
        let answers: Vec<_> =
            String::from_utf8(out).unwrap().lines().map(|line| line.contains("true")).collect();
        assert_eq!(answers, [true, true, false, false, true, false, false, false, false, true]);
    }
}

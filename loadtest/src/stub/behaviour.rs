//! What the stub answers, and how it misbehaves when asked to.

use std::time::Duration;

use crate::cli;

/// The answer to every request, and how often and how it goes wrong.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub status: u16,
    pub content: Content,
    /// The body comes in chunks of this size (RFC 9112 §7.1).
    pub chunk_bytes: Option<usize>,
    /// Time before the answer.
    pub delay: Delay,
    /// Part of the requests that are answered with 503.
    pub failures: f64,
    /// Part of the requests whose connection is reset instead.
    pub resets: f64,
    /// The answer goes out in pieces of this size, one each time.
    pub drip: Option<(usize, Duration)>,
    /// Once, so long after the start, nothing is done for so long.
    pub stall: Option<(Duration, Duration)>,
}

#[derive(Debug, Clone)]
pub enum Content {
    /// The same for everybody.
    Fixed { text: Vec<u8>, kind: &'static str },
    /// The request itself, head and body, as it arrived.
    Echo,
}

/// How long an answer waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Delay {
    None,
    Fixed(Duration),
    /// All between the two alike.
    Uniform(Duration, Duration),
    /// Many short and few long ones around this mean, as in queues.
    Exponential(Duration),
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: 200,
            content: Content::of_bytes(1024),
            chunk_bytes: None,
            delay: Delay::None,
            failures: 0.0,
            resets: 0.0,
            drip: None,
            stall: None,
        }
    }
}

impl Content {
    /// So many bytes. They look like JSON, so that nothing along the way finds them unusual.
    pub fn of_bytes(count: usize) -> Self {
        let unit = br#"{"id":1234567,"name":"stub","ok":true,"tags":["a","b"]},"#;
        Self::Fixed { text: unit.iter().copied().cycle().take(count).collect(), kind: "application/json" }
    }

    /// A JSON object of so many bytes, at least about a hundred: a list of small objects, and a text that fills it up.
    pub fn json_of_bytes(count: usize) -> Self {
        let unit = r#"{"id":1234567,"name":"stub \"quoted\"","price":12.50,"ok":true,"tags":["a","b"]}"#;
        let units = count.saturating_sub(40) / (unit.len() + 1);
        let list = vec![unit; units].join(",");
        let rest = count.saturating_sub(list.len() + r#"{"items":[],"fill":""}"#.len());
        let text = format!(r#"{{"items":[{list}],"fill":"{}"}}"#, "x".repeat(rest));
        Self::Fixed { text: text.into_bytes(), kind: "application/json" }
    }

    /// An object of so many members, each an object again until `depth` is used up.
    pub fn json(members: usize, depth: usize) -> Self {
        Self::Fixed { text: object(members, depth).into_bytes(), kind: "application/json" }
    }
}

fn object(members: usize, depth: usize) -> String {
    let member = |number: usize| match (depth, number % 3) {
        (2.., _) => format!("\"part{number}\":{}", object(members, depth - 1)),
        (_, 0) => format!("\"number{number}\":{}", number * 7919),
        (_, 1) => format!("\"text{number}\":\"value {number} with \\\"quotes\\\" and ü\""),
        (_, _) => format!("\"list{number}\":[true,null,{number}.5]"),
    };
    let members: Vec<String> = (0..members).map(member).collect();
    format!("{{{}}}", members.join(","))
}

impl Behaviour {
    pub fn of(arguments: &cli::Stub) -> Result<Self, String> {
        let content = match (&arguments.body_file, arguments.json_members, arguments.echo) {
            (Some(file), _, _) => {
                let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
                Content::Fixed { text, kind: "application/octet-stream" }
            }
            (None, Some(members), _) => Content::json(members, arguments.json_depth),
            (None, None, true) => Content::Echo,
            (None, None, false) if arguments.json => Content::json_of_bytes(arguments.size),
            (None, None, false) => Content::of_bytes(arguments.size),
        };
        Ok(Self {
            status: arguments.status,
            content,
            chunk_bytes: arguments.chunk,
            delay: arguments.delay,
            failures: arguments.failures,
            resets: arguments.resets,
            drip: arguments.drip_bytes.map(|bytes| (bytes.max(1), arguments.drip_every)),
            stall: arguments.stall_after.map(|after| (after, arguments.stall_for)),
        })
    }

    /// The whole answer with this content.
    pub fn reply(&self, status: u16, kind: &str, content: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status} Stub\r\nContent-Type: {kind}\r\n");
        let mut reply = head.into_bytes();
        let Some(chunk) = self.chunk_bytes else {
            reply.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
            reply.extend_from_slice(content);
            return reply;
        };
        reply.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for part in content.chunks(chunk.max(1)) {
            reply.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            reply.extend_from_slice(part);
            reply.extend_from_slice(b"\r\n");
        }
        reply.extend_from_slice(b"0\r\n\r\n");
        reply
    }
}

/// Chance that comes out the same in every run (xorshift64*, Vigna 2016).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// From 0 up to but without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn draw(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Delay {
    pub fn draw(self, dice: &mut Dice) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(delay) => delay,
            Self::Uniform(from, to) => from + to.saturating_sub(from).mul_f64(dice.draw()),
            Self::Exponential(mean) => mean.mul_f64(-(1.0 - dice.draw()).ln()),
        }
    }

    /// Reads `0`, `20ms`, `10ms..30ms`, `exp:20ms`.
    pub fn read(text: &str) -> Result<Self, String> {
        if let Some(mean) = text.strip_prefix("exp:") {
            return Ok(Self::Exponential(cli::duration(mean)?));
        }
        if let Some((from, to)) = text.split_once("..") {
            return Ok(Self::Uniform(cli::duration(from)?, cli::duration(to)?));
        }
        let delay = cli::duration(text)?;
        Ok(if delay.is_zero() { Self::None } else { Self::Fixed(delay) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_follow_their_distribution() {
        let mut dice = Dice::new(7);
        let mut mean = |text: &str| {
            let delay = Delay::read(text).unwrap();
            (0..20_000).map(|_| delay.draw(&mut dice).as_secs_f64()).sum::<f64>() / 20.0
        };
        for (text, millis) in [("0", 0.0), ("20ms", 20.0), ("10ms..30ms", 20.0), ("exp:20ms", 20.0)] {
            let found = mean(text);
            assert!((found - millis).abs() <= millis * 0.02, "{text}: a mean of {found} ms");
        }
        assert!(Delay::read("soon").is_err());
    }

    #[test]
    fn json_has_the_shape_that_was_asked_for() {
        let Content::Fixed { text, .. } = Content::json(4, 3) else { panic!("fixed text") };
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 4);
        assert_eq!(value["part3"]["part0"].as_object().unwrap().len(), 4);
        assert!(value["part0"]["part0"]["text1"].is_string());
        for size in [100, 1024, 10 * 1024] {
            let Content::Fixed { text, .. } = Content::json_of_bytes(size) else { panic!("fixed text") };
            assert_eq!(text.len(), size);
            assert!(serde_json::from_slice::<serde_json::Value>(&text).unwrap()["items"].is_array());
        }
    }
}

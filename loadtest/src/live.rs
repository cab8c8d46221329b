//! What a run shows while it lasts: a few lines in place on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::load::{Latency, Tally, precise};

/// Where nobody watches, a line each time this has passed.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Columns of the progress bar.
const BAR: usize = 40;

pub struct Live {
    /// What it is about, where that changes.
    name: String,
    terminal: bool,
    /// Lines drawn last time, to be drawn over.
    drawn: usize,
    last: Duration,
    successes: u64,
    /// `None`: only terminals are shown anything.
    plain_next: Option<Duration>,
}

impl Live {
    pub fn new() -> Self {
        Self { plain_next: Some(PLAIN_EVERY), ..Self::over("") }
    }

    /// For a part of something longer that has lines of its own: drawn on terminals alone, and gone with [`Live::clear`].
    pub fn over(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            terminal: std::io::stdout().is_terminal(),
            drawn: 0,
            last: Duration::ZERO,
            successes: 0,
            plain_next: None,
        }
    }

    /// Shows `tally` after `passed` of `total`.
    pub fn show(&mut self, tally: &Tally, passed: Duration, total: Duration) {
        if !self.terminal {
            if self.plain_next.is_none_or(|next| passed < next) {
                return;
            }
            self.plain_next = Some(passed + PLAIN_EVERY);
        }
        let seconds = passed.saturating_sub(self.last).as_secs_f64().max(1e-9);
        let rate = precise(tally.successes() - self.successes.min(tally.successes())) / seconds;
        (self.last, self.successes) = (passed, tally.successes());
        let latency = Latency::of(&tally.latency);
        let mut out = std::io::stdout().lock();
        let text = if self.terminal {
            let over = if self.drawn > 0 { format!("\x1b[{}A\r\x1b[J", self.drawn) } else { String::new() };
            self.drawn = 4;
            format!(
                "{over}{} {:.1} / {:.1} s  {}\n{rate:>10.0} req/s  {} answered, {} failed\n\
                 p50 {:>8}   p99 {:>8}   p99.9 {:>8}   max {:>8}\n\n",
                bar(passed, total),
                passed.as_secs_f64(),
                total.as_secs_f64(),
                self.name,
                tally.successes(),
                tally.failed(),
                micros(latency.p50),
                micros(latency.p99),
                micros(latency.p999),
                micros(latency.max),
            )
        } else {
            format!(
                "{:>5.1} s  {rate:.0} req/s  {} failed  p50 {}  p99 {}  p99.9 {}\n",
                passed.as_secs_f64(),
                tally.failed(),
                micros(latency.p50),
                micros(latency.p99),
                micros(latency.p999),
            )
        };
        // Nobody may be watching any more; the run goes on.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Takes back what was drawn.
    pub fn clear(&mut self) {
        if self.drawn > 0 {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\x1b[{}A\r\x1b[J", self.drawn).and_then(|()| out.flush());
            self.drawn = 0;
        }
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

fn bar(passed: Duration, total: Duration) -> String {
    let part = (passed.as_secs_f64() / total.as_secs_f64().max(1e-9)).clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to 40"
    )]
    let full = (part * BAR as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), " ".repeat(BAR - full))
}

/// Microseconds in the unit that a reader wants: `870 µs`, `12.3 ms`, `1.25 s`.
pub fn micros(count: u64) -> String {
    let value = precise(count);
    match count {
        0..1000 => format!("{count} µs"),
        1000..1_000_000 => format!("{:.1} ms", value / 1e3),
        _ => format!("{:.2} s", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_get_the_unit_a_reader_wants() {
        assert_eq!([micros(999), micros(12_345), micros(1_250_000)], ["999 µs", "12.3 ms", "1.25 s"]);
    }

    #[test]
    fn a_bar_fills_from_empty_to_full() {
        let second = Duration::from_secs;
        assert_eq!(bar(second(0), second(4)).matches('#').count(), 0);
        assert_eq!(bar(second(1), second(4)).matches('#').count(), 10);
        assert_eq!(bar(second(9), second(4)).matches('#').count(), BAR);
    }
}

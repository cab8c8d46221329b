//! Times as text.

use std::io::Write;

use jiff::{Timestamp, tz::TimeZone};

/// `2026-11-22T19:00:00.123Z`
pub(super) fn utc(time_us: u64, out: &mut Vec<u8>) {
    let time = timestamp(time_us);
    write!(out, "{}", time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ")).expect("a Vec takes all");
}

/// The texts of one second, which thousands of records share.
pub(super) struct Calendar {
    zone: TimeZone,
    second: u64,
    texts: Texts,
}

#[derive(Default)]
pub(super) struct Texts {
    /// `22/Nov/2026:19:00:00 +0000`, in local time as nginx's.
    pub(super) local: String,
    /// `2026-11-22T19:00:00+00:00`, in local time as nginx's.
    pub(super) iso8601: String,
    /// `2026-11-22T19:00:00`
    pub(super) utc: String,
}

impl Calendar {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, second: u64::MAX, texts: Texts::default() }
    }

    pub(super) fn at(&mut self, time_us: u64) -> &Texts {
        let second = time_us / 1_000_000;
        if second != self.second {
            let time = timestamp(second * 1_000_000);
            let local = time.to_zoned(self.zone.clone());
            self.texts.local = local.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
            self.texts.iso8601 = local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            self.texts.utc = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            self.second = second;
        }
        &self.texts
    }
}

fn timestamp(time_us: u64) -> Timestamp {
    i64::try_from(time_us)
        .ok()
        .and_then(|time_us| Timestamp::from_microsecond(time_us).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    #[test]
    fn the_texts_change_with_the_second() {
        let mut calendar = Calendar::new(TimeZone::fixed(Offset::from_seconds(-5 * 3600 - 1800).unwrap()));
        for (time_us, local, iso8601, utc) in [
            (0, "31/Dec/1969:18:30:00 -0530", "1969-12-31T18:30:00-05:30", "1970-01-01T00:00:00"),
            (999_999, "31/Dec/1969:18:30:00 -0530", "1969-12-31T18:30:00-05:30", "1970-01-01T00:00:00"),
            (1_000_000, "31/Dec/1969:18:30:01 -0530", "1969-12-31T18:30:01-05:30", "1970-01-01T00:00:01"),
        ] {
            let texts = calendar.at(time_us);
            assert_eq!((&*texts.local, &*texts.iso8601, &*texts.utc), (local, iso8601, utc));
        }
    }
}

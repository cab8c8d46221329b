//! Durations, sizes and shares: a number and its unit.

use std::time::Duration;

const DURATION_FORMS: &str = "write a number and ms, s, m, h or d: 400ms, 2s, 30d";
pub(super) const SIZE_FORMS: &str = "write bytes, or a number and kB, MB, GB, KiB, MiB or GiB: 64KiB";
pub(super) const PERCENT_FORMS: &str = "write a whole number from 0 to 100 and %: 20%";

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// `400ms`, `2s`, `1m`, `1h`, `30d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    with_unit(text, &DURATIONS).map(Duration::from_millis)
}

/// `1MiB`, `10MB`, and plain bytes. Unlike nginx's, a unit never means two things: `1m` is no size.
pub(super) fn size(text: &str) -> Option<u64> {
    digits(text).or_else(|| with_unit(text, &SIZES))
}

/// How to write what was probably meant: nginx takes a number alone for seconds.
pub(super) fn duration_remedy(wrong: &str) -> String {
    match digits(wrong) {
        Some(number) => format!("the unit is missing: {number}s"),
        None => DURATION_FORMS.to_owned(),
    }
}

/// The same for sizes: nginx has `k`, `m` and `g` for the units of 1024.
pub(super) fn size_remedy(wrong: &str) -> String {
    let short = [("k", "KiB"), ("K", "KiB"), ("m", "MiB"), ("M", "MiB"), ("g", "GiB"), ("G", "GiB")];
    let meant = short.into_iter().find_map(|(short, unit)| Some((digits(wrong.strip_suffix(short)?)?, unit)));
    match meant {
        Some((number, unit)) => format!("write {number}{unit}"),
        None => SIZE_FORMS.to_owned(),
    }
}

/// `20%`.
pub(super) fn percent(text: &str) -> Option<u32> {
    let value = digits(text.strip_suffix('%')?)?;
    u32::try_from(value).ok().filter(|&value| value <= 100)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let number_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(number_end);
    let &(_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits(number)?.checked_mul(factor)
}

/// A number without sign: `parse` alone would take `+1`.
pub(super) fn digits(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// In the largest unit that leaves a whole number.
pub(super) fn show_duration(value: Duration) -> String {
    let milliseconds = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    show(milliseconds, DURATIONS.into_iter().rev())
}

pub(super) fn show_size(value: u64) -> String {
    let binary = SIZES.into_iter().rev().filter(|(name, _)| name.ends_with("iB") || *name == "B");
    show(value, binary)
}

fn show(value: u64, units: impl Iterator<Item = (&'static str, u64)>) -> String {
    let whole = |factor: u64| value >= factor && value.is_multiple_of(factor);
    match units.into_iter().find(|&(_, factor)| whole(factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        };
        check("400ms", Some(400));
        check("0s", Some(0));
        check("2s", Some(2000));
        check("1m", Some(60_000));
        check("1h", Some(3_600_000));
        check("30d", Some(2_592_000_000));
        for wrong in
            ["", "2", "s", "2 s", "-2s", "+2s", "1.5s", "2sec", "1h30m", "2S", "99999999999999999999s"]
        {
            check(wrong, None);
        }
        check("18446744073709551615d", None);
    }

    #[test]
    fn a_size_is_bytes_or_has_a_unit() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(size(text), expected, "{text}");
        check("0", Some(0));
        check("1000", Some(1000));
        check("1MiB", Some(1 << 20));
        check("64KiB", Some(65_536));
        check("10MB", Some(10_000_000));
        check("2GiB", Some(2 << 30));
        for wrong in ["", "MiB", "1m", "1k", "1mib", "1 MiB", "-1", "+1", "0x10", "1.5MiB"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_share_is_whole_and_at_most_all() {
        let check = |text: &str, expected: Option<u32>| assert_eq!(percent(text), expected, "{text}");
        check("0%", Some(0));
        check("20%", Some(20));
        check("100%", Some(100));
        for wrong in ["", "%", "20", "101%", "2.5%", "-1%"] {
            check(wrong, None);
        }
    }

    #[test]
    fn values_are_shown_in_the_unit_they_would_be_written_in() {
        assert_eq!(show_duration(Duration::from_millis(1)), "1ms");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_duration(Duration::from_secs(86_400)), "1d");
        assert_eq!(show_size(1 << 20), "1MiB");
        assert_eq!(show_size(1500), "1500B");
        assert_eq!(show_size(0), "0");
    }
}

//! Times as HTTP and logs write them. UTC, Gregorian, from Unix seconds.

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The last second with four digits for the year; later ones are written as this one.
const SECONDS_MAX: u64 = 253_402_300_799;

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
pub fn imf_fixdate(unix_seconds: u64) -> [u8; 29] {
    let at = Civil::from(unix_seconds);
    let mut out = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    out[0..3].copy_from_slice(DAYS[at.weekday]);
    put(&mut out[5..7], at.day);
    out[8..11].copy_from_slice(MONTHS[at.month]);
    put(&mut out[12..16], at.year);
    at.put_time(&mut out[17..25]);
    out
}

/// `10/Oct/2000:13:55:36 +0000`, as the `combined` log has it.
pub fn log_time(unix_seconds: u64) -> [u8; 26] {
    let at = Civil::from(unix_seconds);
    let mut out = *b"10/Oct/2000:13:55:36 +0000";
    put(&mut out[0..2], at.day);
    out[3..6].copy_from_slice(MONTHS[at.month]);
    put(&mut out[7..11], at.year);
    at.put_time(&mut out[12..20]);
    out
}

/// `2000-10-10T13:55:36.000Z` (RFC 3339).
pub fn rfc3339(unix_millis: u64) -> [u8; 24] {
    let at = Civil::from(unix_millis / 1000);
    let mut out = *b"2000-10-10T13:55:36.000Z";
    put(&mut out[0..4], at.year);
    put(&mut out[5..7], at.month as u64 + 1);
    put(&mut out[8..10], at.day);
    at.put_time(&mut out[11..19]);
    put(&mut out[20..23], unix_millis % 1000);
    out
}

struct Civil {
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// From Thursday, the day of the epoch.
    weekday: usize,
    second: u64,
}

impl From<u64> for Civil {
    fn from(unix_seconds: u64) -> Self {
        let seconds = unix_seconds.min(SECONDS_MAX);
        let days = seconds / 86_400;
        // Days since 0000-03-01, in eras of 400 years; a year that starts in March has its leap day at the end
        // (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 2 } else { month_from_march - 10 };
        Self {
            year: year_of_era + era * 400 + u64::from(month < 2),
            month: index(month),
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            weekday: index(days % 7),
            second: seconds % 86_400,
        }
    }
}

impl Civil {
    /// `08:49:37` into eight bytes.
    fn put_time(&self, out: &mut [u8]) {
        put(&mut out[0..2], self.second / 3600);
        out[2] = b':';
        put(&mut out[3..5], self.second / 60 % 60);
        out[5] = b':';
        put(&mut out[6..8], self.second % 60);
    }
}

fn index(small: u64) -> usize {
    usize::try_from(small).expect("a month or a day of the week")
}

/// Writes the last `out.len()` decimal digits of `number`.
fn put(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789"[index(number % 10)];
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unix_seconds: u64, fixdate: &str, log: &str, rfc: &str) {
        assert_eq!(str::from_utf8(&imf_fixdate(unix_seconds)), Ok(fixdate));
        assert_eq!(str::from_utf8(&log_time(unix_seconds)), Ok(log));
        assert_eq!(str::from_utf8(&rfc3339(unix_seconds * 1000 + 42)), Ok(rfc));
    }

    #[test]
    fn times_are_written_in_each_form() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT", "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00.042Z");
        check(
            784_111_777,
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "06/Nov/1994:08:49:37 +0000",
            "1994-11-06T08:49:37.042Z",
        );
        check(
            951_827_696,
            "Tue, 29 Feb 2000 12:34:56 GMT",
            "29/Feb/2000:12:34:56 +0000",
            "2000-02-29T12:34:56.042Z",
        );
        check(
            951_868_800,
            "Wed, 01 Mar 2000 00:00:00 GMT",
            "01/Mar/2000:00:00:00 +0000",
            "2000-03-01T00:00:00.042Z",
        );
        check(
            4_107_542_399,
            "Sun, 28 Feb 2100 23:59:59 GMT",
            "28/Feb/2100:23:59:59 +0000",
            "2100-02-28T23:59:59.042Z",
        );
        check(
            SECONDS_MAX,
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "31/Dec/9999:23:59:59 +0000",
            "9999-12-31T23:59:59.042Z",
        );
    }

    #[test]
    fn days_follow_each_other() {
        let mut expected = (1970, 0, 1);
        for day in 0..200_000u64 {
            let at = Civil::from(day * 86_400 + 86_399);
            assert_eq!((at.year, at.month, at.day), expected);
            assert_eq!(at.weekday as u64, day % 7);
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
            expected = match (day == last, month == 11) {
                (false, _) => (year, month, day + 1),
                (true, false) => (year, month + 1, 1),
                (true, true) => (year + 1, 0, 1),
            };
        }
    }

    #[test]
    fn a_year_past_9999_is_written_as_the_last_second() {
        assert_eq!(imf_fixdate(u64::MAX), imf_fixdate(SECONDS_MAX));
    }
}

//! Points in time for names and records, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    year: u64,
    month: u64,
    day: u64,
    seconds: u64,
}

impl Utc {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self::of(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// Seconds since 1970, as a date of the Gregorian calendar: Howard Hinnant's `civil_from_days`
    /// (<https://howardhinnant.github.io/date_algorithms.html>), for days from 1970 on.
    fn of(since_1970: u64) -> Self {
        let days = since_1970 / 86_400 + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            seconds: since_1970 % 86_400,
        }
    }

    /// `2026-01-31T12:00:00Z`
    #[must_use]
    pub fn text(self) -> String {
        let (hour, minute, second) = self.clock();
        format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", self.year, self.month, self.day)
    }

    /// `20260131T120000Z`, for names of folders.
    #[must_use]
    pub fn compact(self) -> String {
        self.text().chars().filter(|&letter| letter != '-' && letter != ':').collect()
    }

    const fn clock(self) -> (u64, u64, u64) {
        (self.seconds / 3_600, self.seconds / 60 % 60, self.seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        // date -u -d @N +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc::of(seconds).text(), text);
        }
        assert_eq!(Utc::of(0).compact(), "19700101T000000Z");
    }
}

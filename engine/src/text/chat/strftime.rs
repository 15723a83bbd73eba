//! Dates as `strftime` writes them, for templates that tell the model what day it is.

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment in UTC, by the Gregorian calendar.
struct Moment {
    year: i64,
    /// From 1.
    month: i64,
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From Sunday on, 0.
    weekday: i64,
    second_of_day: i64,
}

impl Moment {
    /// That of so many seconds since 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
    fn of(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        // Years that begin in March, so that the day which leap years have more is their last; 400 of them repeat.
        let shifted = days + 719_468;
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_march_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + shifted.div_euclid(146_097) * 400 + i64::from(month <= 2);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let day_of_year = if month > 2 { day_of_march_year + 60 + i64::from(is_leap) } else { day_of_march_year - 305 };
        Self {
            year,
            month,
            day: day_of_march_year - (153 * shifted_month + 2) / 5 + 1,
            day_of_year,
            weekday: (days + 4).rem_euclid(7),
            second_of_day: seconds.rem_euclid(86_400),
        }
    }

    fn month_name(&self) -> &'static str {
        usize::try_from(self.month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"")
    }

    fn day_name(&self) -> &'static str {
        usize::try_from(self.weekday).ok().and_then(|day| DAYS.get(day)).unwrap_or(&"")
    }
}

/// Writes a moment, given in seconds since 1970, in UTC, in the C locale. What is no directive stays as it is.
pub(super) fn strftime(seconds: i64, format: &str) -> String {
    let mut out = String::new();
    write_as(&mut out, &Moment::of(seconds), format);
    out
}

fn write_as(out: &mut String, moment: &Moment, format: &str) {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut letters = rest.chars().skip(1);
        let (padding, letter) = match (letters.next(), letters.next()) {
            (Some(padding @ ('-' | '_' | '0')), Some(letter)) => (Some(padding), letter),
            (Some(letter), _) => (None, letter),
            (None, _) => break,
        };
        let read = 1 + padding.map_or(0, char::len_utf8) + letter.len_utf8();
        if !write_number(out, moment, padding, letter) && !write_words(out, moment, letter) {
            out.push_str(&rest[..read]);
        }
        rest = &rest[read..];
    }
    out.push_str(rest);
}

/// Writes the number that a letter stands for; false where it stands for none.
fn write_number(out: &mut String, moment: &Moment, padding: Option<char>, letter: char) -> bool {
    let Moment { year, month, day, day_of_year, weekday, second_of_day } = *moment;
    let (hour, since_monday) = (second_of_day / 3_600, (weekday + 6) % 7);
    let half_day_hour = if hour % 12 == 0 { 12 } else { hour % 12 };
    let (number, width, filling) = match letter {
        'Y' => (year, 4, '0'),
        'C' => (year.div_euclid(100), 2, '0'),
        'y' => (year.rem_euclid(100), 2, '0'),
        'm' => (month, 2, '0'),
        'd' => (day, 2, '0'),
        'e' => (day, 2, ' '),
        'j' => (day_of_year, 3, '0'),
        'u' => (since_monday + 1, 1, '0'),
        'w' => (weekday, 1, '0'),
        'U' => ((day_of_year + 6 - weekday) / 7, 2, '0'),
        'W' => ((day_of_year + 6 - since_monday) / 7, 2, '0'),
        'H' => (hour, 2, '0'),
        'k' => (hour, 2, ' '),
        'I' => (half_day_hour, 2, '0'),
        'l' => (half_day_hour, 2, ' '),
        'M' => (second_of_day / 60 % 60, 2, '0'),
        'S' => (second_of_day % 60, 2, '0'),
        _ => return false,
    };
    let digits = number.to_string();
    let filling = match padding {
        Some('-') => None,
        Some('_') => Some(' '),
        Some(_) => Some('0'),
        None => Some(filling),
    };
    if let Some(filling) = filling {
        out.extend(std::iter::repeat_n(filling, usize::saturating_sub(width, digits.len())));
    }
    out.push_str(&digits);
    true
}

/// Writes the words that a letter stands for, or what it is short for; false where it stands for nothing.
fn write_words(out: &mut String, moment: &Moment, letter: char) -> bool {
    let half = if moment.second_of_day < 43_200 { "AM" } else { "PM" };
    match letter {
        'B' => out.push_str(moment.month_name()),
        'b' | 'h' => out.extend(moment.month_name().chars().take(3)),
        'A' => out.push_str(moment.day_name()),
        'a' => out.extend(moment.day_name().chars().take(3)),
        'p' => out.push_str(half),
        'P' => out.push_str(&half.to_lowercase()),
        'F' => write_as(out, moment, "%Y-%m-%d"),
        'D' | 'x' => write_as(out, moment, "%m/%d/%y"),
        'T' | 'X' => write_as(out, moment, "%H:%M:%S"),
        'R' => write_as(out, moment, "%H:%M"),
        'r' => write_as(out, moment, "%I:%M:%S %p"),
        'c' => write_as(out, moment, "%a %b %e %H:%M:%S %Y"),
        'n' => out.push('\n'),
        't' => out.push('\t'),
        '%' => out.push('%'),
        // Transformers' moment has no time zone.
        'Z' | 'z' => {}
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        dates: Vec<(i64, String, String)>,
    }

    #[test]
    fn dates_are_those_of_python() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat/chat_jinja.json"));
        let golden: Golden = serde_json::from_str(text).unwrap();
        for (seconds, format, written) in &golden.dates {
            assert_eq!(strftime(*seconds, format), *written, "{seconds}, {format:?}");
        }
    }
}

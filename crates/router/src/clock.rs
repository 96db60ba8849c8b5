//! The time of day as text, rendered once a second and not once a request.
//!
//! ```text
//! IMF-fixdate = day-name "," SP date1 SP time-of-day SP GMT                      RFC 9110 5.6.7
//! ```

use std::io::Write;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The last second that four digits of a year can tell: all renderings have fixed widths.
const LAST_SECOND: i64 = 253_402_300_799;

/// The current second in every form that is sent or logged. Whoever owns it calls
/// [`update`](Clock::update) before reading, as often as there is something to do.
#[derive(Clone, Debug)]
pub struct Clock {
    second: i64,
    date: [u8; 29],
    error_stamp: [u8; 27],
    access_stamp: [u8; 28],
    rfc3339: [u8; 25],
}

impl Clock {
    /// A clock that shows `now`. Reads the time zone from the environment.
    #[must_use]
    pub fn new(now: SystemTime) -> Clock {
        // SAFETY: tzset reads the environment, which no thread of the router ever writes.
        unsafe { tzset() };
        Clock::at(seconds(now))
    }

    fn at(second: i64) -> Clock {
        Clock::render(second, &broken_down(second, Zone::Utc), &broken_down(second, Zone::Local))
    }

    /// Shows `now`. Costs a comparison unless the second has changed.
    #[inline]
    pub fn update(&mut self, now: SystemTime) {
        let second = seconds(now);
        if second != self.second {
            *self = Clock::at(second);
        }
    }

    /// The value of a Date field: `Mon, 23 Nov 2026 03:54:15 GMT`.
    #[must_use]
    pub fn date(&self) -> &[u8; 29] {
        &self.date
    }

    /// Local time as the error log has it: `[2026-11-23 03:54:15 +0000]`.
    #[must_use]
    pub fn error_stamp(&self) -> &[u8] {
        &self.error_stamp
    }

    /// Local time as the access log has it: `[23/Nov/2026:03:54:15 +0000]`.
    #[must_use]
    pub fn access_stamp(&self) -> &[u8] {
        &self.access_stamp
    }

    /// Local time by RFC 3339: `2026-11-23T03:54:15+00:00`.
    #[must_use]
    pub fn rfc3339(&self) -> &[u8] {
        &self.rfc3339
    }

    fn render(second: i64, utc: &libc::tm, local: &libc::tm) -> Clock {
        let (day, month) = (name(&DAYS, utc.tm_wday), name(&MONTHS, utc.tm_mon));
        let (year, hour, minute) = (utc.tm_year + 1900, utc.tm_hour, utc.tm_min);
        let date = text(format_args!(
            "{day}, {:02} {month} {year:04} {hour:02}:{minute:02}:{:02} GMT",
            utc.tm_mday, utc.tm_sec
        ));

        let (year, month, day) = (local.tm_year + 1900, local.tm_mon + 1, local.tm_mday);
        let (hour, minute, sec) = (local.tm_hour, local.tm_min, local.tm_sec);
        let sign = if local.tm_gmtoff < 0 { '-' } else { '+' };
        let offset = local.tm_gmtoff.unsigned_abs() / 60;
        let (off_hours, off_minutes) = (offset / 60, offset % 60);
        Clock {
            second,
            date,
            error_stamp: text(format_args!(
                "[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{sec:02} \
                 {sign}{off_hours:02}{off_minutes:02}]"
            )),
            access_stamp: text(format_args!(
                "[{day:02}/{}/{year:04}:{hour:02}:{minute:02}:{sec:02} \
                 {sign}{off_hours:02}{off_minutes:02}]",
                name(&MONTHS, local.tm_mon)
            )),
            rfc3339: text(format_args!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{sec:02}\
                 {sign}{off_hours:02}:{off_minutes:02}"
            )),
        }
    }
}

unsafe extern "C" {
    // The libc crate does not have it.
    fn tzset();
}

#[derive(Clone, Copy)]
enum Zone {
    Utc,
    Local,
}

fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(LAST_SECOND).min(LAST_SECOND)
}

fn broken_down(second: i64, zone: Zone) -> libc::tm {
    let time = second as libc::time_t;
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call, and the functions keep neither.
    unsafe {
        match zone {
            Zone::Utc => libc::gmtime_r(&raw const time, parts.as_mut_ptr()),
            Zone::Local => libc::localtime_r(&raw const time, parts.as_mut_ptr()),
        };
    }
    // SAFETY: a tm of zeros is a valid tm (its one pointer may be null), and that is what is left
    // if the call fails. It fails for years that do not fit an int, which `seconds` rules out.
    unsafe { parts.assume_init() }
}

fn name<'a>(names: &[&'a str], index: libc::c_int) -> &'a str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("???")
}

/// Renders into exactly `N` bytes; what is missing is blank, what is too long is cut.
fn text<const N: usize>(arguments: std::fmt::Arguments<'_>) -> [u8; N] {
    let mut text = [b' '; N];
    // The only error is that the text is full: then the rest is cut, as promised.
    let _ = text.as_mut_slice().write_fmt(arguments);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shown(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_date_is_an_imf_fixdate() {
        // The example of RFC 9110 5.6.7.
        assert_eq!(shown(Clock::at(784_111_777).date()), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(shown(Clock::at(0).date()), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(shown(Clock::at(1_709_210_096).date()), "Thu, 29 Feb 2024 12:34:56 GMT");
        assert_eq!(shown(Clock::at(LAST_SECOND).date()), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn local_stamps_show_the_offset() {
        let stamps = |offset| {
            let mut local = broken_down(1_795_406_055, Zone::Utc);
            local.tm_gmtoff = offset;
            let clock = Clock::render(0, &local, &local);
            [clock.error_stamp(), clock.access_stamp(), clock.rfc3339()].map(|s| shown(s).to_owned())
        };
        assert_eq!(
            stamps(0),
            ["[2026-11-23 03:54:15 +0000]", "[23/Nov/2026:03:54:15 +0000]", "2026-11-23T03:54:15+00:00"]
        );
        assert_eq!(
            stamps(19800),
            ["[2026-11-23 03:54:15 +0530]", "[23/Nov/2026:03:54:15 +0530]", "2026-11-23T03:54:15+05:30"]
        );
        assert_eq!(
            stamps(-12600),
            ["[2026-11-23 03:54:15 -0330]", "[23/Nov/2026:03:54:15 -0330]", "2026-11-23T03:54:15-03:30"]
        );
    }

    #[test]
    fn local_time_is_what_the_c_library_says() {
        let clock = Clock::new(UNIX_EPOCH + Duration::from_secs(1_795_406_055));
        let local = broken_down(1_795_406_055, Zone::Local);
        let expected = format!("{:02}:{:02}:15", local.tm_hour, local.tm_min);
        assert!(shown(clock.error_stamp()).contains(&expected));
    }

    #[test]
    fn an_update_shows_the_new_second_only() {
        let start = UNIX_EPOCH + Duration::from_millis(784_111_777_100);
        let mut clock = Clock::new(start);
        clock.update(start + Duration::from_millis(800));
        assert_eq!(shown(clock.date()), "Sun, 06 Nov 1994 08:49:37 GMT");
        clock.update(start + Duration::from_millis(900));
        assert_eq!(shown(clock.date()), "Sun, 06 Nov 1994 08:49:38 GMT");
        // Clocks are set back, too.
        clock.update(start);
        assert_eq!(shown(clock.date()), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_time_out_of_range_is_clamped() {
        let before = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(shown(Clock::new(before).date()), "Thu, 01 Jan 1970 00:00:00 GMT");
        let far = UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(shown(Clock::new(far).date()), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}

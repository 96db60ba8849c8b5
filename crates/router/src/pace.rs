//! How fast something moves that must not stand still: a body, or a reader.

use std::time::{Duration, Instant};

/// It may fall behind its minimum rate for so long.
const GRACE: Duration = Duration::from_secs(10);
/// ... and not move at all for so long, however far ahead it is.
const STALL: Duration = Duration::from_secs(60);

/// How fast something moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    since: Instant,
    /// Bytes that had moved by then.
    before: u64,
    /// Bytes that have moved, when last looked at.
    moved: u64,
    /// When they first were that many.
    moved_at: Instant,
}

impl Pace {
    /// Begin now, when so many bytes have moved.
    pub fn begin(now: Instant, moved: u64) -> Self {
        Self { since: now, before: moved, moved, moved_at: now }
    }

    /// So long it was not its own fault that nothing moved.
    pub fn excuse(&mut self, time: Duration) {
        self.since += time;
        self.moved_at += time;
    }

    /// When more must have moved than the `moved` bytes until now, at an average of at least `rate`
    /// bytes a second; `None` when there is no limit (a rate of 0).
    pub fn due(&mut self, now: Instant, moved: u64, rate: u64) -> Option<Instant> {
        if moved > self.moved {
            self.moved = moved;
            self.moved_at = now;
        }
        let earned = self.moved.saturating_sub(self.before).checked_div(rate)?;
        let average = self.since.checked_add(Duration::from_secs(earned).saturating_add(GRACE));
        let stall = self.moved_at + STALL;
        Some(average.map_or(stall, |average| average.min(stall)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn what_never_moves_is_due_after_the_grace() {
        let start = Instant::now();
        let mut pace = Pace::begin(start, 500);
        assert_eq!(pace.due(start, 500, 100), Some(after(start, 10)));
        assert_eq!(pace.due(after(start, 9), 500, 100), Some(after(start, 10)));
    }

    #[test]
    fn bytes_buy_time_at_the_minimum_rate() {
        let start = Instant::now();
        let mut pace = Pace::begin(start, 500);
        assert_eq!(pace.due(after(start, 5), 1500, 100), Some(after(start, 20)));
        assert_eq!(pace.due(after(start, 15), 2500, 100), Some(after(start, 30)));
    }

    #[test]
    fn no_head_start_buys_a_stall_of_more_than_a_minute() {
        let start = Instant::now();
        let mut pace = Pace::begin(start, 0);
        assert_eq!(pace.due(after(start, 1), 1 << 40, 1), Some(after(start, 61)));
        assert_eq!(pace.due(after(start, 50), 1 << 40, 1), Some(after(start, 61)));
        assert_eq!(pace.due(after(start, 60), (1 << 40) + 1, 1), Some(after(start, 120)));
    }

    #[test]
    fn what_is_excused_does_not_count() {
        let start = Instant::now();
        let mut pace = Pace::begin(start, 0);
        pace.excuse(Duration::from_secs(100));
        assert_eq!(pace.due(after(start, 100), 0, 100), Some(after(start, 110)));
        assert_eq!(pace.due(after(start, 100), 1 << 40, 100), Some(after(start, 160)));
        pace.excuse(Duration::from_secs(5));
        assert_eq!(pace.due(after(start, 106), 1 << 40, 100), Some(after(start, 165)));
    }

    #[test]
    fn a_count_that_goes_back_is_no_movement_and_no_fault() {
        let start = Instant::now();
        let mut pace = Pace::begin(start, 1000);
        assert_eq!(pace.due(after(start, 1), 10, 100), Some(after(start, 10)));
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let start = Instant::now();
        assert_eq!(Pace::begin(start, 0).due(after(start, 1_000_000), 0, 0), None);
    }
}

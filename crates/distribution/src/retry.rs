//! How often and how soon a request is repeated.
//!
//! Pure: the caller owns the clock.

use std::time::Duration;

/// The longest wait between two tries that we choose ourselves.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The longest `Retry-After` that is obeyed; beyond it the error is the answer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The limits of repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Tries in all, at least 1.
    pub(crate) attempts: u32,
    /// The wait after the first failure; doubled after each further one.
    pub(crate) first_delay: Duration,
}

impl Policy {
    /// Returns how long to wait after the `failed`-th failure in a row (from 1), or `None` to give up.
    ///
    /// `jitter` in 0..=255 spreads our own delays by up to a quarter, so that many clients do not come back at once.
    pub(crate) fn delay(self, failed: u32, retry_after: Option<Duration>, jitter: u8) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        if let Some(asked) = retry_after {
            return (asked <= MAX_RETRY_AFTER).then_some(asked);
        }
        let doubled =
            self.first_delay.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1))).min(MAX_DELAY);
        Some(doubled + doubled / 4 * u32::from(jitter) / 255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_obeys_and_gives_up() {
        let policy = Policy { attempts: 5, first_delay: Duration::from_millis(200) };
        let secs = Duration::from_secs;
        for (failed, retry_after, jitter, expected) in [
            (1, None, 0, Some(Duration::from_millis(200))),
            (1, None, 255, Some(Duration::from_millis(250))),
            (4, None, 0, Some(Duration::from_millis(1600))),
            (5, None, 0, None),
            (1, Some(secs(7)), 200, Some(secs(7))),
            (1, Some(secs(61)), 0, None),
            (5, Some(secs(1)), 0, None),
        ] {
            assert_eq!(policy.delay(failed, retry_after, jitter), expected, "{failed} {retry_after:?}");
        }
        let many = Policy { attempts: 100, first_delay: secs(1) };
        assert_eq!(many.delay(99, None, 0), Some(MAX_DELAY));
    }
}

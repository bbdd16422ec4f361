//! Growing pauses between retries, with jitter: [`Backoff`].

use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double from 0.1 s to 5 s. Each pause is shortened at random by up to half ("equal jitter"), so that callers that
/// failed together do not retry together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts one more failure and returns the pause after it.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let full = FIRST.saturating_mul(2u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Returns to the first pause, after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_the_first_to_the_longest_within_the_jitter_and_starts_again() {
        let mut backoff = Backoff::default();
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let expected = Duration::from_millis(expected);
            let delay = backoff.next_delay();
            assert!((expected / 2..=expected).contains(&delay), "{delay:?} for {expected:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}

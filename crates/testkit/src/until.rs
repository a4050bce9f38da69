//! Waiting for what comes to hold, on a machine that may be slow.

use std::time::{Duration, Instant};

/// Only what never comes takes so long: no test says by it that something is fast.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until it `holds`; the test ends with what is `told` where it never does.
#[track_caller]
pub fn until(mut holds: impl FnMut() -> bool, told: impl Fn() -> String) {
    found(|| holds().then_some(()), told);
}

/// Looks until there is something; the test ends with what is `told` where there never is.
#[track_caller]
pub fn found<T>(mut look: impl FnMut() -> Option<T>, told: impl Fn() -> String) -> T {
    let begun = Instant::now();
    loop {
        if let Some(it) = look() {
            return it;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", told());
        std::thread::sleep(PAUSE);
    }
}

/// As [`until`], for what is asked without blocking.
pub async fn comes_to_hold(mut holds: impl AsyncFnMut() -> bool, told: impl Fn() -> String) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{}", told());
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_until_it_is_there() {
        let mut looks = 0;
        let third = || {
            looks += 1;
            (looks == 3).then_some("there")
        };
        assert_eq!(found(third, || "never".to_owned()), "there");
        assert_eq!(looks, 3);
    }
}

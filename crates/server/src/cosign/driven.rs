//! Asking from a place where nothing is awaited: before the server runs.

use std::io;

/// What comes of `asking`. Blocks, and drives it on a thread of its own: whoever calls may be on one that drives others.
///
/// # Errors
/// If there is no such thread, or it has ended by itself.
pub(super) fn driven<T: Send, F: Future<Output = T>>(
    asking: impl FnOnce() -> F + Send,
) -> io::Result<T> {
    let driving = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok::<T, io::Error>(runtime.block_on(asking()))
    };
    std::thread::scope(|scope| scope.spawn(driving).join())
        .unwrap_or_else(|_| Err(io::Error::other("asking has ended by itself")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_asks_from_a_thread_that_drives_others() {
        let asked = driven(|| async {
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(asked.unwrap(), 7);
    }
}

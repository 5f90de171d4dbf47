//! What may wait for the disk is done where it doesn't hold up others.

use crate::time::Millis;

/// Does it on a thread of its own, with the time at which it begins. Panics are the caller's.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce(Millis) -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(move || work(Millis::now())).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

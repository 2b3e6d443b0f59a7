//! What a runtime brings: sleeping. The rest of it, sockets and tasks, its shell uses by itself.

use std::future::Future;
use std::time::{Duration, Instant};

use futures_lite::future::or;

/// A runtime's timer.
pub trait Runtime: Send + Sync + 'static {
    /// Ready when the time has come.
    fn sleep_until(at: Instant) -> impl Future<Output = ()> + Send;
}

/// What `future` gives, or `None` if it takes until `at`.
pub async fn until<R: Runtime, T>(at: Instant, future: impl Future<Output = T>) -> Option<T> {
    or(async { Some(future.await) }, async {
        R::sleep_until(at).await;
        None
    })
    .await
}

/// What `future` gives, or `None` if it takes longer than `most`.
pub async fn within<R: Runtime, T>(most: Duration, future: impl Future<Output = T>) -> Option<T> {
    until::<R, T>(Instant::now() + most, future).await
}

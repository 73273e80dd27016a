//! How the C library's allocator gives memory back.

use std::time::Duration;

use crate::metrics::Metrics;

/// Blocks of so many bytes are mapped by themselves and go back to the system when they are freed. Left to itself the allocator raises
/// this with the first large block that is freed, up to 32 MiB, and transcripts of 10 MiB then stay in heaps that never shrink.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 256 * 1024;
/// Heaps at most. Each thread that reads or stores a transcript would have one of its own, which keeps the most it ever held.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// A crowd of connections that left is at least so many, and it is looked for so often.
const CROWD: u64 = 16;
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Gives back to the system what connections took, after a crowd of them has left: their small blocks lie in heaps that shrink only from the
/// end. Never ends.
pub(super) async fn give_back(metrics: &Metrics) {
    let mut before = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = metrics.connections_closed.get();
        if now - before >= CROWD {
            before = now;
            trim();
        }
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim(3) may be called by any thread at any time; it gives back pages that hold nothing.
    let gave = unsafe { libc::malloc_trim(0) };
    tracing::debug!(gave = gave == 1, "memory of connections that left is given back");
}

#[cfg(not(target_env = "gnu"))]
const fn trim() {}

/// Keeps what was used once from being held for ever. To be called before there is a second thread.
#[cfg(target_env = "gnu")]
pub(super) fn bound() {
    // SAFETY: mallopt(3) only sets parameters of the allocator, and no other thread is there to allocate meanwhile. A refused one changes
    // nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Other C libraries have no such habits.
#[cfg(not(target_env = "gnu"))]
pub(super) const fn bound() {}

//! How the C library's allocator gives memory back.

/// Blocks of so many bytes are mapped by themselves and go back to the system when they are freed. Left to itself the allocator raises
/// this with the first large block that is freed, up to 32 MiB, and transcripts of 10 MiB then stay in heaps that never shrink.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 256 * 1024;
/// Heaps at most. Each thread that reads or stores a transcript would have one of its own, which keeps the most it ever held.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

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

//! How the C library's allocator gives memory back.

/// Buffers of at least this size come from the system and go back to it. glibc begins so too, but raises the limit to the
/// size of whatever was freed last, up to 32 MB; from then on bodies that pass from thread to thread leave gaps in the
/// heaps of all (docs/performance.md, "What bounds memory").
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 128 << 10;

/// Keeps glibc's allocator from hoarding. Called once, before there are threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn tame() {
    // What an operator sets in the environment stands.
    if std::env::var_os("MALLOC_MMAP_THRESHOLD_").is_some() {
        return;
    }
    // SAFETY: mallopt takes two numbers and touches nothing but the allocator's own settings. Should it refuse, all works
    // as before.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Other allocators do not need it.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn tame() {}

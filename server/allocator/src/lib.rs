//! The member's allocator: mimalloc, told to give freed memory back.
//!
//! A checkpoint is written by a thread of its own, which takes and frees up to some 150 MB. What an
//! ended thread freed mimalloc keeps by default until another thread asks for it, which on an idle
//! member is never. The option that changes this has no build-time default, and a member's memory
//! must not depend on an environment variable, so it is set here. What a living thread has freed goes
//! back when that thread frees more beside it, which on an idle member is never either, so the member
//! asks for it now and then. These two calls are all in Quorate that needs `unsafe`.

pub use mimalloc::MiMalloc;

/// `mi_option_abandoned_page_purge` of mimalloc 2; the crate names only the older options.
const ABANDONED_PAGE_PURGE: libmimalloc_sys::mi_option_t = 12;

/// From now on the memory that a thread has freed goes back to the system when the thread ends.
///
/// To be called first in `main`, before there is a second thread.
pub fn give_back_when_threads_end() {
    // SAFETY: it writes one number of mimalloc's table of options, whose bounds it checks itself. It is
    // not synchronised, so the caller is alone.
    unsafe { libmimalloc_sys::mi_option_set_enabled(ABANDONED_PAGE_PURGE, true) }
}

/// What this thread has freed, and ended threads have left, goes back to the system now. It takes about a
/// millisecond with a million nodes, and more when there is much to give.
pub fn give_back() {
    // SAFETY: it may be called at any time, by any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

//! A panic ends the process, since nobody can trust what it has left half done. The one exception is
//! sled, which panics where it meets some kinds of damage: there it becomes an error like any other, and
//! the checkpoint is rebuilt.
//!
//! So release builds unwind, and [`abort_on_panic`] ends the process for every panic that is not caught
//! here. sled's own threads are not: what they leave is not known.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(panic = "abort")]
compile_error!("a damaged checkpoint can only be rebuilt where panics unwind");

thread_local! {
    /// Whether a panic of this thread is caught here.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Has every panic from now on end the process, once it has said why, but for those that
/// [`catch`] makes errors of. For `main`.
pub fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        if !IS_CAUGHT.get() {
            std::process::abort();
        }
    }));
}

/// Does the work; a panic in it is an error that says what the panic said.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(before);
    done.map_err(|panic| panic_text(panic.as_ref()).to_owned())
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}

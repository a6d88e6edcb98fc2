//! One seed for all randomness of a process.
//!
//! A program that links this crate has its own `getrandom`: the C library's is never reached. Until
//! [`seed`] is called it asks the kernel, as before; from then on every random byte in the process
//! comes from the seed. So hash maps, tokio's choices among branches and waiters, and every random
//! generator that seeds itself are decided by it, in our code and in every library, without a
//! feature or a build of its own. That is all that this crate does, and it is only ever linked by
//! jepsen-tests: a member must be unpredictable.
//!
//! What was drawn before the seed stays drawn: a simulation starts a new thread after [`seed`],
//! because hash maps and generators keep their keys by thread. [`is_in_force`] proves that it works.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;

/// The generator's state; `None` is the kernel's.
static STATE: Mutex<Option<u64>> = Mutex::new(None);

/// From now on every random byte of this process comes from `seed`.
pub fn seed(seed: u64) {
    *lock() = Some(seed);
}

/// Whether a new thread's hash maps follow the seed: equal seeds give equal keys, others others.
/// Leaves the process seeded.
pub fn is_in_force() -> bool {
    let keys = |number| {
        seed(number);
        let drawn = std::thread::spawn(|| RandomState::new().hash_one(1)).join();
        drawn.ok()
    };
    let (first, second, again) = (keys(1), keys(2), keys(1));
    first.is_some() && first == again && first != second
}

fn lock() -> std::sync::MutexGuard<'static, Option<u64>> {
    STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// SplitMix64: every state gives a number, and none repeats before all have been given.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn fill(bytes: &mut [u8]) -> isize {
    let mut state = lock();
    if let Some(state) = state.as_mut() {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&next(state).to_le_bytes()[..chunk.len()]);
        }
        return bytes.len() as isize;
    }
    drop(state);
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return -1,
        }
    }
    filled as isize
}

/// Stands in for the C library's function of this name.
///
/// # Safety
/// As there: `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if buffer.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: the caller's duty, as for the function that this one stands in for.
    fill(unsafe { std::slice::from_raw_parts_mut(buffer, length) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seed_decides_hash_maps_of_new_threads() {
        assert!(super::is_in_force());
    }
}

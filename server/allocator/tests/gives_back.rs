//! What an ended thread has freed does not stay in the process.

mod memory;

use memory::{MIB, TAKEN, free_nearly_all, many_small_blocks, resident};

#[test]
fn what_an_ended_thread_freed_goes_back_although_some_of_it_lives_on() {
    quorate_allocator::give_back_when_threads_end();
    let before = resident();
    let thread = std::thread::spawn(|| {
        let mut blocks = many_small_blocks();
        let peak = resident();
        free_nearly_all(&mut blocks);
        (blocks, peak)
    });
    let (_survivors, peak) = thread.join().expect("it ends");
    assert!(peak > before + TAKEN, "{peak} after {before}");
    let after = resident();
    assert!(after < before + TAKEN / 2, "{} MiB of {} stayed", (after - before) / MIB, TAKEN / MIB);
}

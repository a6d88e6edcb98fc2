//! What a living thread has freed does not stay in the process once it is asked for. (A test of its own: it
//! looks at the process' memory.)

mod memory;

use memory::{MIB, TAKEN, free_nearly_all, many_small_blocks, resident};

#[test]
fn what_a_living_thread_freed_goes_back_when_asked_although_some_of_it_lives_on() {
    let before = resident();
    let mut blocks = many_small_blocks();
    assert!(resident() > before + TAKEN);
    free_nearly_all(&mut blocks);
    quorate_allocator::give_back();
    let after = resident();
    assert!(after < before + TAKEN / 4, "{} MiB of {} stayed", (after - before) / MIB, TAKEN / MIB);
}

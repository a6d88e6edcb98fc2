//! What a living thread has freed does not stay in the process once it is asked for.

#[global_allocator]
static ALLOCATOR: quorate_allocator::MiMalloc = quorate_allocator::MiMalloc;

const MIB: usize = 1 << 20;
/// What the thread takes.
const TAKEN: usize = 128 * MIB;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number is the resident pages") * 4096
}

#[test]
fn what_a_living_thread_freed_goes_back_when_asked_although_some_of_it_lives_on() {
    let before = resident();
    let mut blocks: Vec<Box<[u8]>> = (0..TAKEN / 256).map(|number| vec![number as u8; 256].into()).collect();
    assert!(resident() > before + TAKEN);
    // One of each megabyte survives, so that hardly any of mimalloc's segments becomes empty.
    let mut number = 0;
    blocks.retain(|_| {
        number += 1;
        number % 4096 == 0
    });
    quorate_allocator::give_back();
    let after = resident();
    assert!(after < before + TAKEN / 4, "{} MiB of {} stayed", (after - before) / MIB, TAKEN / MIB);
    assert_eq!(blocks.len(), TAKEN / 256 / 4096);
}

//! What an ended thread has freed does not stay in the process.

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
fn what_an_ended_thread_freed_goes_back_although_some_of_it_lives_on() {
    quorate_allocator::give_back_when_threads_end();
    let before = resident();
    let thread = std::thread::spawn(|| {
        let mut blocks: Vec<Box<[u8]>> =
            (0..TAKEN / 256).map(|number| vec![number as u8; 256].into()).collect();
        let peak = resident();
        // One of each megabyte survives, so that hardly any of mimalloc's segments becomes empty.
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 4096 == 0
        });
        (blocks, peak)
    });
    let (survivors, peak) = thread.join().expect("it ends");
    assert!(peak > before + TAKEN, "{peak} after {before}");
    let after = resident();
    assert!(after < before + TAKEN / 2, "{} MiB of {} stayed", (after - before) / MIB, TAKEN / MIB);
    assert_eq!(survivors.len(), TAKEN / 256 / 4096);
}

//! Memory that tests take, nearly all of which they free.

#[global_allocator]
static ALLOCATOR: quorate_allocator::MiMalloc = quorate_allocator::MiMalloc;

pub const MIB: usize = 1 << 20;
/// What a test takes.
pub const TAKEN: usize = 128 * MIB;

pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number is the resident pages") * 4096
}

pub fn many_small_blocks() -> Vec<Box<[u8]>> {
    (0..TAKEN / 256).map(|number| vec![number as u8; 256].into()).collect()
}

/// One of each megabyte survives, so that hardly any of mimalloc's segments becomes empty.
pub fn free_nearly_all(blocks: &mut Vec<Box<[u8]>>) {
    let mut number = 0;
    blocks.retain(|_| {
        number += 1;
        number % 4096 == 0
    });
    assert_eq!(blocks.len(), TAKEN / 256 / 4096);
}

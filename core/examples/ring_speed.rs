//! How fast the ring is: `cargo run --release -p quorate-core --example ring_speed`.
//!
//! 1,000 members with 160 points each: look-ups of distinct keys, with and without hashing the key,
//! building the ring, and rebuilding it after one change. Prints medians of many rounds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use quorate_core::ring::{Maglev, Member, Placement, Rendezvous, Ring, RingSize, Sizing, hash_key};

const MEMBERS: usize = 1000;
const KEYS: usize = 1 << 20;

fn members(count: usize) -> Vec<Member> {
    (0..count)
        .map(|i| Member::new(format!("i{i:05}"), format!("10.0.{}.{}:8080", i / 250, i % 250), 1))
        .collect()
}

fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

fn lookups(name: &str, placement: &dyn Placement, keys: &[String], hashes: &[u64]) {
    let (mut hashed, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let start = Instant::now();
        for hash in hashes {
            black_box(placement.owner(*hash));
        }
        plain.push(start.elapsed());
        let start = Instant::now();
        for key in keys {
            black_box(placement.owner(hash_key(key)));
        }
        hashed.push(start.elapsed());
    }
    let each = |rounds, count: usize| median(rounds).as_secs_f64() * 1e9 / count as f64;
    println!(
        "{name}: look-up {:.1} ns a hash, {:.1} ns a key",
        each(plain, hashes.len()),
        each(hashed, keys.len())
    );
}

fn main() {
    let keys: Vec<String> = (0..KEYS).map(|index| format!("customer-{index}")).collect();
    let hashes: Vec<u64> = keys.iter().map(hash_key).collect();
    let points = 160 * MEMBERS as u64;
    let sizing = Sizing::Fixed(RingSize { min: points, max: 8 << 20 });
    let ring = Ring::new(members(MEMBERS), sizing);
    println!("{MEMBERS} members, {} points", ring.len());
    lookups("ring", &ring, &keys, &hashes);
    lookups("maglev", &Maglev::new(members(MEMBERS)), &keys, &hashes);
    lookups("rendezvous", &Rendezvous::new(members(MEMBERS)), &keys[..4096], &hashes[..4096]);

    let build = (0..21).map(|_| {
        let start = Instant::now();
        black_box(Ring::new(members(MEMBERS), sizing));
        start.elapsed()
    });
    println!("build: {:?}", median(build.collect()));
    // With stable sizes one change leaves everybody else's points alone.
    let ring = Ring::new(members(MEMBERS), Sizing::default());
    let mut fewer = members(MEMBERS);
    fewer.remove(500);
    let smaller = ring.update(fewer.clone());
    let update = |from: &Ring, to: &[Member]| {
        let rounds = (0..101).map(|_| {
            let to = to.to_vec();
            let start = Instant::now();
            black_box(from.update(to));
            start.elapsed()
        });
        median(rounds.collect())
    };
    println!("stable sizes, {} points:", ring.len());
    println!(
        "  one leaves: {:?}, one joins: {:?}",
        update(&ring, &fewer),
        update(&smaller, &members(MEMBERS))
    );
    let start = Instant::now();
    black_box(Ring::new(members(MEMBERS), Sizing::default()));
    println!("  built anew: {:?}", start.elapsed());
}

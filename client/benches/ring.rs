//! How fast a followed service's ring is: `cargo bench -p quorate --bench ring`.
//!
//! 1,000 instances with 160 points each. A look-up takes what a follower does for one: load the newest
//! version, as readers do it without a lock, hash the key, find its owner.

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwap;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate::ring::{Member, Placement, Ring, Sizing, hash_key};
use quorate_core::ring::RingSize;

const INSTANCES: usize = 1000;
const POINTS: u64 = 160 * INSTANCES as u64;
/// Enough of them that the ring does not stay in the nearest cache for a few.
const KEYS: usize = 1 << 16;

fn instances(count: usize) -> Vec<Member> {
    let address = |number: usize| format!("10.0.{}.{}:8080", number / 250, number % 250);
    (0..count).map(|number| Member::new(format!("i{number:05}"), address(number), 1)).collect()
}

fn sizing() -> Sizing {
    Sizing::Fixed(RingSize { min: POINTS, max: 8 << 20 })
}

fn look_up(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("customer-{number}")).collect();
    let newest = ArcSwap::from_pointee(Ring::new(instances(INSTANCES), sizing()));
    let mut group = criterion.benchmark_group("look-up");
    group.throughput(Throughput::Elements(1));
    let mut next = keys.iter().cycle();
    group.bench_function("a key among 1,000 × 160", |bencher| {
        bencher.iter(|| {
            let key = next.next().expect("it has no end");
            newest.load().owner(hash_key(black_box(key)))
        });
    });
    group.finish();
}

fn rebuild(criterion: &mut Criterion) {
    let all = instances(INSTANCES);
    let ring = Arc::new(Ring::new(all.clone(), sizing()));
    let without_one = || all.iter().filter(|member| &*member.id != "i00500").cloned();
    let mut group = criterion.benchmark_group("rebuild");
    group.sample_size(20);
    group.bench_function("one of 1,000 × 160 goes", |bencher| bencher.iter(|| ring.update(without_one())));
    group.bench_function("all of 1,000 × 160", |bencher| bencher.iter(|| Ring::new(all.clone(), sizing())));
    group.finish();
}

criterion_group!(benches, look_up, rebuild);
criterion_main!(benches);

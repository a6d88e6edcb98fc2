//! The ring and its alternatives: golden vectors of gRFC A42, and the properties promised.
//!
//! The golden vectors come from a second implementation of the construction (Python, with the
//! reference XXH64), the one whose predictions real gRPC and Envoy clients followed.

use std::collections::HashSet;

use proptest::prelude::*;
use quorate_core::ring::bounded::{self, Slack};
use quorate_core::ring::movement::{movement, spread};
use quorate_core::ring::{Algorithm, Member, Placement, Ring, RingSize, Sizing, hash_key, picture};
use xxhash_rust::xxh64::Xxh64;

fn members(weights: &[u32]) -> Vec<Member> {
    let name = |index: usize| (format!("i{index:04}"), format!("10.0.{}.{}:8080", index / 250, index % 250));
    weights.iter().enumerate().map(|(index, weight)| (name(index), weight)).map(member).collect()
}

fn member(((id, key), weight): ((String, String), &u32)) -> Member {
    Member::new(id, key, *weight)
}

fn hashes(count: usize) -> Vec<u64> {
    (0..count).map(|index| hash_key(format!("key-{index}"))).collect()
}

fn fixed(min: u64, max: u64) -> Sizing {
    Sizing::Fixed(RingSize { min, max })
}

fn golden(hosts: &[(&str, u32)], sizing: Sizing, points: usize, owners: &[usize], digest: u64) {
    let named = hosts.iter().enumerate();
    let ring =
        Ring::new(named.map(|(i, (key, weight))| Member::new(format!("{i:02}"), *key, *weight)), sizing);
    assert_eq!(ring.len(), points);
    let found: Vec<usize> = hashes(owners.len()).into_iter().filter_map(|hash| ring.owner(hash)).collect();
    assert_eq!(found, owners);
    let mut all = Xxh64::new(0);
    for (hash, owner) in ring.points() {
        all.update(&hash.to_le_bytes());
        all.update(hosts[owner].0.as_bytes());
    }
    assert_eq!(all.digest(), digest, "{hosts:?}");
}

#[test]
fn xxh64_is_the_reference() {
    assert_eq!(hash_key(""), 0xef46_db37_51d8_e999);
    assert_eq!(hash_key("a"), 0xd24e_c4f1_a98c_6e5b);
    assert_eq!(hash_key("abc"), 0x44bc_2cf5_ad77_0999);
    assert_eq!(hash_key("key-0"), 0x12da_f067_15ff_a373);
}

#[test]
fn rings_are_those_of_grpc_and_envoy() {
    let equal = [("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1), ("10.0.0.3:8080", 1)];
    let owners = [0, 1, 0, 0, 2, 2, 2, 2, 1, 0, 1, 1, 2, 2, 1, 0];
    golden(&equal, fixed(1024, 8 << 20), 1026, &owners, 0x746e_7a78_dbb8_7d20);

    let weighted = [("10.0.0.1:8080", 1), ("10.0.0.2:8080", 2), ("10.0.0.3:8080", 3), ("[::1]:80", 7)];
    let owners = [3, 1, 2, 3, 3, 3, 2, 3, 3, 0, 1, 3, 3, 3, 2, 3];
    golden(&weighted, fixed(1000, 4096), 1001, &owners, 0xecdf_bb22_77cc_3fb9);

    let keys: Vec<String> = (0..20).map(|index| format!("10.1.0.{index}:80")).collect();
    let capped: Vec<(&str, u32)> =
        keys.iter().enumerate().map(|(index, key)| (key.as_str(), 1 + index as u32 % 3)).collect();
    let owners = [13, 6, 11, 8, 8, 5, 16, 17, 14, 17, 19, 1, 13, 11, 2, 5];
    golden(&capped, fixed(4096, 4096), 4097, &owners, 0x052d_e248_16bc_a00c);
}

#[test]
fn nobody_owns_anything_on_an_empty_ring() {
    for algorithm in Algorithm::ALL {
        let empty = algorithm.build([], Sizing::default());
        assert_eq!(empty.owner(7), None, "{algorithm:?}");
        assert!(empty.replicas(7, 3).is_empty());
        assert_eq!(bounded::pick(&*empty, 7, Slack::default(), 0, 0, |_| 0), None);
        let one = algorithm.build(members(&[5]), Sizing::default());
        assert_eq!(one.replicas(7, 3), [0], "{algorithm:?}");
    }
}

#[test]
fn the_fullest_of_equals_has_at_most_a_quarter_more_than_its_share() {
    let hashes = hashes(200_000);
    for count in [2, 3, 5, 10, 20, 50] {
        let ring = Ring::new(members(&vec![1; count]), Sizing::default());
        assert!((0..count).all(|member| ring.points_of(member) >= 160));
        let peak = spread(&ring, &hashes).peak_to_mean;
        assert!(peak <= 1.25, "{count} members: {peak}");
        let shares = ring.shares();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(shares.iter().all(|share| share * count as f64 <= 1.25), "{count}: {shares:?}");
    }
}

#[test]
fn a_member_of_weight_three_among_ten_gets_its_share() {
    let mut weights = vec![1; 10];
    weights[4] = 3;
    let hashes = hashes(200_000);
    for algorithm in [Algorithm::Ring, Algorithm::Maglev, Algorithm::Rendezvous] {
        let placement = algorithm.build(members(&weights), Sizing::default());
        let share = spread(&*placement, &hashes).keys[4] as f64 / hashes.len() as f64;
        assert!((share - 0.25).abs() <= 0.02, "{algorithm:?}: {share}");
    }
}

#[test]
fn one_change_moves_only_the_newcomers_or_the_victims_keys() {
    let hashes = hashes(20_000);
    for count in [2, 3, 7, 10, 49, 100] {
        let all = members(&vec![1; count + 1]);
        for place in [0, count / 2, count] {
            let mut fewer = all.clone();
            fewer.remove(place);
            for algorithm in [Algorithm::Ring, Algorithm::Rendezvous] {
                let small = algorithm.build(fewer.clone(), Sizing::default());
                let large = algorithm.build(all.clone(), Sizing::default());
                let joined = movement(&*small, &*large, &hashes);
                let left = movement(&*large, &*small, &hashes);
                assert_eq!((joined.moved_between_stayers, left.moved_between_stayers), (0, 0));
                let most = 1.5 * hashes.len() as f64 / (count + 1) as f64;
                assert!(joined.moved as f64 <= most, "{algorithm:?} {count}: {} > {most}", joined.moved);
                assert_eq!(joined.moved, left.moved);
            }
        }
    }
}

/// The trap that [`Sizing::Stable`] avoids: a fixed minimum changes everybody's points.
#[test]
fn a_fixed_minimum_moves_keys_between_those_who_stay() {
    let hashes = hashes(20_000);
    let (four, three) = (members(&[1; 4]), members(&[1; 3]));
    let moved = |sizing| {
        let (before, after) = (Ring::new(four.clone(), sizing), Ring::new(three.clone(), sizing));
        movement(&before, &after, &hashes).moved_between_stayers
    };
    assert!(moved(fixed(1024, 8 << 20)) > 0);
    assert_eq!(moved(Sizing::default()), 0);
}

#[test]
fn maglev_moves_little_more_than_it_must() {
    let hashes = hashes(50_000);
    let (large, mut fewer) = (members(&[1; 20]), members(&[1; 20]));
    fewer.remove(11);
    let large = Algorithm::Maglev.build(large, Sizing::default());
    let small = Algorithm::Maglev.build(fewer, Sizing::default());
    let moved = movement(&*large, &*small, &hashes).moved as f64 / hashes.len() as f64;
    assert!((0.04..0.09).contains(&moved), "{moved}");
    assert!(spread(&*large, &hashes).peak_to_mean < 1.05);
}

#[test]
fn bounded_loads_never_pass_the_bound() {
    let hashes = hashes(5_000);
    for algorithm in Algorithm::ALL {
        for permille in [1000, 1100, 1250, 2000] {
            let placement = algorithm.build(members(&[1; 13]), Sizing::default());
            let mut held = [0u64; 13];
            let total_weight = bounded::total_weight(&*placement);
            for (placed, hash) in (0u64..).zip(&hashes) {
                let slack = Slack::permille(permille);
                let owner =
                    bounded::pick(&*placement, *hash, slack, total_weight, placed, |member| held[member])
                        .expect("there are members");
                held[owner] += 1;
                let bound = (u64::from(permille) * (placed + 1)).div_ceil(1000 * 13);
                assert!(held[owner] <= bound, "{algorithm:?}: {} > {bound}", held[owner]);
            }
        }
    }
}

#[test]
fn a_picture_is_small_escaped_svg() {
    let hostile = Member::new("<script>&\"", "10.0.0.9:80", 1);
    let ring = Ring::new(members(&[1; 60]).into_iter().chain([hostile]), Sizing::default());
    let picture = picture::svg(&ring, "orders <prod>");
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    assert!(!picture.contains("<script") && picture.contains("orders &lt;prod&gt;"));
    assert!(picture.len() < 1 << 20, "{}", picture.len());
    assert!(picture::svg(&Ring::new([], Sizing::default()), "none").contains("0 instances"));
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![Just(1), Just(1), 1..10u32, 1..1000u32];
    proptest::collection::vec(weight, 0..40)
}

fn sizing() -> impl Strategy<Value = Sizing> {
    prop_oneof![
        Just(Sizing::Stable { max: 1 << 16 }),
        (1..4000u64, 1..5000u64).prop_map(|(min, max)| fixed(min, max)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_registration_does_not_matter(weights in weights(), sizing in sizing(), seed: u64) {
        let mut shuffled = members(&weights);
        shuffled.sort_by_key(|member| hash_key(format!("{seed}{}", member.id)));
        for algorithm in Algorithm::ALL {
            let one = algorithm.build(members(&weights), sizing);
            let two = algorithm.build(shuffled.clone(), sizing);
            for hash in hashes(50) {
                prop_assert_eq!(one.replicas(hash, 4), two.replicas(hash, 4));
            }
        }
    }

    #[test]
    fn a_walk_begins_with_the_owner_and_names_everybody_once(weights in weights(), hash: u64) {
        for algorithm in Algorithm::ALL {
            let placement = algorithm.build(members(&weights), Sizing::Stable { max: 1 << 14 });
            let walk: Vec<usize> = placement.walk(hash).collect();
            prop_assert_eq!(walk.first().copied(), placement.owner(hash));
            prop_assert_eq!(walk.len(), walk.iter().collect::<HashSet<_>>().len());
            // A ring too small for its members gives some of them no point.
            prop_assert!(walk.len() == weights.len() || algorithm == Algorithm::Ring && weights.len() > 16);
        }
    }

    /// A ring that is updated again and again is the ring built at once; and the look-up's short
    /// cut finds what a plain search finds.
    #[test]
    fn an_updated_ring_is_the_ring_built_anew(steps in proptest::collection::vec(weights(), 1..6), sizing in sizing()) {
        let mut ring = Ring::new([], sizing);
        for (step, weights) in steps.iter().enumerate() {
            let mut now = members(weights);
            if step % 2 == 1 {
                for member in now.iter_mut().step_by(3) {
                    member.key = format!("10.9.{step}.1:{}", member.weight).into();
                }
                now = now.into_iter().step_by(2).collect();
            }
            ring = ring.update(now.clone());
            let anew = Ring::new(now, sizing);
            prop_assert!(ring == anew && ring.size() == anew.size());
            let points: Vec<(u64, usize)> = anew.points().collect();
            for hash in hashes(30).into_iter().chain([0, u64::MAX]) {
                let first = points.iter().find(|(place, _)| *place >= hash).or(points.first());
                prop_assert_eq!(ring.owner(hash), first.map(|(_, owner)| *owner));
            }
        }
    }
}

//! The planner: tenants that are alive together never overlap, and it never needs less than the peak nor more than no
//! reuse.

use proptest::prelude::*;
use voxseg::graph::{MemoryPlan, Part, Place, Request, Rules, peak_bytes, plan_memory};

const NONE: Rules<'_> = Rules {
    apart: &[],
    limit: u64::MAX,
    enough: 0,
};

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let bytes = prop_oneof![1u64..10_000, 1u64..100];
    let part = (bytes, 0usize..40, 0usize..10).prop_map(|(bytes, first, len)| Part {
        bytes,
        first,
        last: first + len,
    });
    let one = proptest::collection::vec(part, 1..4).prop_map(|parts| Request { parts });
    proptest::collection::vec(one, 0..60)
}

/// Requests, and pairs of them that may not lie in one slot.
fn with_pairs() -> impl Strategy<Value = (Vec<Request>, Vec<(usize, usize)>)> {
    let number = any::<prop::sample::Index>();
    let pairs = proptest::collection::vec((number, any::<prop::sample::Index>()), 0..40);
    (requests(), pairs).prop_map(|(list, pairs)| {
        let pair = |(a, b): &(prop::sample::Index, prop::sample::Index)| {
            (a.index(list.len()), b.index(list.len()))
        };
        let pairs = match list.is_empty() {
            true => Vec::new(),
            false => pairs.iter().map(pair).filter(|(a, b)| a != b).collect(),
        };
        (list, pairs)
    })
}

/// Where each part of a request begins and ends in the slot.
fn spans(request: &Request, place: Place) -> Vec<(u64, u64, Part)> {
    let mut end = place.offset;
    let span = |part: &Part| {
        let first = end;
        end += part.bytes;
        (first, end, *part)
    };
    request.parts.iter().map(span).collect()
}

fn check(requests: &[Request], rules: Rules<'_>, plan: &MemoryPlan) {
    assert!(plan.slots.iter().all(|&bytes| bytes <= rules.limit));
    let placed: Vec<(&Request, Place)> = requests.iter().zip(plan.places.clone()).collect();
    for (i, &(request, place)) in placed.iter().enumerate() {
        assert!(place.offset.is_multiple_of(256));
        assert!(plan.slots[place.slot] >= place.offset + request.bytes());
        let others = &placed[i + 1..];
        for &(other, there) in others.iter().filter(|(_, p)| p.slot == place.slot) {
            for (first, end, a) in spans(request, place) {
                for (other_first, other_end, b) in spans(other, there) {
                    let meet = a.first <= b.last && b.first <= a.last;
                    let overlap = first < other_end && other_first < end;
                    assert!(!meet || !overlap, "{a:?} and {b:?} overlap");
                }
            }
        }
    }
    for &(a, b) in rules.apart {
        assert_ne!(plan.places[a].slot, plan.places[b].slot, "{a} beside {b}");
    }
}

fn rounded(requests: &[Request]) -> u64 {
    let rooms = requests.iter().map(|r| r.bytes().next_multiple_of(256));
    rooms.sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_alive_together_never_overlaps((list, apart) in with_pairs()) {
        for rules in [NONE, Rules { apart: &apart, limit: 30_208, ..NONE }] {
            let shared = plan_memory(&list, rules, true);
            check(&list, rules, &shared);
            let alone = plan_memory(&list, rules, false);
            check(&list, rules, &alone);
            let sum = rounded(&list);
            prop_assert_eq!(alone.total_bytes(), sum);
            prop_assert!(shared.total_bytes() <= sum);
            prop_assert!(shared.total_bytes() >= peak_bytes(&list));
            prop_assert_eq!(&plan_memory(&list, rules, true), &shared);
            // What can be reached is reached where no more is asked for.
            let enough = shared.total_bytes();
            let bounded = plan_memory(&list, Rules { enough, ..rules }, true);
            check(&list, rules, &bounded);
            prop_assert!(bounded.total_bytes() <= enough);
        }
    }

    #[test]
    fn what_looking_further_finds_is_found_where_it_is_enough((list, apart) in with_pairs()) {
        for rules in [NONE, Rules { apart: &apart, ..NONE }] {
            let enough = plan_memory(&list, rules, true).total_bytes();
            let found = plan_memory(&list, Rules { enough, ..rules }, true);
            check(&list, rules, &found);
            prop_assert!(found.total_bytes() <= enough);
        }
    }
}

/// Large tensors that can be packed better than at first, and small ones that then take what is left.
#[test]
fn small_tensors_count_where_a_plan_is_enough() {
    let mut state = 7u64;
    let mut draw = |end: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % end
    };
    for _ in 0..60 {
        let request = |_| {
            let first = draw(30) as usize;
            let last = first + draw(10) as usize;
            let bytes = match draw(2) {
                0 => 256 * (20 + draw(400)),
                _ => 1 + draw(300),
            };
            Request::whole(bytes, first, last)
        };
        let list: Vec<Request> = (0..50).map(request).collect();
        let enough = plan_memory(&list, NONE, true).total_bytes();
        let found = plan_memory(&list, Rules { enough, ..NONE }, true);
        assert!(found.total_bytes() <= enough);
    }
}

fn chain(length: usize) -> Vec<Request> {
    (0..length).map(|i| Request::whole(256, i, i + 1)).collect()
}

#[test]
fn a_chain_of_equal_tensors_needs_room_for_two() {
    let list = chain(10);
    assert_eq!(plan_memory(&list, NONE, true).slots, [512]);
    let apart: Vec<(usize, usize)> = (1..10).map(|i| (i - 1, i)).collect();
    let rules = Rules {
        apart: &apart,
        ..NONE
    };
    assert_eq!(plan_memory(&list, rules, true).slots, [256, 256]);
    let rules = Rules { limit: 300, ..NONE };
    assert_eq!(plan_memory(&list, rules, true).slots, [256, 256]);
}

#[test]
fn several_tensors_lie_side_by_side_in_the_place_of_a_large_one() {
    let list = [
        Request::whole(1024, 0, 1),
        Request::whole(512, 1, 4),
        Request::whole(512, 2, 3),
        Request::whole(512, 2, 5),
    ];
    assert_eq!(plan_memory(&list, NONE, true).total_bytes(), 1536);
    assert_eq!(peak_bytes(&list), 1536);
}

#[test]
fn a_tensor_lies_in_that_part_of_another_which_is_not_alive() {
    let part = |first, last| Part {
        bytes: 512,
        first,
        last,
    };
    let joined = Request {
        parts: vec![part(3, 5), part(0, 5)],
    };
    let list = [joined, Request::whole(512, 1, 2), Request::whole(512, 4, 4)];
    let plan = plan_memory(&list, NONE, true);
    assert_eq!(plan.total_bytes(), 1536);
    assert_eq!(plan.places[1], plan.places[0]);
}

//! The planner: no two tenants of a slot ever meet, and it never needs less than the peak nor more than no reuse.

use proptest::prelude::*;
use voxseg::graph::{MemoryPlan, Request, peak_bytes, plan_memory};

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let one = (1u64..1000, 0usize..40, 0usize..10).prop_map(|(bytes, first, len)| Request {
        bytes,
        first,
        last: first + len,
    });
    proptest::collection::vec(one, 0..60)
}

fn check(requests: &[Request], plan: &MemoryPlan) {
    for (i, a) in requests.iter().enumerate() {
        assert!(plan.slots[plan.slot_of[i]] >= a.bytes);
        for (j, b) in requests.iter().enumerate().skip(i + 1) {
            let meet = a.first <= b.last && b.first <= a.last;
            assert!(
                !meet || plan.slot_of[i] != plan.slot_of[j],
                "{a:?} and {b:?} share slot {}",
                plan.slot_of[i]
            );
        }
    }
}

proptest! {
    #[test]
    fn tenants_of_a_slot_never_meet(list in requests()) {
        let shared = plan_memory(&list, true);
        check(&list, &shared);
        let apart = plan_memory(&list, false);
        check(&list, &apart);
        let sum: u64 = list.iter().map(|r| r.bytes).sum();
        prop_assert_eq!(apart.total_bytes(), sum);
        prop_assert!(shared.total_bytes() <= sum);
        prop_assert!(shared.total_bytes() >= peak_bytes(&list));
        prop_assert_eq!(plan_memory(&list, true), shared);
    }
}

#[test]
fn a_chain_of_equal_tensors_needs_two_slots() {
    let list: Vec<Request> = (0..10)
        .map(|i| Request {
            bytes: 64,
            first: i,
            last: i + 1,
        })
        .collect();
    assert_eq!(plan_memory(&list, true).slots, [64, 64]);
}

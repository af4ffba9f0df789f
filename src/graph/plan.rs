//! The memory planner: a pure function from lifetimes to slots.

/// A tensor that needs memory from node `first` to node `last`, both inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Size in bytes.
    pub bytes: u64,
    /// First node that touches it.
    pub first: usize,
    /// Last node that touches it.
    pub last: usize,
}

impl Request {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Which slot each request got, and how large the slots are. Each slot is a buffer of its own, since wgpu tracks and
/// validates whole buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The slot of each request.
    pub slot_of: Vec<usize>,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
}

impl MemoryPlan {
    /// Bytes of all slots.
    pub fn total_bytes(&self) -> u64 {
        self.slots.iter().sum()
    }
}

/// Tries of [`plan_memory`] to find an order that wastes less, and the share of the peak below which a request
/// is too small to matter there.
pub(super) const TRIES: usize = 2000;
const SMALL: u64 = 256;

/// Assigns requests to slots: one after the other, the largest first, each into the slot that it enlarges and wastes least
/// among those whose tenants it never meets, else into a new one ("greedy by size", Pisarchyk and Lee 2020). Then it
/// moves requests in that order, in a fixed sequence of tries, and keeps what needs fewer bytes. With `reuse` off
/// each request gets a slot of its own.
pub fn plan_memory(requests: &[Request], reuse: bool) -> MemoryPlan {
    plan_with(requests, reuse, TRIES)
}

/// [`plan_memory`] with another number of tries.
pub(super) fn plan_with(requests: &[Request], reuse: bool, tries: usize) -> MemoryPlan {
    if !reuse {
        return MemoryPlan {
            slot_of: (0..requests.len()).collect(),
            slots: requests.iter().map(|r| r.bytes).collect(),
        };
    }
    let least = peak_bytes(requests);
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes), i));
    let large = order
        .iter()
        .take_while(|&&i| requests[i].bytes >= least / SMALL)
        .count();
    let rest = order.split_off(large);
    let mut best = Packing::of(requests, &order);
    let mut random = 1u64;
    for _ in 0..tries {
        if best.total() <= least || large < 2 {
            break;
        }
        let mut tried = order.clone();
        let moved = tried.remove(draw(&mut random, large));
        tried.insert(draw(&mut random, large), moved);
        let packing = Packing::of(requests, &tried);
        if packing.total() <= best.total() {
            (best, order) = (packing, tried);
        }
    }
    for i in rest {
        best.add(requests, i);
    }
    best.plan(requests.len())
}

/// A number below `end`: Knuth's linear congruential generator, so that a plan is the same everywhere.
fn draw(state: &mut u64, end: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) % end as u64) as usize
}

/// Slots that are being filled.
struct Packing {
    slots: Vec<u64>,
    tenants: Vec<Vec<usize>>,
}

impl Packing {
    fn of(requests: &[Request], order: &[usize]) -> Self {
        let mut packing = Self {
            slots: Vec::new(),
            tenants: Vec::new(),
        };
        for &i in order {
            packing.add(requests, i);
        }
        packing
    }

    fn add(&mut self, requests: &[Request], i: usize) {
        let bytes = requests[i].bytes;
        let is_free = |slot: &usize| {
            self.tenants[*slot]
                .iter()
                .all(|&t| !requests[t].overlaps(&requests[i]))
        };
        let slot = (0..self.slots.len()).filter(is_free).min_by_key(|&s| {
            let size = self.slots[s];
            (bytes.saturating_sub(size), size.saturating_sub(bytes))
        });
        match slot {
            Some(slot) => {
                self.slots[slot] = self.slots[slot].max(bytes);
                self.tenants[slot].push(i);
            }
            None => {
                self.slots.push(bytes);
                self.tenants.push(vec![i]);
            }
        }
    }

    fn total(&self) -> u64 {
        self.slots.iter().sum()
    }

    fn plan(self, requests: usize) -> MemoryPlan {
        let mut slot_of = vec![0; requests];
        for (slot, tenants) in self.tenants.iter().enumerate() {
            for &tenant in tenants {
                slot_of[tenant] = slot;
            }
        }
        MemoryPlan {
            slot_of,
            slots: self.slots,
        }
    }
}

/// The most bytes alive at one node: no plan can need less.
pub fn peak_bytes(requests: &[Request]) -> u64 {
    let alive_at = |at: usize| {
        requests
            .iter()
            .filter(|r| r.first <= at && at <= r.last)
            .map(|r| r.bytes)
            .sum()
    };
    requests
        .iter()
        .map(|r| alive_at(r.first))
        .max()
        .unwrap_or(0)
}

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

/// Assigns requests to slots: the largest first, each into the slot that wastes least among those whose tenants it
/// never meets, else into a new one ("greedy by size", Pisarchyk and Lee 2020). With `reuse` off each gets its own.
pub fn plan_memory(requests: &[Request], reuse: bool) -> MemoryPlan {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes), i));
    let mut plan = MemoryPlan {
        slot_of: vec![0; requests.len()],
        slots: Vec::new(),
    };
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let free = |slot: &usize| {
            tenants[*slot]
                .iter()
                .all(|&t| !requests[t].overlaps(&requests[i]))
        };
        let slot = (0..plan.slots.len())
            .filter(|_| reuse)
            .filter(free)
            .min_by_key(|&s| plan.slots[s]);
        let slot = slot.unwrap_or_else(|| {
            plan.slots.push(requests[i].bytes);
            tenants.push(Vec::new());
            plan.slots.len() - 1
        });
        tenants[slot].push(i);
        plan.slot_of[i] = slot;
    }
    plan
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

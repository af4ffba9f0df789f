//! The memory planner: a pure function from lifetimes to places in slots.

/// Tensors start at multiples of this, bytes: the most that WebGPU lets a device ask of where a binding starts.
pub(super) const ALIGNMENT: u64 = 256;

/// A part of a tensor that needs memory from node `first` to node `last`, both inclusive; none where `first` is the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Size in bytes.
    pub bytes: u64,
    /// First node that touches it.
    pub first: usize,
    /// Last node that touches it.
    pub last: usize,
}

impl Part {
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// A tensor that needs memory: of one piece, whose parts, side by side, need it at different times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Request {
    /// All of it from node `first` to node `last`.
    pub fn whole(bytes: u64, first: usize, last: usize) -> Self {
        Self {
            parts: vec![Part { bytes, first, last }],
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.bytes).sum()
    }

    /// What it takes of a slot.
    pub(super) fn room(&self) -> u64 {
        self.bytes().next_multiple_of(ALIGNMENT)
    }

    /// Its parts, each with its first byte.
    pub(super) fn spans(&self) -> impl Iterator<Item = (u64, &Part)> {
        self.parts.iter().scan(0, |end, part| {
            let first = *end;
            *end += part.bytes;
            Some((first, part))
        })
    }
}

/// Where a tensor lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The slot.
    pub slot: usize,
    /// First byte of it, a multiple of 256.
    pub offset: u64,
}

/// Where each request lies, and how large the slots are. Each slot is a buffer. wgpu tracks whole buffers, and refuses a
/// dispatch that reads and writes one by two bindings, so that some tensors must be kept in different slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The place of each request.
    pub places: Vec<Place>,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
}

impl MemoryPlan {
    /// Bytes of all slots.
    pub fn total_bytes(&self) -> u64 {
        self.slots.iter().sum()
    }
}

/// What a plan must keep to.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Pairs of requests that may not lie in one slot: some dispatch reads one and writes the other.
    pub apart: &'a [(usize, usize)],
    /// The most bytes of a slot; no request has more.
    pub limit: u64,
    /// Bytes that are few enough to look no further.
    pub enough: u64,
}

/// Tries of [`plan_memory`] to find an order that wastes less, how often it begins anew with them, and the share of the
/// peak below which a request is too small to matter there.
const TRIES: usize = 400;
const STARTS: usize = 8;
const SMALL: u64 = 256;

/// Slots among which a request may wish for one.
const WISHED: usize = 3;

/// Places requests in slots: one after the other, the largest first, each where it enlarges the slots least among the gaps
/// that tenants alive at the same time leave ("greedy by size", Pisarchyk and Lee 2020), else in a new slot. Then it
/// moves requests in that order, or lets one wish for a slot, in a fixed sequence of tries, and keeps what needs fewer
/// bytes; from the start again a few times, since what it comes to differs. With `reuse` off each request gets a slot of its own.
pub fn plan_memory(requests: &[Request], rules: Rules<'_>, reuse: bool) -> MemoryPlan {
    if !reuse {
        return MemoryPlan {
            places: (0..requests.len())
                .map(|slot| Place { slot, offset: 0 })
                .collect(),
            slots: requests.iter().map(|r| r.room().min(rules.limit)).collect(),
        };
    }
    let least = peak_bytes(requests);
    let mut list: Vec<usize> = (0..requests.len()).collect();
    list.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes()), i));
    let is_large = |i: &&usize| requests[**i].bytes() >= least / SMALL;
    let large = list.iter().take_while(is_large).count();
    let small = list.split_off(large);
    let problem = Problem::new(requests, rules);
    let first = Order {
        list,
        wishes: vec![None; requests.len()],
    };
    let mut whole = Packing::empty(&problem);
    whole.add_all(&problem, &first.list);
    let mut best = whole.clone();
    let mut random = 1u64;
    for _ in 0..STARTS {
        let mut order = first.clone();
        let mut packing = whole.clone();
        let mut judged = u64::MAX;
        for _ in 0..TRIES {
            if packing.total() < judged {
                judged = packing.total();
                if let Some(found) = packing.completed(&problem, &small) {
                    return found.plan;
                }
            }
            if best.total().min(judged) <= least || large < 2 {
                break;
            }
            let tried = order.changed(&mut random, !rules.apart.is_empty());
            if let Some(found) = Packing::within(packing.total(), &problem, &tried) {
                (packing, order) = (found, tried);
            }
        }
        if packing.total() < best.total() {
            best = packing;
        }
    }
    best.add_all(&problem, &small);
    best.plan
}

/// In which order requests are placed, and the slot that each wishes for.
#[derive(Clone)]
struct Order {
    list: Vec<usize>,
    wishes: Vec<Option<usize>>,
}

impl Order {
    /// The same with one request elsewhere in the list or, where `may_wish`, perhaps with another wish.
    fn changed(&self, random: &mut u64, may_wish: bool) -> Self {
        let mut changed = self.clone();
        let at = draw(random, self.list.len());
        if may_wish && draw(random, 2) == 0 {
            let wish = draw(random, WISHED + 1);
            changed.wishes[self.list[at]] = (wish < WISHED).then_some(wish);
        } else {
            let moved = changed.list.remove(at);
            changed.list.insert(draw(random, self.list.len()), moved);
        }
        changed
    }
}

/// A number below `end`: Knuth's linear congruential generator, so that a plan is the same everywhere.
fn draw(state: &mut u64, end: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) % end as u64) as usize
}

struct Problem<'a> {
    requests: &'a [Request],
    apart: Vec<Vec<usize>>,
    limit: u64,
    enough: u64,
}

impl<'a> Problem<'a> {
    fn new(requests: &'a [Request], rules: Rules<'_>) -> Self {
        let mut apart = vec![Vec::new(); requests.len()];
        for &(a, b) in rules.apart {
            apart[a].push(b);
            apart[b].push(a);
        }
        Self {
            requests,
            apart,
            limit: rules.limit,
            enough: rules.enough,
        }
    }
}

/// Slots that are being filled.
#[derive(Clone)]
struct Packing {
    plan: MemoryPlan,
    is_placed: Vec<bool>,
    /// What lies in each slot, by offset.
    tenants: Vec<Vec<Tenant>>,
    /// Room for what bars a request from places in a slot, kept since it is needed for each request anew.
    barred: Vec<(i64, u64)>,
}

/// A part of a request in its place.
#[derive(Clone, Copy)]
struct Tenant {
    first: u64,
    part: Part,
}

impl Packing {
    /// The packing, if it needs no more than `bytes`.
    fn within(bytes: u64, problem: &Problem<'_>, order: &Order) -> Option<Self> {
        let mut packing = Self::empty(problem);
        let fits = order.list.iter().all(|&i| {
            packing.add(problem, i, order.wishes[i]);
            packing.total() <= bytes
        });
        fits.then_some(packing)
    }

    /// The packing with the requests that are missing, if it then needs few enough bytes to look no further.
    fn completed(&self, problem: &Problem<'_>, missing: &[usize]) -> Option<Self> {
        if self.total() > problem.enough {
            return None;
        }
        let mut packing = self.clone();
        packing.add_all(problem, missing);
        (packing.total() <= problem.enough).then_some(packing)
    }

    fn add_all(&mut self, problem: &Problem<'_>, requests: &[usize]) {
        for &i in requests {
            self.add(problem, i, None);
        }
    }

    fn empty(problem: &Problem<'_>) -> Self {
        let requests = problem.requests.len();
        Self {
            plan: MemoryPlan {
                places: vec![Place::default(); requests],
                slots: Vec::new(),
            },
            is_placed: vec![false; requests],
            tenants: Vec::new(),
            barred: Vec::new(),
        }
    }

    fn add(&mut self, problem: &Problem<'_>, i: usize, wish: Option<usize>) {
        let room = problem.requests[i].room();
        let mut is_open = vec![true; self.tenants.len()];
        for &other in problem.apart[i].iter().filter(|&&o| self.is_placed[o]) {
            is_open[self.plan.places[other].slot] = false;
        }
        let wish = wish.filter(|&w| is_open.get(w) == Some(&true));
        let mut barred = std::mem::take(&mut self.barred);
        let place = (0..self.tenants.len())
            .filter(|&slot| is_open[slot] && wish.is_none_or(|w| w == slot))
            .filter_map(|slot| {
                let (offset, waste) = self.gap(problem, i, slot, &mut barred);
                let growth = (offset + room).saturating_sub(self.plan.slots[slot]);
                (offset + room <= problem.limit).then_some((growth, waste, slot, offset))
            })
            .min()
            .map(|(_, _, slot, offset)| Place { slot, offset });
        self.barred = barred;
        self.put(problem, i, place);
    }

    /// Puts a request into its place, or into a new slot.
    fn put(&mut self, problem: &Problem<'_>, i: usize, place: Option<Place>) {
        let place = place.unwrap_or_else(|| {
            self.plan.slots.push(0);
            self.tenants.push(Vec::new());
            Place {
                slot: self.tenants.len() - 1,
                offset: 0,
            }
        });
        let request = &problem.requests[i];
        let end = (place.offset + request.room()).min(problem.limit);
        let slot = &mut self.plan.slots[place.slot];
        *slot = end.max(*slot);
        self.plan.places[i] = place;
        self.is_placed[i] = true;
        let tenants = request.spans().map(|(first, &part)| Tenant {
            first: place.offset + first,
            part,
        });
        self.tenants[place.slot].extend(tenants);
    }

    /// The tightest gap of a slot for a request, else its end: the offset, and what would be left free there. Into `barred` goes
    /// where it may not begin: from behind the first number to before the second.
    fn gap(
        &self,
        problem: &Problem<'_>,
        i: usize,
        slot: usize,
        barred: &mut Vec<(i64, u64)>,
    ) -> (u64, u64) {
        let request = &problem.requests[i];
        barred.clear();
        for (first, part) in request.spans() {
            for tenant in self.tenants[slot].iter().filter(|t| t.part.meets(part)) {
                let end = tenant.first + tenant.part.bytes;
                if end > first {
                    let before = tenant.first as i64 - (first + part.bytes) as i64;
                    barred.push((before, (end - first).next_multiple_of(ALIGNMENT)));
                }
            }
        }
        barred.sort_unstable();
        let mut free = 0;
        let mut tightest: Option<(u64, u64)> = None;
        for &(before, after) in barred.iter() {
            let waste = before - free as i64;
            if waste >= 0 && tightest.is_none_or(|(_, least)| (waste as u64) < least) {
                tightest = Some((free, waste as u64));
            }
            free = free.max(after);
        }
        let end = self.plan.slots[slot].saturating_sub(free + request.room());
        tightest.unwrap_or((free, end))
    }

    fn total(&self) -> u64 {
        self.plan.total_bytes()
    }
}

/// The most bytes alive at one node: no plan can need less.
pub fn peak_bytes<'a>(requests: impl IntoIterator<Item = &'a Request>) -> u64 {
    let parts = requests.into_iter().flat_map(|r| &r.parts);
    let mut changes: Vec<(usize, bool, u64)> = parts
        .filter(|p| p.first <= p.last)
        .flat_map(|p| [(p.first, true, p.bytes), (p.last + 1, false, p.bytes)])
        .collect();
    // What ends before a node does so before others begin there.
    changes.sort_unstable();
    let alive = changes.iter().scan(0, |alive, (_, begins, bytes)| {
        match begins {
            true => *alive += bytes,
            false => *alive -= bytes,
        }
        Some(*alive)
    });
    alive.max().unwrap_or(0)
}

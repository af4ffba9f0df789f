//! Compiling a training graph within a budget of device memory: which forward values are made again, not kept.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::TRIES;
use super::recompute::{Family, REACH, Recomputation};
use super::{Graph, GraphError, Program, ProgramOptions, remove_dead_nodes};
use crate::gpu::DeviceProfile;
use crate::ops::ValueId;

/// Nodes count as high, and are relieved first, where more than so many eighths of the peak are alive.
const HIGH_EIGHTHS: u64 = 7;

/// A forward value that a program makes again in its backward part instead of keeping it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Recomputed {
    /// Where it is made.
    pub name: String,
    /// Bytes that are not kept for it.
    pub bytes: u64,
    /// Multiply-adds of making it once.
    pub madds: f64,
}

/// Compiles `graph`, whose backward part begins at node `first_backward`, for `device`; `outputs` can be fetched. Values
/// that cost next to nothing are made again in the backward part. Where the device has a
/// [memory budget](DeviceProfile::memory_budget) that this does not meet, slots are
/// [mixed](ProgramOptions::mixed_slots), and more values are made again: those that take most bytes off
/// the nodes above the budget for each operation, until the planned memory fits. The results are the same bits.
///
/// # Errors
/// [`GraphError::Budget`] with the least that could be reached; else as [`Program::compile`].
pub fn compile_training(
    graph: &Graph,
    first_backward: usize,
    outputs: &[ValueId],
    device: &DeviceProfile,
) -> Result<Program, GraphError> {
    let mut search = Search {
        plan: Recomputation::new(graph, first_backward, outputs),
        graph,
        outputs,
        device,
        options: ProgramOptions::default(),
    };
    let mut choice = Choice {
        dropped: search.plan.cheap(),
        reach: REACH,
    };
    let program = search.compile(&choice)?;
    let budget = device.memory_budget.unwrap_or(u64::MAX);
    if program.total_bytes() <= budget {
        return Ok(program);
    }
    search.options.mixed_slots = true;
    let mut program = search.compile_with(&choice, 0)?;
    let mut lowest = (program.peak_bytes(), choice.clone());
    let mut seen = BTreeSet::from([choice.clone()]);
    loop {
        // Only what could fit is packed well, which takes most of the time.
        if program.peak_bytes() + program.persistent_bytes() <= budget {
            let packed = search.compile(&choice)?;
            if packed.total_bytes() <= budget {
                program = packed;
                break;
            }
        }
        let Some((better, found)) = search.improve(&choice, &program, &seen)? else {
            let least = search.compile(&lowest.1)?.total_bytes();
            return Err(GraphError::Budget { budget, least });
        };
        (choice, program) = (better, found);
        if program.peak_bytes() < lowest.0 {
            lowest = (program.peak_bytes(), choice.clone());
        }
        seen.insert(choice.clone());
    }
    search.restore(choice, program, budget)
}

/// What is made again, and over how many nodes it is then kept for its next use.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Choice {
    dropped: BTreeSet<ValueId>,
    reach: usize,
}

impl Choice {
    fn without(&self, root: ValueId) -> Self {
        let mut choice = self.clone();
        choice.dropped.insert(root);
        choice
    }

    fn with(&self, root: ValueId) -> Self {
        let mut choice = self.clone();
        choice.dropped.remove(&root);
        choice
    }

    fn with_reach(&self, reach: usize) -> Self {
        Self {
            reach,
            ..self.clone()
        }
    }
}

/// What stays the same while a set of values is sought.
struct Search<'a> {
    plan: Recomputation<'a>,
    graph: &'a Graph,
    outputs: &'a [ValueId],
    device: &'a DeviceProfile,
    options: ProgramOptions,
}

impl Search<'_> {
    fn compile(&self, choice: &Choice) -> Result<Program, GraphError> {
        self.compile_with(choice, TRIES)
    }

    fn compile_with(&self, choice: &Choice, tries: usize) -> Result<Program, GraphError> {
        let (mut graph, flops) = self.plan.apply_within(&choice.dropped, choice.reach);
        remove_dead_nodes(&mut graph, self.outputs);
        let (outputs, device) = (self.outputs, self.device);
        let mut program = Program::compile_with(graph, outputs, device, self.options, tries)?;
        let families = choice
            .dropped
            .iter()
            .filter_map(|r| self.plan.families().get(r));
        let recomputed = families.map(|f| self.describe(f)).collect();
        program.set_recomputed(recomputed, flops / 2.0);
        Ok(program)
    }

    fn describe(&self, family: &Family) -> Recomputed {
        let last = family.members.last().map(|&m| self.graph.value(m));
        Recomputed {
            name: last.map(|v| v.name.clone()).unwrap_or_default(),
            bytes: family.bytes,
            madds: family.flops / 2.0,
        }
    }

    /// The best further step that leaves less at the nodes where most is alive: a family to make again; else one to keep after
    /// all, since to make it again takes most there; else several to make again; else to keep what was made again for a
    /// shorter time. None of those `seen`. It does not depend on the budget, so that whatever is said to be the least can be
    /// reached.
    fn improve(
        &self,
        choice: &Choice,
        program: &Program,
        seen: &BTreeSet<Choice>,
    ) -> Result<Option<(Choice, Program)>, GraphError> {
        let level = program.peak_bytes() / 8 * HIGH_EIGHTHS;
        let excess = excess(program, level);
        let candidates = self.candidates(choice, program, &excess);
        let singly = candidates.iter().map(|&root| choice.without(root));
        let kept = choice.dropped.iter().map(|&root| choice.with(root));
        let together = candidates.iter().scan(choice.clone(), |all, &root| {
            all.dropped.insert(root);
            Some(all.clone())
        });
        let reaches = std::iter::successors(Some(choice.reach / 2), |r| (*r > 0).then_some(r / 2));
        let shorter = reaches.map(|reach| choice.with_reach(reach));
        let total: u64 = excess.iter().sum();
        let steps = singly.chain(kept).chain(together.skip(1)).chain(shorter);
        for tried in steps.filter(|step| !seen.contains(step)) {
            // What is alive does not depend on the packing.
            let found = self.compile_with(&tried, 0)?;
            let above: u64 = self::excess(&found, level).iter().sum();
            if above < total || found.peak_bytes() < program.peak_bytes() {
                return Ok(Some((tried, found)));
            }
        }
        Ok(None)
    }

    /// Families that are alive where most is, those first that take most bytes off for each operation.
    fn candidates(&self, choice: &Choice, program: &Program, excess: &[u64]) -> Vec<ValueId> {
        let mut freed: BTreeMap<ValueId, u64> = BTreeMap::new();
        for resident in program.residents() {
            let alive = resident.first..=resident.last.min(excess.len() - 1);
            let off = excess[alive].iter().map(|&e| e.min(resident.bytes));
            if let Some(root) = resident.root {
                *freed.entry(root).or_default() += off.sum::<u64>();
            }
        }
        let mut candidates: Vec<(ValueId, f64)> = freed
            .into_iter()
            .filter(|(root, freed)| *freed > 0 && !choice.dropped.contains(root))
            .filter_map(|(root, freed)| {
                let family = self.plan.families().get(&root)?;
                Some((root, freed as f64 / (1.0 + family.flops)))
            })
            .collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.into_iter().map(|(root, _)| root).collect()
    }

    /// Keeps again what the budget allows, the most expensive first.
    fn restore(
        &self,
        mut choice: Choice,
        mut program: Program,
        budget: u64,
    ) -> Result<Program, GraphError> {
        let cheap = self.plan.cheap();
        let mut order: Vec<(ValueId, f64)> = choice
            .dropped
            .iter()
            .filter(|root| !cheap.contains(root))
            .filter_map(|root| Some((*root, self.plan.families().get(root)?.flops)))
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let longer = choice.with_reach(REACH);
        let mut keep = |more: Choice| -> Result<Choice, GraphError> {
            let tried = self.compile(&more)?;
            if tried.total_bytes() > budget {
                return Ok(choice.clone());
            }
            (choice, program) = (more.clone(), tried);
            Ok(more)
        };
        let mut kept = keep(longer)?;
        for (root, _) in order {
            kept = keep(kept.with(root))?;
        }
        Ok(program)
    }
}

/// Bytes above `level` at each node.
fn excess(program: &Program, level: u64) -> Vec<u64> {
    let mut alive = vec![0u64; program.graph().nodes().len() + 1];
    for resident in program.residents() {
        for bytes in &mut alive[resident.first..=resident.last] {
            *bytes += resident.bytes;
        }
    }
    alive
        .into_iter()
        .map(|bytes| bytes.saturating_sub(level))
        .collect()
}

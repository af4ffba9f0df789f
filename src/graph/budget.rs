//! Compiling a training graph within a budget of device memory: which forward values are made again, not kept.

use std::collections::BTreeSet;

use super::plan::TRIES;
use super::recompute::{Family, Recomputation};
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
    let mut dropped = search.plan.cheap();
    let program = search.compile(&dropped)?;
    let budget = device.memory_budget.unwrap_or(u64::MAX);
    if program.total_bytes() <= budget {
        return Ok(program);
    }
    search.options.mixed_slots = true;
    let mut program = search.compile(&dropped)?;
    let mut least = program.total_bytes();
    while program.total_bytes() > budget {
        let Some((root, better)) = search.improve(&dropped, &program)? else {
            return Err(GraphError::Budget { budget, least });
        };
        dropped.insert(root);
        program = better;
        least = least.min(program.total_bytes());
    }
    search.restore(dropped, program, budget)
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
    fn compile(&self, dropped: &BTreeSet<ValueId>) -> Result<Program, GraphError> {
        self.compile_with(dropped, TRIES)
    }

    fn compile_with(
        &self,
        dropped: &BTreeSet<ValueId>,
        tries: usize,
    ) -> Result<Program, GraphError> {
        let (mut graph, flops) = self.plan.apply(dropped);
        remove_dead_nodes(&mut graph, self.outputs);
        let (outputs, device) = (self.outputs, self.device);
        let mut program = Program::compile_with(graph, outputs, device, self.options, tries)?;
        let families = dropped.iter().filter_map(|r| self.plan.families().get(r));
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

    /// The best further family whose recomputation leaves less at the nodes where most is alive, and the program with it.
    /// It does not depend on the budget, so that whatever is said to be the least can be reached.
    fn improve(
        &self,
        dropped: &BTreeSet<ValueId>,
        program: &Program,
    ) -> Result<Option<(ValueId, Program)>, GraphError> {
        let level = program.peak_bytes() / 8 * HIGH_EIGHTHS;
        let excess = excess(program, level);
        let total: u64 = excess.iter().sum();
        let mut candidates: Vec<(ValueId, f64)> = program
            .residents()
            .iter()
            .filter_map(|r| r.root.map(|root| (root, r)))
            .filter(|(root, _)| !dropped.contains(root))
            .filter_map(|(root, r)| {
                let family = self.plan.families().get(&root)?;
                let alive = r.first..=r.last.min(excess.len() - 1);
                let freed: u64 = excess[alive].iter().map(|&e| e.min(r.bytes)).sum();
                (freed > 0).then(|| (root, freed as f64 / (1.0 + family.flops)))
            })
            .collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut more = dropped.clone();
        for (root, _) in candidates {
            more.insert(root);
            // What is alive does not depend on the packing, which takes most of the time.
            let tried = self.compile_with(&more, 0)?;
            if self::excess(&tried, level).iter().sum::<u64>() < total {
                return Ok(Some((root, self.compile(&more)?)));
            }
            more.remove(&root);
        }
        Ok(None)
    }

    /// Keeps again what the budget allows, the most expensive first.
    fn restore(
        &self,
        mut dropped: BTreeSet<ValueId>,
        mut program: Program,
        budget: u64,
    ) -> Result<Program, GraphError> {
        let mut order: Vec<(ValueId, f64)> = dropped
            .iter()
            .filter_map(|root| Some((*root, self.plan.families().get(root)?)))
            .filter(|(_, family)| !family.is_cheap)
            .map(|(root, family)| (root, family.flops))
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let cheap = self.plan.cheap();
        for (root, _) in order {
            if cheap.contains(&root) {
                continue;
            }
            dropped.remove(&root);
            let tried = self.compile(&dropped)?;
            if tried.total_bytes() <= budget {
                program = tried;
            } else {
                dropped.insert(root);
            }
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

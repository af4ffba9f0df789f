//! Compiling a training graph within a budget of device memory: which forward values are made again, not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::draft::Draft;
use super::joins::split_joins;
use super::recompute::{Applied, Family, REACH, Recomputation};
use super::streaming::stream;
use super::{Graph, GraphError, Program, ProgramOptions, remove_dead_nodes};
use crate::gpu::DeviceProfile;
use crate::ops::ValueId;

/// Nodes count as high, and are relieved first, where more than so many eighths of the peak are alive. A step that helps the highest
/// may bar the way to better ones, and so may one that helps many: what one of these does not lead to, the next is tried for.
const HIGH_EIGHTHS: [u64; 3] = [7, 6, 5];

/// Nodes that may be lowered for each of these, all tries together: some seconds of a processor.
const NODES: usize = 200_000;

/// A program is packed, which takes longer than to lower it, where it may need less than the one packed before by such a share.
const WORTH_PACKING: u64 = 16;

/// How often what is tried to be kept again may not fit.
const MISFITS: usize = 64;

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
/// the nodes above the budget for each operation, until the planned memory fits. Where fewer operations are made again then, or it
/// does not fit otherwise, large convolutions are computed slab by slab over their sources, and their gradients for one part of a
/// join at a time. The results are the same bits.
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
        outputs,
        device,
        options: ProgramOptions::default(),
        in_slabs: false,
    };
    let program = search.compile(&search.cheap())?;
    let budget = device.memory_budget.unwrap_or(u64::MAX);
    if program.total_bytes() <= budget {
        return Ok(program);
    }
    search.options.mixed_slots = true;
    let whole = search.within(budget);
    let split = split_joins(graph, first_backward, outputs, device);
    search.plan = Recomputation::new(&split, first_backward, outputs);
    search.in_slabs = true;
    cheaper(whole, search.within(budget))
}

/// The program that makes less again, or the lesser of two budgets that would do. What cannot be computed slab by slab on the
/// device is no obstacle to a program of whole tensors.
fn cheaper(
    whole: Result<Program, GraphError>,
    in_slabs: Result<Program, GraphError>,
) -> Result<Program, GraphError> {
    match (whole, in_slabs) {
        (Ok(whole), Ok(slabs)) => Ok(match slabs.recomputed_madds() < whole.recomputed_madds() {
            true => slabs,
            false => whole,
        }),
        (
            Err(GraphError::Budget { budget, least }),
            Err(GraphError::Budget { least: other, .. }),
        ) => Err(GraphError::Budget {
            budget,
            least: least.min(other),
        }),
        (Err(GraphError::Budget { .. }), Ok(slabs)) => Ok(slabs),
        (whole, _) => whole,
    }
}

/// What is made again, and over how many nodes it is then kept for its next use.
type Choice = BTreeMap<ValueId, usize>;

/// A program to be packed, and what it makes again.
struct Found<'a> {
    choice: Choice,
    draft: Draft<'a>,
    /// The family of each value that is a copy.
    copied: BTreeMap<ValueId, ValueId>,
    /// Multiply-adds of making values again.
    madds: f64,
}

/// What stays the same while a set of values is sought.
struct Search<'a> {
    plan: Recomputation<'a>,
    outputs: &'a [ValueId],
    device: &'a DeviceProfile,
    options: ProgramOptions,
    /// Whether large convolutions are computed slab by slab.
    in_slabs: bool,
}

impl Search<'_> {
    fn cheap(&self) -> Choice {
        let cheap = self.plan.cheap().into_iter();
        cheap.map(|root| (root, REACH)).collect()
    }

    /// A program within `budget` that makes little again.
    fn within(&self, budget: u64) -> Result<Program, GraphError> {
        let mut least = u64::MAX;
        for eighths in HIGH_EIGHTHS {
            match self.relieved(eighths, budget) {
                Err(GraphError::Budget { least: found, .. }) => least = least.min(found),
                found => return found,
            }
        }
        Err(GraphError::Budget { budget, least })
    }

    /// A program within `budget`, sought by relieving the nodes above so many eighths of the peak.
    fn relieved(&self, eighths: u64, budget: u64) -> Result<Program, GraphError> {
        let mut found = self.draft(self.cheap())?;
        let mut lowest = (found.draft.at_least(), found.choice.clone());
        let (mut seen, mut nodes) = (BTreeSet::new(), NODES);
        let mut packed: Vec<(u64, Choice)> = Vec::new();
        loop {
            let (at_least, choice) = (found.draft.at_least(), &found.choice);
            seen.insert(choice.clone());
            if at_least < lowest.0 {
                lowest = (at_least, choice.clone());
            }
            let much = |last: u64| last - last / WORTH_PACKING;
            if packed
                .last()
                .is_none_or(|(last, _)| at_least <= much(*last))
            {
                packed.push((at_least, choice.clone()));
                if let Some(program) = self.compile_within(choice, budget)? {
                    return self.restore(found.choice, program, budget);
                }
            }
            match self.improve(&found, eighths, &seen, &mut nodes)? {
                Some(better) => found = better,
                None => break,
            }
        }
        let (choice, program) = self.least(lowest.1, packed)?;
        match program.total_bytes() {
            least if least > budget => Err(GraphError::Budget { budget, least }),
            _ => self.restore(choice, program, budget),
        }
    }

    /// Which of the choices takes least; with those beside the first, what they take however they are packed.
    fn least(
        &self,
        first: Choice,
        others: Vec<(u64, Choice)>,
    ) -> Result<(Choice, Program), GraphError> {
        let program = self.compile(&first)?;
        let mut best = (first, program);
        for (at_least, choice) in others.into_iter().rev() {
            if at_least < best.1.total_bytes() {
                let program = self.compile(&choice)?;
                if program.total_bytes() < best.1.total_bytes() {
                    best = (choice, program);
                }
            }
        }
        Ok(best)
    }

    fn compile(&self, choice: &Choice) -> Result<Program, GraphError> {
        self.pack(self.draft(choice.clone())?, 0)
    }

    /// The program, if it fits into `budget`.
    fn compile_within(&self, choice: &Choice, budget: u64) -> Result<Option<Program>, GraphError> {
        let found = self.draft(choice.clone())?;
        // Most of the time is taken by packing.
        if found.draft.at_least() > budget {
            return Ok(None);
        }
        let program = self.pack(found, budget)?;
        Ok((program.total_bytes() <= budget).then_some(program))
    }

    fn pack(&self, found: Found<'_>, enough: u64) -> Result<Program, GraphError> {
        let mut program = Program::pack(found.draft, enough)?;
        let families = self.plan.families();
        let chosen = found.choice.keys().filter_map(|root| families.get(root));
        program.set_recomputed(chosen.map(|f| self.describe(f)).collect(), found.madds);
        Ok(program)
    }

    fn draft(&self, choice: Choice) -> Result<Found<'_>, GraphError> {
        let Applied {
            mut graph,
            flops,
            copied,
        } = self.plan.apply_within(&choice);
        let (outputs, device) = (self.outputs, self.device);
        remove_dead_nodes(&mut graph, outputs);
        if self.in_slabs {
            stream(&mut graph, outputs, device);
            remove_dead_nodes(&mut graph, outputs);
        }
        Ok(Found {
            choice,
            draft: Draft::of(graph, outputs, device, self.options)?,
            copied,
            madds: flops / 2.0,
        })
    }

    fn describe(&self, family: &Family) -> Recomputed {
        let last = family.members.last().map(|&m| self.plan.graph().value(m));
        Recomputed {
            name: last.map(|v| v.name.clone()).unwrap_or_default(),
            bytes: family.bytes,
            madds: family.flops / 2.0,
        }
    }

    /// The best further step that leaves less at the nodes where most is alive: a family to make again, or to make again for each
    /// use; else one to keep after all, or longer, since to make it again takes most there; else several of the first at once.
    /// None of those `seen`, and none once `nodes` are lowered. It does not depend on the budget, so that whatever is said to be
    /// the least can be reached.
    fn improve(
        &self,
        found: &Found<'_>,
        eighths: u64,
        seen: &BTreeSet<Choice>,
        nodes: &mut usize,
    ) -> Result<Option<Found<'_>>, GraphError> {
        let Found { choice, draft, .. } = found;
        let level = draft.peak_bytes / 8 * eighths;
        let excess = excess(draft, level);
        let candidates = self.candidates(found, &excess);
        let with = |mut choice: Choice, (root, reach): (ValueId, usize)| {
            choice.insert(root, reach);
            choice
        };
        let singly = candidates.iter().map(|&step| with(choice.clone(), step));
        let kept = choice.keys().map(|root| without(choice, root));
        let together = candidates.iter().scan(choice.clone(), |all, &step| {
            *all = with(std::mem::take(all), step);
            Some(all.clone())
        });
        let brief = choice.iter().filter(|(_, reach)| **reach < REACH);
        let longer = brief.map(|(&root, _)| with(choice.clone(), (root, REACH)));
        let total: u64 = excess.iter().sum();
        let steps = singly.chain(kept).chain(longer).chain(together.skip(1));
        for tried in steps.filter(|step| !seen.contains(step)) {
            let better = self.draft(tried)?;
            *nodes = nodes.saturating_sub(better.draft.graph.nodes().len());
            if *nodes == 0 {
                break;
            }
            let above: u64 = self::excess(&better.draft, level).iter().sum();
            if above < total || better.draft.peak_bytes < draft.peak_bytes {
                return Ok(Some(better));
            }
        }
        Ok(None)
    }

    /// Families that are alive where most is, and the reach to make them again with: those first that take most bytes off for
    /// each operation.
    fn candidates(&self, found: &Found<'_>, excess: &[u64]) -> Vec<(ValueId, usize)> {
        let (choice, graph) = (&found.choice, &found.draft.graph);
        let members = self.plan.families().iter();
        let families: BTreeMap<ValueId, ValueId> = members
            .flat_map(|(&root, family)| family.members.iter().map(move |&m| (m, root)))
            .collect();
        let mut freed: BTreeMap<(ValueId, usize), u64> = BTreeMap::new();
        for (value, nodes) in lifetimes(graph) {
            let step = match (found.copied.get(&value), families.get(&value)) {
                (Some(&family), _) => (family, 0),
                (None, Some(&family)) => (family, REACH),
                (None, None) => continue,
            };
            let bytes = graph.value(value).bytes();
            let off = excess[nodes].iter().map(|&e| e.min(bytes));
            *freed.entry(step).or_default() += off.sum::<u64>();
        }
        let is_new = |(root, reach): &(ValueId, usize)| choice.get(root).is_none_or(|r| r > reach);
        let mut candidates: Vec<((ValueId, usize), f64)> = freed
            .into_iter()
            .filter(|(step, freed)| *freed > 0 && is_new(step))
            .filter_map(|(step, freed)| {
                let family = self.plan.families().get(&step.0)?;
                Some((step, freed as f64 / (1.0 + family.flops)))
            })
            .collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.into_iter().map(|(step, _)| step).collect()
    }

    /// Keeps again what the budget allows, the most expensive first: over a few nodes, then all the time.
    fn restore(
        &self,
        mut choice: Choice,
        mut program: Program,
        budget: u64,
    ) -> Result<Program, GraphError> {
        let cheap = self.plan.cheap();
        let mut order: Vec<(ValueId, f64)> = choice
            .keys()
            .filter_map(|root| Some((*root, self.plan.families().get(root)?.flops)))
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut misfits = 0;
        for (root, _) in order {
            if misfits >= MISFITS {
                break;
            }
            let mut longer = choice.clone();
            longer.insert(root, REACH);
            let mut steps = vec![longer];
            if !cheap.contains(&root) {
                steps.insert(0, without(&choice, &root));
            }
            for step in steps.into_iter().filter(|step| *step != choice) {
                if let Some(fitting) = self.compile_within(&step, budget)? {
                    (choice, program) = (step, fitting);
                    break;
                }
                misfits += 1;
            }
        }
        Ok(program)
    }
}

fn without(choice: &Choice, root: &ValueId) -> Choice {
    let mut choice = choice.clone();
    choice.remove(root);
    choice
}

/// From which node to which there is a value, of those that nodes make.
fn lifetimes(graph: &Graph) -> BTreeMap<ValueId, RangeInclusive<usize>> {
    let mut lifetimes = BTreeMap::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        lifetimes.extend(node.outputs.iter().map(|&value| (value, at..=at)));
        for value in &node.inputs {
            if let Some(nodes) = lifetimes.get_mut(value) {
                *nodes = *nodes.start()..=at;
            }
        }
    }
    lifetimes
}

/// Bytes above `level` at each node.
fn excess(draft: &Draft<'_>, level: u64) -> Vec<u64> {
    let alive = draft.alive().into_iter();
    alive.map(|bytes| bytes.saturating_sub(level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::add;
    use crate::tensor::Shape;

    fn program() -> Program {
        let mut graph = Graph::new();
        let a = graph.input("a", Shape::vector(8)).unwrap();
        let b = add(&mut graph, a, a).unwrap();
        let device = DeviceProfile::minimal_gpu();
        Program::compile(graph, &[b], &device, ProgramOptions::default()).unwrap()
    }

    #[test]
    fn what_cannot_be_computed_in_slabs_is_planned_whole() {
        let too_large = || GraphError::TooLarge {
            what: "a slab".to_owned(),
            bytes: 2,
            limit: 1,
        };
        let short = |least| GraphError::Budget { budget: 1, least };
        assert!(cheaper(Ok(program()), Err(too_large())).is_ok());
        assert!(cheaper(Ok(program()), Err(short(3))).is_ok());
        assert!(cheaper(Err(short(3)), Ok(program())).is_ok());
        let least = |whole, slabs| match cheaper(Err(whole), Err(slabs)) {
            Err(GraphError::Budget { least, .. }) => Some(least),
            _ => None,
        };
        assert_eq!(least(short(3), short(2)), Some(2));
        assert_eq!(least(short(3), too_large()), Some(3));
    }
}

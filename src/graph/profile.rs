//! Where the time of a run goes, by operator.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeTime, Program};
use crate::ops::Cost;
use crate::table::{Align, Table};

/// One operator over a run: all of its nodes and dispatches together.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct OperatorTime {
    /// Its name, `conv.forward`.
    pub op: &'static str,
    /// Nodes of this operator.
    pub nodes: usize,
    /// Dispatches a run.
    pub dispatches: usize,
    /// Milliseconds a run, on the device.
    pub ms: f64,
    /// 10^9 floating point operations a second, by the least that the definition needs.
    pub gflops: f64,
    /// 10^9 bytes a second, each operand read or written once.
    pub gbytes: f64,
    /// Part of the time of all operators, 0 to 1.
    pub share: f64,
}

/// The operators of a program by time.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Profile {
    /// Milliseconds of all dispatches of one run, mean over the runs; gaps between dispatches are not in it.
    pub total_ms: f64,
    /// The slowest first.
    pub operators: Vec<OperatorTime>,
}

/// What adds up for one operator.
#[derive(Default)]
struct Sum {
    nodes: BTreeSet<usize>,
    dispatches: usize,
    ms: f64,
    cost: Cost,
}

impl Profile {
    /// Adds up the times of one or several runs of `program` ([`super::Executor::run_timed`]); figures are means
    /// over the runs.
    pub fn new(program: &Program, runs: &[Vec<NodeTime>]) -> Self {
        let count = runs.len().max(1) as f64;
        let mut sums: BTreeMap<&'static str, Sum> = BTreeMap::new();
        for time in runs.iter().flatten() {
            let op = program.graph().nodes()[time.node].op.name();
            let sum = sums.entry(op).or_default();
            sum.dispatches += 1;
            sum.ms += time.ms;
            // A node of several dispatches, or of several runs, still computes its definition once a run.
            if sum.nodes.insert(time.node) {
                let cost = program.cost(time.node);
                sum.cost.flops += cost.flops;
                sum.cost.bytes += cost.bytes;
            }
        }
        let total_ms = sums.values().map(|sum| sum.ms).sum::<f64>() / count;
        let mut operators: Vec<OperatorTime> = sums
            .into_iter()
            .map(|(op, sum)| {
                let ms = sum.ms / count;
                OperatorTime {
                    op,
                    nodes: sum.nodes.len(),
                    dispatches: sum.dispatches / runs.len().max(1),
                    ms,
                    gflops: ratio(sum.cost.flops, 1e6 * ms),
                    gbytes: ratio(sum.cost.bytes, 1e6 * ms),
                    share: ratio(ms, total_ms),
                }
            })
            .collect();
        operators.sort_by(|a, b| b.ms.total_cmp(&a.ms).then_with(|| a.op.cmp(b.op)));
        Self {
            total_ms,
            operators,
        }
    }

    /// For the terminal: a row an operator, the slowest first, and the sum.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("operator", Align::Left),
            ("nodes", Align::Right),
            ("dispatches", Align::Right),
            ("ms", Align::Right),
            ("GFLOP/s", Align::Right),
            ("GB/s", Align::Right),
            ("share", Align::Right),
        ]);
        for row in &self.operators {
            table.row([
                row.op.to_owned(),
                row.nodes.to_string(),
                row.dispatches.to_string(),
                format!("{:.3}", row.ms),
                format!("{:.2}", row.gflops),
                format!("{:.2}", row.gbytes),
                format!("{:.1} %", 100.0 * row.share),
            ]);
        }
        let sum = |of: fn(&OperatorTime) -> usize| self.operators.iter().map(of).sum::<usize>();
        table.rule().row([
            "all".to_owned(),
            sum(|row| row.nodes).to_string(),
            sum(|row| row.dispatches).to_string(),
            format!("{:.3}", self.total_ms),
        ]);
        table
    }
}

/// A timer that is too coarse gives 0 ms: no rate can be told then.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::DeviceProfile;
    use crate::graph::{Graph, ProgramOptions};
    use crate::ops::Build;
    use crate::ops::elementwise::{add, multiply};
    use crate::tensor::Shape;

    /// y = (a + a) + a, z = y * a; 1000 elements: 1000 operations and 12000 bytes a node.
    fn program() -> Program {
        let mut graph = Graph::new();
        let a = graph.input("a", Shape::vector(1000)).unwrap();
        let twice = add(&mut graph, a, a).unwrap();
        let y = add(&mut graph, twice, a).unwrap();
        let z = multiply(&mut graph, y, a).unwrap();
        assert_eq!(graph.shape(z), Shape::vector(1000));
        let device = DeviceProfile::minimal_gpu();
        Program::compile(graph, &[z], &device, ProgramOptions::default()).unwrap()
    }

    fn run(ms: [f64; 3]) -> Vec<NodeTime> {
        let time = |(node, ms)| NodeTime {
            node,
            kernel: "kernel",
            ms,
        };
        ms.into_iter().enumerate().map(time).collect()
    }

    #[test]
    fn times_add_up_by_operator_and_are_means_over_the_runs() {
        let program = program();
        let profile = Profile::new(&program, &[run([1.0, 2.0, 8.0]), run([3.0, 2.0, 4.0])]);
        assert_eq!(profile.total_ms, 10.0);
        let [mul, add] = profile.operators[..] else {
            panic!("{profile:?}");
        };
        assert_eq!(
            (mul.op, mul.nodes, mul.dispatches),
            ("elementwise.multiply", 1, 1)
        );
        assert_eq!(
            (add.op, add.nodes, add.dispatches),
            ("elementwise.add", 2, 2)
        );
        assert_eq!((mul.ms, add.ms), (6.0, 4.0));
        assert_eq!((mul.share, add.share), (0.6, 0.4));
        assert_eq!(add.gflops, 2000.0 / 4e6);
        assert_eq!(add.gbytes, 24000.0 / 4e6);
        let text = profile.table().to_string();
        assert!(
            text.lines()
                .nth(2)
                .unwrap()
                .starts_with("elementwise.multiply"),
            "{text}"
        );
        assert!(text.lines().last().unwrap().contains("10.000"), "{text}");
    }

    #[test]
    fn no_run_and_a_timer_that_stands_still_give_no_nan() {
        let program = program();
        assert!(Profile::new(&program, &[]).operators.is_empty());
        let still = Profile::new(&program, &[run([0.0; 3])]);
        assert!(
            still
                .operators
                .iter()
                .all(|row| row.gflops == 0.0 && row.share == 0.0)
        );
    }
}

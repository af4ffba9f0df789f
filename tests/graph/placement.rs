//! Concatenations whose inputs cannot all be made in place: a value that stands in several places is copied.

use voxseg::graph::Graph;
use voxseg::ops::ValueId;
use voxseg::ops::elementwise::add;
use voxseg::ops::layout::{concat, slice_channels};
use voxseg::tensor::{HostTensor, Shape};

use crate::execution::run_once;

const SHAPE: Shape = Shape::new(2, 3, 2, 3, 5);

/// Tensors of the graph, each with what the reference says of it.
struct Both {
    graph: Graph,
    feeds: Vec<(ValueId, Vec<f32>)>,
}

type Known = (ValueId, HostTensor);

impl Both {
    fn new() -> Self {
        Self {
            graph: Graph::new(),
            feeds: Vec::new(),
        }
    }

    /// A value made by a kernel: twice an input that counts up from `start`.
    fn computed(&mut self, name: &str, start: f32) -> Known {
        let x = self.graph.input(name, SHAPE).unwrap();
        let data: Vec<f32> = (0..SHAPE.len()).map(|i| start + i as f32).collect();
        let doubled = data.iter().map(|v| 2.0 * v).collect();
        self.feeds.push((x, data));
        let y = add(&mut self.graph, x, x).unwrap();
        (y, HostTensor::from_vec(SHAPE, doubled).unwrap())
    }

    fn concat(&mut self, parts: &[&Known]) -> Known {
        let ids: Vec<ValueId> = parts.iter().map(|p| p.0).collect();
        let y = concat(&mut self.graph, &ids).unwrap();
        let channels = parts.iter().map(|p| p.1.shape.c()).sum();
        let samples = (0..SHAPE.n()).flat_map(|n| {
            parts.iter().flat_map(move |(_, part)| {
                let len = part.shape.per_sample();
                part.data[n * len..][..len].to_vec()
            })
        });
        let data = samples.collect();
        let joined = HostTensor::from_vec(SHAPE.with_c(channels), data).unwrap();
        (y, joined)
    }

    fn slice(&mut self, of: &Known, start: usize, len: usize) -> Known {
        let y = slice_channels(&mut self.graph, of.0, start, len).unwrap();
        let (whole, voxels) = (&of.1, SHAPE.voxels());
        let data = whole
            .data
            .chunks_exact(whole.shape.per_sample())
            .flat_map(|sample| sample[start * voxels..][..len * voxels].to_vec())
            .collect();
        let part = HostTensor::from_vec(SHAPE.with_c(len), data).unwrap();
        (y, part)
    }

    fn check(self, wanted: &[&Known]) {
        let outputs: Vec<ValueId> = wanted.iter().map(|w| w.0).collect();
        let feeds: Vec<_> = self.feeds.iter().map(|(v, d)| (*v, d.as_slice())).collect();
        for reuse in [true, false] {
            let found = run_once(self.graph.clone(), &outputs, &feeds, reuse);
            for (found, (_, expected)) in found.iter().zip(wanted) {
                assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn a_value_joined_to_itself_stands_in_both_halves() {
    let mut both = Both::new();
    let a = both.computed("a", 1.0);
    let joined = both.concat(&[&a, &a]);
    both.check(&[&joined, &a]);
}

#[test]
fn a_part_of_a_concatenation_stands_beside_it_in_another() {
    let mut both = Both::new();
    let (a, b) = (both.computed("a", 1.0), both.computed("b", 500.0));
    let inner = both.concat(&[&a, &b]);
    let before = both.concat(&[&a, &inner]);
    let after = both.concat(&[&before, &b]);
    both.check(&[&inner, &before, &after]);
}

#[test]
fn a_slice_stands_beside_the_value_that_it_is_part_of() {
    let mut both = Both::new();
    let a = both.computed("a", 1.0);
    let last = both.slice(&a, 1, 2);
    let first = both.slice(&a, 0, 1);
    let after = both.concat(&[&a, &last]);
    let before = both.concat(&[&first, &after]);
    both.check(&[&after, &before]);
}

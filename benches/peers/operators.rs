//! Single operators at the sizes of benches/peers/operators.py, each verified against the f64 reference before it is timed.

use std::sync::Arc;

use voxseg::gpu::Gpu;
use voxseg::graph::{Graph, differentiate};
use voxseg::ops::ValueId;
use voxseg::ops::activation::Activation;
use voxseg::ops::conv::{ConvAttributes, conv, conv_transpose};
use voxseg::ops::layout::slice_channels;
use voxseg::ops::loss::{LossAttributes, PixelLoss, segmentation_loss};
use voxseg::ops::norm::{NormParameters, instance_norm};
use voxseg::tensor::{HostTensor, Shape};

use crate::common::{self, Feeds, Run};
use crate::protocol::{Outcome, Prepared};
use crate::truth::{ConvTruth, check};

const GAMMA: f32 = 2.0;
const SLOPE: f32 = 0.25;

/// An operator that is timed.
enum Operator {
    Conv {
        window: ConvAttributes,
        channels: [usize; 2],
        edge: usize,
        transposed: bool,
    },
    NormPrelu(Shape),
    DiceFocal(Shape),
}

fn named(name: &str) -> Outcome<Operator> {
    let same = |extent| ConvAttributes::same([extent; 3]);
    let conv = |window, channels, edge| Operator::Conv {
        window,
        channels,
        edge,
        transposed: false,
    };
    Ok(match name {
        "conv3" => conv(same(3), [32, 32], 64),
        "depthwise" => conv(same(3).with_groups(64), [64, 64], 48),
        "pointwise" => conv(same(1), [64, 64], 48),
        "transposed" => Operator::Conv {
            window: ConvAttributes::new([2; 3]).with_stride([2; 3]),
            channels: [64, 32],
            edge: 32,
            transposed: true,
        },
        "norm" => Operator::NormPrelu(Shape::new(1, 32, 64, 64, 64)),
        "loss" => Operator::DiceFocal(Shape::new(1, 4, 64, 64, 64)),
        _ => return Err(format!("unknown operator: {name}").into()),
    })
}

impl Operator {
    /// Appends it: its result, and the inputs that take gradients.
    fn append(&self, graph: &mut Graph, feeds: &mut Feeds) -> Outcome<(ValueId, Vec<ValueId>)> {
        match *self {
            Self::Conv {
                window,
                channels: [c_in, c_out],
                edge,
                transposed,
            } => {
                let x = feeds.random(graph, "x", Shape::new(1, c_in, edge, edge, edge))?;
                let map = if transposed {
                    [c_out, c_in]
                } else {
                    [c_in, c_out]
                };
                let w = window.weight_shape("bench", map[0], map[1])?;
                let w = feeds.random(graph, "w", w)?;
                let b = feeds.random(graph, "b", Shape::vector(c_out))?;
                let y = match transposed {
                    true => conv_transpose(graph, x, w, Some(b), window, [0; 3])?,
                    false => conv(graph, x, w, Some(b), window)?,
                };
                Ok((y, vec![x, w, b]))
            }
            Self::NormPrelu(shape) => {
                let x = feeds.tensor(graph, "x", common::truth::levels(shape))?;
                let mut vector = |name: &str, value| {
                    feeds.tensor(graph, name, common::truth::filled(shape.c(), value))
                };
                let gamma = vector("gamma", 1.0)?;
                let beta = vector("beta", 0.0)?;
                let slope = vector("slope", SLOPE)?;
                let parameters = NormParameters {
                    gamma,
                    beta,
                    slope: Some(slope),
                };
                let activation = Some(Activation::Prelu);
                let y = instance_norm(graph, x, parameters, common::truth::EPS, activation)?;
                Ok((y, vec![x, gamma, beta, slope]))
            }
            Self::DiceFocal(shape) => {
                let x = feeds.random(graph, "logits", shape)?;
                let target = feeds.tensor(graph, "target", common::truth::labels(shape))?;
                let attributes = LossAttributes {
                    pixel: Some(PixelLoss::Focal { gamma: GAMMA }),
                    ..LossAttributes::dice_ce()
                };
                let loss = segmentation_loss(graph, attributes, &[x, target])?.loss;
                Ok((loss, vec![x]))
            }
        }
    }

    /// The result, and with `backward` the gradient of each input, in their order.
    fn build(&self, graph: &mut Graph, feeds: &mut Feeds, backward: bool) -> Outcome<Vec<ValueId>> {
        let (y, inputs) = self.append(graph, feeds)?;
        let mut results = vec![y];
        if backward {
            let shape = graph.value(y).shape;
            let dy = match self {
                Self::DiceFocal(_) => feeds.tensor(graph, "dy", common::truth::filled(1, 1.0))?,
                _ => feeds.random(graph, "dy", shape)?,
            };
            let gradients = differentiate(graph, y, dy, &inputs)?;
            results.extend(inputs.iter().filter_map(|i| gradients.get(i)));
        }
        Ok(results)
    }

    fn verify(&self, inputs: &[HostTensor<f64>], results: &[HostTensor]) -> Outcome<()> {
        match *self {
            Self::Conv {
                window, transposed, ..
            } => ConvTruth { window, transposed }.verify(inputs, results),
            Self::NormPrelu(shape) => {
                // Where only the forward pass runs, any dy will do for the gradients that are then not looked at.
                let dy = inputs.get(4).unwrap_or(&inputs[0]);
                let tensors = [&inputs[0], &inputs[1], &inputs[2], dy];
                let function = voxseg::reference::activation::Function::Leaky;
                let slopes = inputs[3].data.clone();
                let expected = common::truth::instance_norm(tensors, function, slopes);
                check(shape.voxels(), results, &expected)
            }
            Self::DiceFocal(shape) => {
                let expected =
                    common::truth::segmentation_loss(&inputs[0], &inputs[1], f64::from(GAMMA));
                check(shape.voxels(), results, &expected)
            }
        }
    }
}

/// Of a large tensor one channel goes back to the host: what is timed is the operator, not the copy.
fn glimpse(graph: &mut Graph, value: ValueId) -> Outcome<ValueId> {
    let shape = graph.value(value).shape;
    match shape.n() == 1 && shape.voxels() > 1 {
        true => Ok(slice_channels(graph, value, 0, 1)?),
        false => Ok(value),
    }
}

/// The operator `name`, forward or with its backward pass, after a comparison of its results with the reference.
pub fn prepare(gpu: &Arc<Gpu>, name: &str, backward: bool) -> Outcome<Prepared> {
    let operator = named(name)?;
    let run = |timed: bool| -> Outcome<Run> {
        let (mut graph, mut feeds) = (Graph::new(), Feeds::default());
        let mut outputs = operator.build(&mut graph, &mut feeds, backward)?;
        if timed {
            for output in &mut outputs {
                *output = glimpse(&mut graph, *output)?;
            }
        }
        Run::new(gpu, gpu.profile(), graph, feeds, &outputs)
    };
    let whole = run(false)?;
    let inputs: Vec<_> = whole.feeds.iter().map(|(_, t)| t.to_f64()).collect();
    operator
        .verify(&inputs, &whole.results()?)
        .map_err(|e| format!("{name}: not timed: {e}"))?;
    drop(whole);
    let timed = run(true)?;
    timed.results()?;
    Ok(Prepared {
        run: Box::new(move || timed.wall().map(drop)),
        facts: Default::default(),
    })
}

//! Whether results are right, by the f64 reference. Of a large convolution it computes a few channels at full size.

use voxseg::ops::conv::ConvAttributes;
use voxseg::reference::Tolerance;
use voxseg::reference::conv::{Window, bias_grad, forward, input_grad, weight_grad};
use voxseg::tensor::{HostTensor, Shape};

use crate::protocol::Outcome;

/// Compares results with what was expected, as far as there are results; each is a sum of at most `terms` products.
pub fn check(terms: usize, results: &[HostTensor], expected: &[HostTensor<f64>]) -> Outcome<()> {
    for (at, (found, expected)) in results.iter().zip(expected).enumerate() {
        Tolerance::for_terms(terms).compare(&format!("result {at}"), found, expected)?;
    }
    Ok(())
}

/// A convolution, or the transposed one of the same map.
pub struct ConvTruth {
    /// Of the map; its input is the result where it is transposed.
    pub window: ConvAttributes,
    /// Whether the map is run backwards.
    pub transposed: bool,
}

/// Channels `range` of an activation of one sample.
fn channels<T: Copy>(t: &HostTensor<T>, range: std::ops::Range<usize>) -> HostTensor<T> {
    let voxels = t.shape.voxels();
    HostTensor {
        shape: t.shape.with_c(range.len()),
        data: t.data[range.start * voxels..range.end * voxels].to_vec(),
    }
}

/// The weights from input `i` of its group to the outputs `range`.
fn weights<T: Copy>(
    w: &HostTensor<T>,
    range: std::ops::Range<usize>,
    inputs: std::ops::Range<usize>,
) -> HostTensor<T> {
    let [_, group_in, kd, kh, kw] = w.shape.0;
    let taps = kd * kh * kw;
    let data = range.clone().flat_map(|o| {
        let row = o * group_in * taps;
        w.data[row + inputs.start * taps..row + inputs.end * taps].iter()
    });
    HostTensor {
        shape: Shape::new(range.len(), inputs.len(), kd, kh, kw),
        data: data.copied().collect(),
    }
}

impl ConvTruth {
    fn reference(&self) -> Window {
        Window {
            stride: self.window.stride,
            padding: self.window.padding,
            dilation: self.window.dilation,
            groups: 1,
        }
    }

    /// Channel `o` of the map's output, of extents `size`.
    fn output(
        &self,
        [x, w]: [&HostTensor<f64>; 2],
        bias: Option<&HostTensor<f64>>,
        o: usize,
        size: [usize; 3],
    ) -> HostTensor<f64> {
        let group_in = w.shape.c();
        let first = o * self.window.groups / w.shape.n() * group_in;
        let x = channels(x, first..first + group_in);
        let bias = bias.map(|b| channels(b, o..o + 1));
        let w = weights(w, o..o + 1, 0..group_in);
        forward(&self.reference(), &x, &w, bias.as_ref(), size)
    }

    /// Channel `i` of the map's input gradient, of extents `size`.
    fn input(
        &self,
        [dy, w]: [&HostTensor<f64>; 2],
        bias: Option<&HostTensor<f64>>,
        i: usize,
        size: [usize; 3],
    ) -> HostTensor<f64> {
        let (group_in, group_out) = (w.shape.c(), w.shape.n() / self.window.groups);
        let first = i / group_in * group_out;
        let outputs = first..first + group_out;
        let bias = bias.map(|b| channels(b, i..i + 1));
        let w = weights(w, outputs.clone(), i % group_in..i % group_in + 1);
        input_grad(
            &self.reference(),
            &channels(dy, outputs),
            &w,
            bias.as_ref(),
            size,
        )
    }

    /// Compares y and, where there are more results, dx, dw and db; the inputs are x, w, b and dy. The first and the last
    /// channel are computed whole.
    pub fn verify(&self, inputs: &[HostTensor<f64>], results: &[HostTensor]) -> Outcome<()> {
        let [x, w, b, rest @ ..] = inputs else {
            return Err("a convolution has three inputs".into());
        };
        let compare = |found: HostTensor, expected: HostTensor<f64>, terms: usize| {
            check(terms, &[found], &[expected])
        };
        let terms = w.shape.len() / w.shape.n().min(w.shape.c());
        let y = &results[0];
        for c in [0, y.shape.c() - 1] {
            let size = y.shape.spatial();
            let expected = match self.transposed {
                true => self.input([x, w], Some(b), c, size),
                false => self.output([x, w], Some(b), c, size),
            };
            compare(channels(y, c..c + 1), expected, terms)?;
        }
        let ([dy], [_, dx, dw, db]) = (rest, results) else {
            return Ok(());
        };
        for c in [0, dx.shape.c() - 1] {
            let size = dx.shape.spatial();
            let expected = match self.transposed {
                true => self.output([dy, w], None, c, size),
                false => self.input([dy, w], None, c, size),
            };
            compare(channels(dx, c..c + 1), expected, terms)?;
        }
        let [n, group_in, kd, kh, kw] = w.shape.0;
        let group_out = n / self.window.groups;
        let pair = Shape::new(1, 1, kd, kh, kw);
        let (map_x, map_dy) = if self.transposed { (dy, x) } else { (x, dy) };
        for (o, i) in [(0, 0), (n - 1, group_in - 1)] {
            let from = o / group_out * group_in + i;
            let x = channels(map_x, from..from + 1);
            let dy = channels(map_dy, o..o + 1);
            let expected = weight_grad(&self.reference(), &x, &dy, pair);
            let found = weights(dw, o..o + 1, i..i + 1);
            compare(found, expected, map_dy.shape.voxels())?;
        }
        compare(db.clone(), bias_grad(dy), dy.shape.voxels())
    }
}

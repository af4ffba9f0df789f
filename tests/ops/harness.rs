//! Runs one operator on the device and compares it, forward and backward, with the f64 reference.
//!
//! Each case runs plain, and embedded, where activations are slices of larger tensors with NaN around them and
//! outputs are produced inside a concatenation between canaries. Memory is dirtied with NaN before the run that
//! counts, so an element that a kernel forgets to write or wrongly reads shows. Both run once more with the activations
//! stored as f16, within the tolerance that storage alone explains.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::gpu::{AdapterClass, DeviceProfile, Gpu, GpuOptions};
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, differentiate};
use voxseg::ops::layout::{concat, convert, slice_channels};
use voxseg::ops::{Operator, ValueId};
use voxseg::reference::Tolerance;
use voxseg::tensor::{Element, HostTensor, Shape};

use crate::fixtures::Stored;
use crate::kernels::assert_listed;

/// The one device of this test binary. Without an adapter the tests fail and say what to install.
pub fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(
        || match pollster::block_on(Gpu::open(&GpuOptions::default())) {
            Ok(gpu) => gpu,
            Err(error) => panic!("{error}"),
        },
    )
    .clone()
}

/// The same adapter with bounds checks: what a kernel reads outside of its bindings is not what lies there.
pub fn checked_gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    let options = GpuOptions {
        checked: true,
        ..GpuOptions::default()
    };
    let open = || pollster::block_on(Gpu::open(&options)).unwrap_or_else(|e| panic!("{e}"));
    GPU.get_or_init(open).clone()
}

/// Numbers drawn evenly from [-1, 1], rounded to f32 so that the reference sees what the device sees.
pub fn random(shape: Shape, seed: u64) -> HostTensor<f64> {
    random_in(shape, seed, -1.0, 1.0)
}

/// Numbers drawn evenly from [low, high], rounded to f32.
pub fn random_in(shape: Shape, seed: u64, low: f32, high: f32) -> HostTensor<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    HostTensor {
        shape,
        data: (0..shape.len())
            .map(|_| f64::from(rng.random_range(low..=high)))
            .collect(),
    }
}

/// The nearest numbers that f16 has, for functions with kinks or ties: on which side a number lies must not depend on how
/// it is stored.
pub fn halves(mut tensor: HostTensor<f64>) -> HostTensor<f64> {
    for v in tensor.data.iter_mut().filter(|v| **v != 0.0) {
        let step = (v.abs().log2().floor() - 10.0).exp2();
        *v = (*v / step).round() * step;
    }
    tensor
}

/// A fixture's tensor; shapes of fewer than five extents are filled up with 1 at the end.
pub fn stored(tensor: &Stored) -> HostTensor<f64> {
    let mut extents = [1; 5];
    extents[..tensor.shape.len()].copy_from_slice(&tensor.shape);
    HostTensor {
        shape: Shape(extents),
        data: tensor.data.iter().map(|&v| f64::from(v)).collect(),
    }
}

/// The gradient of each output, where it has one, and which inputs want theirs.
pub type Upstream<'a> = (&'a [Option<HostTensor<f64>>], &'a [bool]);

/// One operator on given inputs.
pub struct Case {
    /// Printed with every figure.
    pub name: String,
    /// The operator.
    pub op: Arc<dyn Operator>,
    /// Its inputs; those marked `true` are activations, which also run as slices of larger tensors.
    pub inputs: Vec<(HostTensor<f64>, bool)>,
    /// Kernel variants to force, by family.
    pub variants: Vec<(&'static str, &'static str)>,
    /// The class of adapter whose kernels are taken, where that is not the device's own.
    pub class: Option<AdapterClass>,
    /// The most bytes that a dispatch may bind of a buffer, where that is less than the device allows.
    pub binding_limit: Option<u64>,
    /// Dispatches of the last run.
    pub dispatches: Cell<usize>,
    /// How activations are stored, one run each.
    storage: Vec<Element>,
}

impl Case {
    /// A case with the variant that the device would choose.
    pub fn new(
        name: impl Into<String>,
        op: impl Operator + 'static,
        inputs: Vec<(HostTensor<f64>, bool)>,
    ) -> Self {
        Self::of(name, Arc::new(op), inputs)
    }

    /// [`Case::new`] of an operator that is shared.
    pub fn of(
        name: impl Into<String>,
        op: Arc<dyn Operator>,
        inputs: Vec<(HostTensor<f64>, bool)>,
    ) -> Self {
        Self {
            name: name.into(),
            op,
            inputs,
            variants: Vec::new(),
            class: None,
            binding_limit: None,
            dispatches: Cell::new(0),
            storage: vec![Element::F32, Element::F16],
        }
    }

    /// The same case without its run in f16: for numbers of which f16 loses what the case is about.
    pub fn in_f32(mut self) -> Self {
        self.storage = vec![Element::F32];
        self
    }

    /// The same case without its run in f32.
    pub fn in_f16(mut self) -> Self {
        self.storage = vec![Element::F16];
        self
    }

    /// The same case with a variant forced.
    pub fn with_variant(mut self, family: &'static str, variant: &'static str) -> Self {
        self.variants.push((family, variant));
        self.name = format!("{} [{variant}]", self.name);
        self
    }

    /// The same case with the kernels that adapters of `class` get.
    pub fn of_class(mut self, class: AdapterClass) -> Self {
        self.class = Some(class);
        self.name = format!("{} [{class:?}]", self.name);
        self
    }

    fn profile(&self) -> DeviceProfile {
        let mut profile = gpu().profile().clone();
        profile.class = self.class.unwrap_or(profile.class);
        let forced: BTreeMap<String, String> = self
            .variants
            .iter()
            .map(|&(f, v)| (f.to_owned(), v.to_owned()))
            .collect();
        profile.forced_variants = forced;
        profile.max_binding = self.binding_limit.unwrap_or(profile.max_binding);
        profile
    }

    /// Compares the outputs with `expected`, plain and embedded.
    pub fn check_forward(&self, expected: &[HostTensor<f64>], tolerance: Tolerance) {
        self.check("output", None, expected, tolerance);
    }

    fn check(
        &self,
        what: &str,
        backward: Option<Upstream<'_>>,
        expected: &[HostTensor<f64>],
        tolerance: Tolerance,
    ) {
        for &stored in &self.storage {
            for embed in [false, true] {
                let found = self.run_stored(stored, embed, backward);
                let (what, tolerance) = match stored {
                    Element::F32 => (what.to_owned(), tolerance),
                    Element::F16 => (format!("{what} in f16"), tolerance.with_f16_storage()),
                };
                compare(&self.name, embed, &what, &found, expected, tolerance);
            }
        }
    }

    /// Compares the gradients of the inputs for the upstream gradients `dys` (one for each output; `None` for an
    /// output that nothing depends on) with `expected`, one for each input (`None`: not compared).
    pub fn check_backward(
        &self,
        dys: &[Option<HostTensor<f64>>],
        expected: &[Option<HostTensor<f64>>],
        tolerance: Tolerance,
    ) {
        let wanted: Vec<bool> = expected.iter().map(Option::is_some).collect();
        let list: Vec<HostTensor<f64>> = expected.iter().flatten().cloned().collect();
        self.check("gradient", Some((dys, &wanted)), &list, tolerance);
    }

    /// The outputs, or with upstream gradients the gradients of the wanted inputs.
    pub fn run(&self, embed: bool, backward: Option<Upstream<'_>>) -> Vec<HostTensor> {
        self.run_stored(Element::F32, embed, backward)
    }

    fn run_stored(
        &self,
        stored: Element,
        embed: bool,
        backward: Option<Upstream<'_>>,
    ) -> Vec<HostTensor> {
        let mut graph = Graph::new();
        let mut feeds: Vec<(ValueId, HostTensor)> = Vec::new();
        let inputs: Vec<ValueId> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, (t, view))| {
                let stored = if *view { stored } else { Element::F32 };
                let embed = embed && *view;
                feed(&mut graph, &format!("x{i}"), t, (stored, embed), &mut feeds)
            })
            .collect();
        let outputs = graph.node(self.op.clone(), &inputs).unwrap();
        let results = match backward {
            None => outputs,
            Some((dys, wanted)) => {
                let mut found: BTreeMap<ValueId, ValueId> = BTreeMap::new();
                let sources: Vec<ValueId> = inputs
                    .iter()
                    .zip(wanted)
                    .filter(|(_, w)| **w)
                    .map(|(i, _)| *i)
                    .collect();
                for (k, (dy, y)) in dys.iter().zip(&outputs).enumerate() {
                    let Some(dy) = dy else { continue };
                    let form = (graph.value(*y).element, embed);
                    let seed = feed(&mut graph, &format!("dy{k}"), dy, form, &mut feeds);
                    found.extend(differentiate(&mut graph, *y, seed, &sources).unwrap());
                }
                sources.iter().map(|s| found[s]).collect()
            }
        };
        self.execute(graph, results, feeds, embed)
    }

    fn execute(
        &self,
        mut graph: Graph,
        results: Vec<ValueId>,
        mut feeds: Vec<(ValueId, HostTensor)>,
        embed: bool,
    ) -> Vec<HostTensor> {
        let mut fetched = results.clone();
        let shapes: Vec<Shape> = results.iter().map(|&r| graph.value(r).shape).collect();
        if embed {
            for (k, result) in fetched.iter_mut().enumerate() {
                let canary = HostTensor {
                    shape: shapes[k].with_c(1),
                    data: vec![7.5; shapes[k].with_c(1).len()],
                };
                let id = graph.input(&format!("canary{k}"), canary.shape).unwrap();
                feeds.push((id, canary));
                let stored = graph.value(*result).element;
                let id = convert(&mut graph, id, stored).unwrap();
                *result = concat(&mut graph, &[id, *result, id]).unwrap();
            }
        }
        for result in &mut fetched {
            *result = convert(&mut graph, *result, Element::F32).unwrap();
        }
        let program =
            Program::compile(graph, &fetched, &self.profile(), ProgramOptions::default()).unwrap();
        assert_listed(&program);
        self.dispatches.set(program.dispatch_count());
        let gpu = match self.binding_limit {
            Some(_) => checked_gpu(),
            None => gpu(),
        };
        let mut parameters = Parameters::new(gpu, 0);
        let executor = Executor::new(program, &mut parameters).unwrap();
        let dirty: Vec<(ValueId, Vec<f32>)> = feeds
            .iter()
            .map(|(id, t)| (*id, vec![f32::NAN; t.data.len()]))
            .collect();
        let outputs = pollster::block_on(async {
            let views: Vec<(ValueId, &[f32])> =
                dirty.iter().map(|(id, d)| (*id, d.as_slice())).collect();
            executor.run(&views).await.unwrap();
            executor.fetch().await.unwrap();
            let views: Vec<(ValueId, &[f32])> = feeds
                .iter()
                .map(|(id, t)| (*id, t.data.as_slice()))
                .collect();
            executor.run(&views).await.unwrap();
            executor.fetch().await.unwrap().unwrap()
        });
        match embed {
            false => outputs,
            true => outputs
                .into_iter()
                .zip(shapes)
                .map(|(o, shape)| self.cut_canaries(&o, shape))
                .collect(),
        }
    }

    fn cut_canaries(&self, outer: &HostTensor, shape: Shape) -> HostTensor {
        let mut inner = HostTensor::zeros(shape);
        let (voxels, per_sample) = (shape.voxels(), shape.per_sample());
        for n in 0..shape.n() {
            let sample = &outer.data[n * (per_sample + 2 * voxels)..][..per_sample + 2 * voxels];
            let canaries = sample[..voxels]
                .iter()
                .chain(&sample[voxels + per_sample..]);
            assert!(
                canaries.clone().all(|&v| v == 7.5),
                "{}: wrote outside its output",
                self.name
            );
            inner.data[n * per_sample..][..per_sample]
                .copy_from_slice(&sample[voxels..][..per_sample]);
        }
        inner
    }
}

/// An input as it is stored; embedded, it is a slice of channels between channels of NaN.
fn feed(
    graph: &mut Graph,
    name: &str,
    tensor: &HostTensor<f64>,
    (stored, embed): (Element, bool),
    feeds: &mut Vec<(ValueId, HostTensor)>,
) -> ValueId {
    let small = tensor.to_f32();
    if !embed {
        let id = graph.input(name, tensor.shape).unwrap();
        feeds.push((id, small));
        return convert(graph, id, stored).unwrap();
    }
    let (c, voxels) = (tensor.shape.c(), tensor.shape.voxels());
    let outer = tensor.shape.with_c(c + 2);
    let id = graph.input(name, outer).unwrap();
    let mut data = vec![f32::NAN; outer.len()];
    for n in 0..outer.n() {
        data[(n * (c + 2) + 1) * voxels..][..c * voxels]
            .copy_from_slice(&small.data[n * c * voxels..][..c * voxels]);
    }
    feeds.push((id, HostTensor { shape: outer, data }));
    let id = convert(graph, id, stored).unwrap();
    slice_channels(graph, id, 1, c).unwrap()
}

fn compare(
    name: &str,
    embed: bool,
    what: &str,
    found: &[HostTensor],
    expected: &[HostTensor<f64>],
    tolerance: Tolerance,
) {
    assert_eq!(found.len(), expected.len(), "{name}: number of results");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let label = format!("{name} {what} {i}{}", if embed { " embedded" } else { "" });
        match tolerance.compare(&label, f, e) {
            Ok(d) => println!(
                "{label}: {:.3} of the tolerance, nmse {:.1e}",
                d.used, d.nmse
            ),
            Err(text) => panic!("{text}"),
        }
    }
}

/// Compares an analytic gradient of the reference with central differences of sum(forward * dy), for every element
/// of `x`. `forward` gives the outputs for a changed x.
pub fn check_reference_gradient(
    name: &str,
    x: &HostTensor<f64>,
    dx: &HostTensor<f64>,
    dy: &HostTensor<f64>,
    forward: impl Fn(&HostTensor<f64>) -> HostTensor<f64>,
) {
    const STEP: f64 = 1e-5;
    let loss = |x: &HostTensor<f64>| -> f64 {
        forward(x)
            .data
            .iter()
            .zip(&dy.data)
            .map(|(y, d)| y * d)
            .sum()
    };
    for i in 0..x.data.len() {
        let mut moved = x.clone();
        moved.data[i] = x.data[i] + STEP;
        let up = loss(&moved);
        moved.data[i] = x.data[i] - STEP;
        let numeric = (up - loss(&moved)) / (2.0 * STEP);
        let error = (numeric - dx.data[i]).abs();
        assert!(
            error <= 1e-6 * (1.0 + numeric.abs()),
            "{name}: d/dx[{i}] is {} by the rule, {numeric} by differences",
            dx.data[i]
        );
    }
}

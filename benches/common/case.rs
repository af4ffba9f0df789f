//! A graph to time, with what tells whether it is right.

use std::sync::Arc;

use voxseg::gpu::{DeviceProfile, Gpu};
use voxseg::graph::Graph;
use voxseg::ops::ValueId;
use voxseg::reference::Tolerance;
use voxseg::tensor::HostTensor;

use super::{Feeds, Outcome, Run};

type Build = Box<dyn Fn(&mut Graph, &mut Feeds) -> Outcome<Vec<ValueId>>>;
type Reference = Box<dyn Fn(&[HostTensor<f64>]) -> Vec<HostTensor<f64>>>;

/// One graph to time. It is compared with a twin, a reference or both before that.
pub struct Case {
    /// Printed with every figure.
    pub name: String,
    build: Build,
    tolerance: Tolerance,
    twin: Option<(&'static str, &'static str)>,
    reference: Option<Reference>,
}

impl Case {
    /// A case whose results may differ by `tolerance`; `build` appends the graph and names the results.
    pub fn new(
        name: impl Into<String>,
        tolerance: Tolerance,
        build: impl Fn(&mut Graph, &mut Feeds) -> Outcome<Vec<ValueId>> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            build: Box::new(build),
            tolerance,
            twin: None,
            reference: None,
        }
    }

    /// Compares with `variant` of `family` on the same device, and reports the ratio of the times.
    pub fn with_twin(mut self, family: &'static str, variant: &'static str) -> Self {
        self.twin = Some((family, variant));
        self
    }

    /// Compares with the results that `reference` computes from the inputs, in the order they were fed.
    pub fn with_reference(
        mut self,
        reference: impl Fn(&[HostTensor<f64>]) -> Vec<HostTensor<f64>> + 'static,
    ) -> Self {
        self.reference = Some(Box::new(reference));
        self
    }

    fn run(&self, gpu: &Arc<Gpu>, profile: &DeviceProfile) -> Outcome<Run> {
        let (mut graph, mut feeds) = (Graph::new(), Feeds::default());
        let outputs = (self.build)(&mut graph, &mut feeds)?;
        Run::new(gpu, profile, graph, feeds, &outputs)
    }

    /// The run with the device's choice of kernels, verified, and its twin.
    pub fn verified(&self, gpu: &Arc<Gpu>) -> Outcome<(Run, Option<Run>)> {
        let run = self.run(gpu, gpu.profile())?;
        let found = run.results()?;
        let mut truths = Vec::new();
        if let Some(reference) = &self.reference {
            let inputs: Vec<_> = run.feeds.iter().map(|(_, t)| t.to_f64()).collect();
            truths.push(reference(&inputs));
        }
        let mut twin = None;
        if let Some((family, variant)) = self.twin {
            let mut profile = gpu.profile().clone();
            profile
                .forced_variants
                .insert(family.into(), variant.into());
            let other = self.run(gpu, &profile)?;
            truths.push(other.results()?.iter().map(HostTensor::to_f64).collect());
            twin = Some(other);
        }
        if truths.is_empty() {
            return Err("there is nothing to compare it with".into());
        }
        for expected in truths {
            for (found, expected) in found.iter().zip(&expected) {
                self.tolerance.compare(&self.name, found, expected)?;
            }
        }
        Ok((run, twin))
    }
}

//! What a run will hold in device memory, known before anything is allocated.

use crate::graph::Program;

/// Bytes of device memory that a training run needs. Staging buffers of the host, a copy or two of a batch, are not in
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedMemory {
    /// The trained parameters.
    pub parameter_bytes: u64,
    /// What the optimiser keeps beside them, with the statistics that norms keep.
    pub optimizer_bytes: u64,
    /// Activations, gradients and scratch space of a step.
    pub activation_bytes: u64,
    /// A batch: images, labels, weights.
    pub batch_bytes: u64,
    /// What validation adds: one window and its activations.
    pub validation_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

impl PlannedMemory {
    /// That of `step`, with `validation_bytes` more for predicting one window.
    pub(crate) fn of(step: &Program, validation_bytes: u64) -> Self {
        let sums = step.summary();
        Self {
            parameter_bytes: sums.parameter_bytes,
            optimizer_bytes: sums.state_bytes,
            activation_bytes: sums.slot_bytes,
            batch_bytes: sums.input_bytes,
            validation_bytes,
            total_bytes: sums.total_bytes + validation_bytes,
        }
    }
}

impl std::fmt::Display for PlannedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:.1} MiB (parameters {:.1}, optimiser {:.1}, activations and gradients {:.1}, batch {:.1}, validation {:.1})",
            mib(self.total_bytes),
            mib(self.parameter_bytes),
            mib(self.optimizer_bytes),
            mib(self.activation_bytes),
            mib(self.batch_bytes),
            mib(self.validation_bytes)
        )
    }
}

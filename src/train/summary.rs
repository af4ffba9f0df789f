//! What a run is going to do, in words.

use std::fmt;

use super::Fold;
use crate::dataset::Plan;
use crate::run::family_of;
use crate::words::counted;

/// The decisions of a run that a user wants to see before it takes hours.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Patch, spacing, network.
    pub plan: Plan,
    /// The fold that is held out.
    pub fold: Fold,
    /// Cases that train.
    pub training: usize,
    /// Cases that are held out.
    pub validation: usize,
    /// Steps of the optimiser.
    pub steps: usize,
}

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        let voxels = |extent: [usize; 3]| extent.map(|n| n.to_string()).join(" x ");
        let spacing = plan.preprocessing.spacing;
        let spacing = spacing.map(|s| format!("{s:.4}"));
        let spacing = spacing.map(|s| s.trim_end_matches('0').trim_end_matches('.').to_owned());
        let features: Vec<String> = plan
            .topology
            .features
            .iter()
            .map(usize::to_string)
            .collect();
        writeln!(
            f,
            "data: {}; {} to train on, {} held out (fold {})",
            plan.data_text(),
            counted(self.training, "case"),
            self.validation,
            self.fold
        )?;
        writeln!(
            f,
            "patch: {} voxels (D, H, W) of {} mm, {} a step; the median case has {}",
            voxels(plan.patch),
            spacing.join(" x "),
            plan.batch,
            voxels(plan.median_shape)
        )?;
        write!(
            f,
            "network: {}, planned for {} stages of {} features; {} steps (--steps of a new run sets them)",
            family_of(plan),
            plan.topology.stages(),
            features.join(", "),
            self.steps
        )
    }
}

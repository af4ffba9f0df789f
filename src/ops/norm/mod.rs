//! Normalisation: statistics and their application, with the activation fused in.
//!
//! [`NormStats`] keeps two numbers for each channel, [`NormApply`] can be run again from x at the cost of one pass: so a
//! normalised, activated tensor need not be kept for the backward part.

mod apply;
mod backward;
mod build;
mod deviation;
mod kind;
mod layer;
mod layer_backward;
mod running;
mod select;
mod stats;
mod words;

pub use apply::NormApply;
pub use backward::NormBackward;
pub use build::{
    NormParameters, RunningStats, adaptive_instance_norm, batch_norm_eval, batch_norm_train,
    conditional_instance_norm, group_norm, instance_norm,
};
pub use deviation::{MeanDeviation, MeanDeviationBackward};
pub use kind::NormKind;
pub use layer::{LayerApply, LayerStats, layer_norm};
pub use layer_backward::{LayerInputGrad, LayerParameterGrad};
pub use running::{Rstd, RunningUpdate};
pub use select::{SelectRows, SelectRowsBackward, select_rows};
pub use stats::NormStats;
pub use words::VARIANTS;

use crate::gpu::{Constants, Kernel};
use crate::ops::activation::Activation;
use crate::ops::reduce::{FAN, MAP_STEPS, SUM_STEPS, specialisations, with};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let kinds: Vec<u32> = std::iter::once(0)
        .chain(Activation::ALL.map(Activation::kind))
        .collect();
    let of_kind = |steps: u32| -> Vec<Constants> {
        let of = |&k: &u32| with(specialisations(steps), "KIND", k);
        kinds.iter().flat_map(of).collect()
    };
    let map = [0, 1].map(|in_place| with(of_kind(MAP_STEPS), "IN_PLACE", in_place));
    let map = map.concat();
    let small: Vec<Constants> = kinds.iter().map(|&k| vec![("KIND", k)]).collect();
    let per_sample = [0, 1].map(|own| with(small.clone(), "PER_SAMPLE", own));
    let merge: Vec<Constants> = [1, 4].map(|w| vec![("Pack", w), ("FAN", FAN)]).to_vec();
    let mut list = vec![
        (&stats::KERNEL, specialisations(SUM_STEPS)),
        (&stats::MERGE, merge),
        (
            &stats::FINISH,
            [0, 1].map(|d| vec![("DEVIATION", d)]).to_vec(),
        ),
        (&apply::KERNEL, map.clone()),
        (&backward::SUMS, of_kind(SUM_STEPS)),
        (&backward::COEFFICIENTS, small),
        (&backward::PARAMETERS, per_sample.concat()),
        (&backward::DX, map),
        (&deviation::GRADIENT, specialisations(MAP_STEPS)),
        (&select::KERNEL, vec![vec![]]),
        (&select::BACKWARD, vec![vec![]]),
        (&running::UPDATE, vec![vec![]]),
        (&running::RSTD, vec![vec![]]),
    ];
    list.extend(words::kernels());
    list.extend(layer_kernels());
    list
}

/// Those over the channels of each voxel.
fn layer_kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let both = |list: Vec<Constants>| [0, 1].map(|v| with(list.clone(), "IN_PLACE", v)).concat();
    vec![
        (&layer::STATS, layer::column_specialisations()),
        (&layer::APPLY, both(specialisations(MAP_STEPS))),
        (
            &layer_backward::INPUT,
            both(layer::column_specialisations()),
        ),
        (&layer_backward::PARAMETERS, specialisations(SUM_STEPS)),
    ]
}

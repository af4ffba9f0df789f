//! `voxseg inspect DATASET --gradient-profile`: where gradients vanish.

use std::num::NonZeroUsize;
use std::path::Path;

use serde_json::json;

use super::InspectArgs;
use super::subject::is_dataset;
use crate::cli::numbers::PatchExtent;
use crate::cli::train::is_2d;
use crate::cli::{CliError, Common, Output};
use crate::fsio::write_atomic;
use crate::gpu::Gpu;
use crate::report::gradients::VANISHED;
use crate::train::{Event, TrainConfig, TrainError, gradient_profile_of_dataset};

/// Trains the network that would be planned for `dataset`, prints the profile and draws it into `picture`.
pub(super) fn run(
    dataset: &Path,
    picture: &Path,
    args: &InspectArgs,
    common: &Common,
    output: &Output,
) -> Result<(), CliError> {
    if !is_dataset(dataset) {
        let problem = "no data set; a gradient profile is measured on the cases of one";
        return Err(CliError::input(dataset, problem));
    }
    let config = configuration(dataset, args)?;
    let gpu = pollster::block_on(Gpu::open(&common.gpu_options()))?;
    output.news(&format!("adapter: {}", gpu.describe()));
    let bar = output.progress(0, 0, "cases");
    let hear = |event| {
        if let Event::Inspected(done, of) | Event::Prepared(done, of) = event {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        }
    };
    let measured = gradient_profile_of_dataset(dataset, &config, args.iterations, gpu, &hear);
    let profile = pollster::block_on(measured)?;
    bar.finish_and_clear();
    let svg = profile.to_svg(VANISHED).map_err(TrainError::from)?;
    write_atomic(picture, |file| file.write_all(svg.as_bytes())).map_err(|source| {
        CliError::Io {
            path: picture.to_owned(),
            action: "written",
            source,
        }
    })?;
    let vanishing = profile.vanishing(VANISHED).map(|layer| &layer.layer);
    let document = json!({
        "iterations": profile.iterations,
        "layers": profile.layers,
        "threshold": VANISHED,
        "supervise_after": vanishing,
        "picture": picture,
    });
    let text = profile.to_text(VANISHED);
    let text = format!("{text}picture in {}\n", picture.display());
    output.result(&text, &document)
}

/// The default configuration with the patch and the batch of the flags.
fn configuration(dataset: &Path, args: &InspectArgs) -> Result<TrainConfig, CliError> {
    let mut config = TrainConfig::default();
    config.batch.size = args.batch.map(NonZeroUsize::get);
    if let Some(patch) = args.patch {
        let is_plane = matches!(patch, PatchExtent::Plane(_)) && is_2d(dataset)?;
        config.batch.patch = Some(patch.extent(is_plane).map_err(CliError::Usage)?);
    }
    Ok(config)
}

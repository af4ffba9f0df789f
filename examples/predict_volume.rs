//! Segments one image with a trained network; the result has exactly the geometry of the image:
//!
//! `cargo run --release --example predict_volume -- runs/atrium scan.nii.gz segmentation.nii.gz`
//!
//! A network of several channels takes as many images, in the order of its dataset.json.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use voxseg::dataset::Case;
use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::infer::{InferError, InferenceOptions, Model, Weights};
use voxseg::run::mirror_axes;
use voxseg::volume::write_labels;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [run, images @ .., output] = &arguments[..] else {
        return usage();
    };
    if images.is_empty() {
        return usage();
    }
    match segment(run, images, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            // 2 where another RUN or another image would do, 1 where it is the program's fault or the machine's.
            let error = error.downcast_ref::<InferError>();
            let is_users = error.is_some_and(InferError::is_users_fault);
            ExitCode::from(if is_users { 2 } else { 1 })
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: predict_volume RUN IMAGE... OUTPUT");
    ExitCode::from(2)
}

fn segment(run: &Path, images: &[PathBuf], output: &Path) -> Result<(), Box<dyn Error>> {
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default()))?;
    let model = Model::load(run, Weights::Final, gpu)?;
    let case = Case {
        id: output.display().to_string(),
        images: images.to_vec(),
        label: None,
    };
    // Averaging over mirror images costs up to 8 times the work; leave it out for a quick look.
    let options = InferenceOptions {
        mirror_axes: mirror_axes(model.plan()),
        ..InferenceOptions::default()
    };
    let labels = pollster::block_on(model.segment(&case, &options, &mut |patch, of| {
        eprint!("\rpatch {patch} of {of}");
    }))?;
    eprintln!();
    write_labels(output, &labels)?;
    println!("{}", output.display());
    Ok(())
}

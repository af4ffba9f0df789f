//! `voxseg models`: the networks that there are.

use clap::Args;
use serde_json::{Value, json};

use super::numbers::grouped;
use super::{CliError, Output};
use crate::models::{Counts, MODELS, Model, Task};
use crate::table::{Align, Table};
use crate::words::extent;

/// Arguments of `voxseg models`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  voxseg models
  voxseg models --json
  voxseg train DATASET -o RUN --model vnet
  voxseg classify train IMAGES -o RUN --model mobilenet_v2
  voxseg inspect --network mobilenet_v2

Parameters and multiply-adds (of convolutions and matrix products, one input at inference) are counted in the network as
published. `train` says which can be trained on a data set: `train --model NAME` makes them for its channels, labels and
patch. Classifiers tell classes of whole images: `classify train` trains them.")]
pub struct ModelsArgs {}

/// Runs the verb.
///
/// # Errors
/// [`CliError::Model`] where a network contradicts itself.
pub fn run(_: &ModelsArgs, output: &Output) -> Result<(), CliError> {
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("what", Align::Left),
        ("source", Align::Left),
        ("task", Align::Left),
        ("train", Align::Left),
        ("input", Align::Left),
        ("classes", Align::Right),
        ("parameters", Align::Right),
        ("10^9 MAdds", Align::Right),
    ]);
    let mut documents = Vec::with_capacity(MODELS.len());
    for model in MODELS {
        let counts = model.counts()?;
        let form = model.published;
        table.row([
            model.name.to_owned(),
            model.title.to_owned(),
            model.source.to_owned(),
            task_name(model.task).to_owned(),
            if is_trainable(model) { "yes" } else { "" }.to_owned(),
            format!("{} x {}", form.channels, extent(form.extent)),
            form.classes.to_string(),
            grouped(counts.parameters as u64),
            format!("{:.2}", counts.madds / 1e9),
        ]);
        documents.push(document(model, counts));
    }
    output.result(&table.to_string(), &json!({ "models": documents }))
}

fn task_name(task: Task) -> &'static str {
    match task {
        Task::Segmentation => "segmentation",
        Task::Classification => "classification",
    }
}

fn is_trainable(model: &Model) -> bool {
    model.of_blueprint.is_some()
}

fn document(model: &Model, counts: Counts) -> Value {
    json!({
        "name": model.name,
        "title": model.title,
        "source": model.source,
        "task": task_name(model.task),
        "trainable": is_trainable(model),
        "in_channels": model.published.channels,
        "classes": model.published.classes,
        "extent": model.published.extent,
        "parameters": counts.parameters,
        "madds": counts.madds,
    })
}

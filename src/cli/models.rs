//! `voxseg models`: the networks that there are.

use clap::Args;
use serde_json::{Value, json};

use super::numbers::grouped;
use super::{CliError, Output};
use crate::models::{Counts, Key, MODELS, Model, ModelError, Task, model};
use crate::table::{Align, Table};
use crate::words::extent;

/// Arguments of `voxseg models`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  voxseg models
  voxseg models vnet
  voxseg models --json
  voxseg train DATASET -o RUN --model vnet
  voxseg classify train IMAGES -o RUN --model mobilenet_v2
  voxseg inspect --network mobilenet_v2

Parameters and multiply-adds (of convolutions and matrix products, one input at inference) are counted in the network as \
published. `train --model NAME` makes it for the channels, labels and patch of a data set, and as the keys of [network] in \
a configuration say that `voxseg models NAME` names: others it refuses. Classifiers tell classes of whole images: \
`classify train` trains them.")]
pub struct ModelsArgs {
    /// One network, of which more is told [default: a list of all].
    pub name: Option<String>,
}

/// Keys of a configuration in a row.
const KEYS_A_ROW: usize = 6;

/// A network with its size.
type Counted = (&'static Model, Counts);

/// Runs the verb.
///
/// # Errors
/// [`CliError::Model`] where there is no network of that name.
pub fn run(args: &ModelsArgs, output: &Output) -> Result<(), CliError> {
    let chosen = match &args.name {
        None => MODELS.to_vec(),
        Some(name) => vec![model(name)?],
    };
    let counted = chosen
        .into_iter()
        .map(|model| Ok((model, model.counts()?)))
        .collect::<Result<Vec<Counted>, ModelError>>()?;
    let text = match (&args.name, &counted[..]) {
        (Some(_), [one]) => details(one).to_string(),
        _ => lists(&counted),
    };
    let documents: Vec<Value> = counted.iter().map(document).collect();
    output.result(&text, &json!({ "models": documents }))
}

/// What is done with a network, by its task and whether it follows plans.
const USES: [(Task, bool, &str); 3] = [
    (
        Task::Segmentation,
        true,
        "Segmentation, for `voxseg train --model NAME`",
    ),
    (
        Task::Segmentation,
        false,
        "Segmentation as published, for `voxseg inspect --network NAME`",
    ),
    (
        Task::Classification,
        false,
        "Classes of whole images, for `voxseg classify train --model NAME`",
    ),
];

/// A table for each use.
fn lists(counted: &[Counted]) -> String {
    let tables = USES.map(|(task, is_planned, heading)| {
        let own = |(model, _): &&Counted| (model.task, is_trainable(model)) == (task, is_planned);
        let rows = counted.iter().filter(own);
        format!("{heading}:\n\n{}", list(rows))
    });
    tables.join("\n")
}

fn list<'a>(rows: impl Iterator<Item = &'a Counted>) -> Table {
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("source", Align::Left),
        ("input", Align::Left),
        ("classes", Align::Right),
        ("parameters", Align::Right),
        ("10^9 MAdds", Align::Right),
    ]);
    for (model, counts) in rows {
        table.row([
            model.name.to_owned(),
            model.source.to_owned(),
            input(model),
            model.published.classes.to_string(),
            grouped(counts.parameters as u64),
            billions(counts),
        ]);
    }
    table
}

fn details((model, counts): &Counted) -> Table {
    let mut table = Table::new(&[(model.name, Align::Left), ("", Align::Left)]);
    let uses = USES
        .iter()
        .find(|(task, is_planned, _)| (*task, *is_planned) == (model.task, is_trainable(model)));
    for (what, text) in [
        ("what", model.title.to_owned()),
        ("source", model.source.to_owned()),
        ("use", uses.map_or("", |(_, _, heading)| heading).to_owned()),
        ("input as published", input(model)),
        ("classes", model.published.classes.to_string()),
        ("parameters", grouped(counts.parameters as u64)),
        ("10^9 MAdds", billions(counts)),
    ] {
        table.row([what.to_owned(), text]);
    }
    for (row, keys) in followed(model).chunks(KEYS_A_ROW).enumerate() {
        let what = if row == 0 { "follows of [network]" } else { "" };
        table.row([what.to_owned(), keys.join(", ")]);
    }
    table
}

fn input(model: &Model) -> String {
    let form = model.published;
    format!("{} x {}", form.channels, extent(form.extent))
}

fn billions(counts: &Counts) -> String {
    format!("{:.2}", counts.madds / 1e9)
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

/// The keys of `[network]` that it follows.
fn followed(model: &Model) -> Vec<&'static str> {
    let keys = Key::ALL.into_iter().filter(|&key| model.follows(key));
    let mut names: Vec<&str> = keys.map(Key::name).collect();
    // Two are one key, of which some follow all values.
    names.dedup();
    names
}

fn document((model, counts): &Counted) -> Value {
    json!({
        "name": model.name,
        "title": model.title,
        "source": model.source,
        "task": task_name(model.task),
        "trainable": is_trainable(model),
        "follows": followed(model),
        "in_channels": model.published.channels,
        "classes": model.published.classes,
        "extent": model.published.extent,
        "parameters": counts.parameters,
        "madds": counts.madds,
    })
}

//! What a run is made with: every choice made, the images read, the network described.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::data::ImageSet;
use super::description::{architecture, classifier, write_json};
use super::inherit::Inherited;
use super::pictures::{Pictures, Prepared, largest_size, prepare};
use super::{ClassifyConfig, ClassifyError, ClassifyOptions, Description};
use crate::fsio::is_temporary;
use crate::gpu::AdapterClass;
use crate::graph::Graph;
use crate::hash::Fnv;
use crate::models::{Model, Network};
use crate::nn::Mode;
use crate::run::RunFolder;
use crate::tensor::Shape;
use crate::train::{Event, TrainError};
use crate::words::counted;

/// Passed-over files that a warning names.
const NAMED: usize = 3;

/// Channels of a form that only asks for the steps of a network.
const ANY_CHANNELS: usize = 3;

pub(super) struct Setup {
    pub config: ClassifyConfig,
    pub description: Description,
    pub train: Pictures,
    pub validation: Pictures,
    /// A hash of all that decides the numbers.
    pub hash: String,
    /// Which images are trained on and which held out.
    split: Value,
    /// Weights of others to begin with.
    start: Option<Inherited>,
}

fn split_file(folder: &RunFolder) -> PathBuf {
    folder.root().join("split.json")
}

/// The configuration of the run in `folder`, which is resumed, or that of a new one in a folder that has none.
pub(super) fn configuration(
    folder: &RunFolder,
    config: &ClassifyConfig,
    resume: bool,
) -> Result<ClassifyConfig, ClassifyError> {
    if resume {
        let kept = ClassifyConfig::read(&folder.config())?;
        return Ok(ClassifyConfig {
            validation: config.validation.clone().or(kept.validation),
            // Results do not depend on it.
            memory_budget: config.memory_budget.or(kept.memory_budget),
            ..kept
        });
    }
    config.check()?;
    refuse_existing(folder)?;
    Ok(config.clone())
}

/// A run may start in a folder that is new or empty, or holds only what is written before the first step.
fn refuse_existing(folder: &RunFolder) -> Result<(), ClassifyError> {
    if folder.config().exists() {
        return Err(TrainError::RunExists(folder.root().to_owned()).into());
    }
    let made = [
        folder.lock_file(),
        folder.start(),
        folder.kernels(),
        split_file(folder),
        Description::file(folder),
    ];
    let entries = std::fs::read_dir(folder.root());
    for entry in entries.map_err(|e| ClassifyError::io(folder.root(), e))? {
        let entry = entry.map_err(|e| ClassifyError::io(folder.root(), e))?;
        if made.contains(&entry.path()) || is_temporary(&entry.file_name()) {
            continue;
        }
        let name = entry.file_name();
        return Err(TrainError::NotARun {
            path: folder.root().to_owned(),
            reason: format!(
                "it holds {} but no config.toml; give a new or empty folder",
                name.display()
            ),
        }
        .into());
    }
    Ok(())
}

impl Setup {
    /// Reads the images of `data` for `config`, which [`configuration`] gave.
    pub fn of(
        data: &Path,
        folder: &RunFolder,
        config: ClassifyConfig,
        options: &ClassifyOptions<'_>,
        class: AdapterClass,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Self, ClassifyError> {
        let model = classifier(&config.model)?;
        let set = ImageSet::open(data, config.validation.as_deref(), config.seed)?;
        warn_of_others(&set, observe);
        let split = set.to_json();
        let size = size_for(model, &config, &set)?;
        let images = set.train.len() + set.validation.len();
        let mut progress = |done| observe(Event::Prepared(done, images));
        let Prepared {
            train,
            validation,
            content,
        } = prepare(set.train, set.validation, size, &mut progress)?;
        let description = Description {
            model: config.model.clone(),
            classes: set.classes,
            preparation: train.preparation.clone(),
        };
        if options.resume {
            refuse_others(&description, folder)?;
        }
        let supervision = description.network()?.supervision();
        let config = config.with_choices(train.images.len(), size, supervision, class);
        let start = options.from.map(|path| Inherited::from(path, &description));
        Ok(Self {
            hash: hash(&config, &description, [&train, &validation], content),
            start: start.transpose()?,
            config,
            description,
            train,
            validation,
            split,
        })
    }

    /// Writes what a resumed run needs; the configuration last, which says that there is a run.
    pub fn write(&self, folder: &RunFolder) -> Result<(), ClassifyError> {
        // What a run left that ended before its first step must not be taken for that of this one.
        for stale in [folder.start(), folder.kernels()] {
            match std::fs::remove_file(&stale) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(ClassifyError::io(&stale, e));
                }
                _ => {}
            }
        }
        if let Some(start) = &self.start {
            start.write(&folder.start())?;
        }
        write_json(&split_file(folder), &self.split)?;
        self.description.write(folder)?;
        self.config.write(&folder.config())
    }

    pub fn steps(&self) -> usize {
        self.config.steps.unwrap_or(1)
    }

    /// The network with the storage of its activations.
    pub fn network(&self) -> Result<Network, ClassifyError> {
        Ok(self.description.network()?.stored_as(self.config.precision))
    }

    /// The shape of a step's images (N, C, 1, H, W).
    pub fn images(&self) -> Shape {
        self.description.batch(self.batch())
    }

    pub fn batch(&self) -> usize {
        self.config.batch.unwrap_or(1)
    }

    /// What was decided, in words.
    pub fn words(&self) -> String {
        let Description {
            model,
            classes,
            preparation,
        } = &self.description;
        let [height, width] = preparation.size;
        let colours = match preparation.channels {
            1 => "grey",
            _ => "colour",
        };
        let mut text = format!(
            "data: {} {colours} images of {} classes to train on, {} held out\nnetwork: {model} on {height} x {width} pixels, {} a step; {} steps",
            self.train.images.len(),
            classes.len(),
            self.validation.images.len(),
            counted(self.batch(), "image"),
            self.steps(),
        );
        if let Some(start) = &self.start {
            text = format!("{text}\n{}", start.words);
        }
        text
    }
}

fn warn_of_others(set: &ImageSet, observe: &(dyn Fn(Event) + Sync)) {
    let others = &set.left_out;
    if others.is_empty() {
        return;
    }
    let named: Vec<String> = others
        .iter()
        .take(NAMED)
        .map(|path| path.display().to_string())
        .collect();
    let more = match others.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    observe(Event::Warning(format!(
        "left out, no images that can be read: {}{more}",
        named.join(", ")
    )));
}

/// The size that was asked for; else the extent of the largest image, rounded up to what the network can halve, where that is
/// smaller than the published one and the network takes it; else the published one.
fn size_for(
    model: &Model,
    config: &ClassifyConfig,
    set: &ImageSet,
) -> Result<[usize; 2], ClassifyError> {
    if let Some(size) = config.size {
        return Ok(size);
    }
    let [_, height, width] = model.published.extent;
    let (published, classes) = ([height, width], set.classes.len());
    // What belongs to one extent are weights, which others have for the published one.
    let Some(steps) = architecture(model, ANY_CHANNELS, classes, published)?.steps() else {
        return Ok(published);
    };
    let largest = largest_size(&set.train, published)?;
    let size = [0, 1].map(|axis| largest[axis].next_multiple_of(steps[axis + 1].max(1)));
    match takes(model, classes, size) {
        true => Ok(size),
        false => Ok(published),
    }
}

/// Whether the network leaves anything of images as small as that.
fn takes(model: &Model, classes: usize, [height, width]: [usize; 2]) -> bool {
    let build = || {
        let made = architecture(model, ANY_CHANNELS, classes, [height, width])?;
        let mut graph = Graph::new();
        let image = graph.input("image", Shape::new(2, ANY_CHANNELS, 1, height, width))?;
        made.build(&mut graph, image, Mode::Training)?;
        Ok::<(), ClassifyError>(())
    };
    build().is_ok()
}

fn refuse_others(description: &Description, folder: &RunFolder) -> Result<(), ClassifyError> {
    let kept = Description::read(folder)?;
    if kept == *description {
        return Ok(());
    }
    let problem = match kept.classes == description.classes {
        true => "the images are not those that it was begun with".to_owned(),
        false => format!(
            "its classes are {}, those of the data {}",
            kept.classes.join(", "),
            description.classes.join(", ")
        ),
    };
    Err(ClassifyError::OtherData {
        run: folder.root().to_owned(),
        problem,
    })
}

/// A hash of the configuration but for the budget of memory, the pixels and the classes of all images, in their order; not of where they lie.
fn hash(
    config: &ClassifyConfig,
    description: &Description,
    parts: [&Pictures; 2],
    content: u64,
) -> String {
    let config = ClassifyConfig {
        validation: None,
        memory_budget: None,
        ..config.clone()
    };
    let classes = parts.map(|part| -> Vec<usize> { part.images.iter().map(|i| i.class).collect() });
    let text = json!([config, description, classes, content]).to_string();
    format!("{:016x}", Fnv::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Labelled;
    use crate::volume::{Geometry, Image, write_image};

    /// Images of these extents, of two classes.
    fn images(folder: &Path, extents: &[[usize; 2]]) -> ImageSet {
        let of = |(number, &[height, width]): (usize, &[usize; 2])| {
            let path = folder.join(format!("{height} {width}.png"));
            let geometry = Geometry::from_spacing([1, height, width], [1.0; 3]);
            let image = Image::new(geometry, 1, vec![7.0; height * width]).unwrap();
            write_image(&path, &image).unwrap();
            let class = number % 2;
            Labelled { path, class }
        };
        ImageSet {
            classes: ["a", "b"].map(str::to_owned).to_vec(),
            train: extents.iter().enumerate().map(of).collect(),
            validation: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn images_get_the_size_of_the_largest_where_the_network_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let small = images(folder.path(), &[[24, 20], [17, 31]]);
        let large = images(folder.path(), &[[24, 20], [300, 31]]);
        let usual = ClassifyConfig::default();
        for (name, set, expected) in [
            ("mobilenet_v3_small", &small, [24, 31]),
            ("mobilenet_v3_small", &large, [224, 31]),
            // Four poolings leave nothing of 24.
            ("densenet121", &small, [224, 224]),
            ("vit_b32", &small, [224, 224]),
            ("mixer_s16", &large, [224, 224]),
            ("wang8", &small, [227, 227]),
        ] {
            let model = classifier(name).unwrap();
            assert_eq!(size_for(model, &usual, set).unwrap(), expected, "{name}");
            let config = ClassifyConfig {
                size: Some([40, 50]),
                ..usual.clone()
            };
            assert_eq!(size_for(model, &config, set).unwrap(), [40, 50], "{name}");
        }
    }
}

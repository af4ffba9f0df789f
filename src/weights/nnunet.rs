//! Trained models of nnU-Net v2: a folder with plans.json, dataset.json and fold_K/checkpoint_final.pth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::architecture::{Source, axes, network};
use super::error::WeightsError;
use super::file::WeightsFile;
use super::names::fit;
use super::training::ImportedTraining;
use crate::dataset::{
    ChannelPlan, Description, IntensityProperties, Normalisation, Plan, Preprocessing,
};
use crate::run::checkpoint::{self, CheckpointInfo};
use crate::run::{RunFolder, mirror_axes, plan_tensors};
use crate::tensor::HostTensor;

/// Configurations in a row that inherit from each other.
const MOST_PARENTS: usize = 8;

/// What of a model folder is taken.
#[derive(Clone, Debug)]
pub struct ModelChoice {
    /// `0` to `4` or `all`; the only one there is where `None`.
    pub fold: Option<String>,
    /// `3d_fullres`, `2d`, ...; that which the checkpoint names where `None`.
    pub configuration: Option<String>,
    /// The file in the folder of the fold.
    pub checkpoint: String,
}

/// A model of nnU-Net in our terms.
#[derive(Clone, Debug)]
pub struct ImportedModel {
    /// What prediction needs to know beside the weights.
    pub plan: Plan,
    /// The weights.
    pub tensors: BTreeMap<String, HostTensor>,
    /// The file that they are from.
    pub checkpoint: PathBuf,
    /// The configuration that was taken.
    pub configuration: String,
    /// The fold that it was trained on, 0 to 4 or all.
    pub fold: String,
    /// How its training can be gone on with; where it cannot, a remark says why.
    pub training: Option<ImportedTraining>,
    /// What the user should know.
    pub remarks: Vec<String>,
}

#[derive(Deserialize)]
struct Plans {
    dataset_name: Option<String>,
    #[serde(default)]
    image_reader_writer: String,
    label_manager: Option<String>,
    transpose_forward: Vec<usize>,
    configurations: Map<String, Value>,
    foreground_intensity_properties_per_channel: BTreeMap<String, IntensityProperties>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    preprocessor_name: Option<String>,
    batch_size: usize,
    patch_size: Vec<usize>,
    median_image_size_in_voxels: Vec<f64>,
    spacing: Vec<f64>,
    normalization_schemes: Vec<String>,
    use_mask_for_norm: Vec<bool>,
    resampling_fn_data: Option<String>,
    #[serde(default)]
    batch_dice: bool,
    architecture: Option<Value>,
    previous_stage: Option<String>,
}

impl ImportedModel {
    /// Reads the model folder `folder`.
    ///
    /// # Errors
    /// [`WeightsError::Input`] where there is something to choose; [`WeightsError::Unsupported`] naming what voxseg does
    /// not have; those of the weights.
    pub fn read(folder: &Path, choice: &ModelChoice) -> Result<Self, WeightsError> {
        let path = folder.join("plans.json");
        check_folder(folder, &path)?;
        let text = std::fs::read_to_string(&path).map_err(|e| WeightsError::read(&path, e))?;
        let plans: Plans = parsed(&path, serde_json::from_str(&text))?;
        let description = Description::read(folder)?;
        let checkpoint = checkpoint_of(folder, choice)?;
        let mut file = WeightsFile::open(&checkpoint)?;
        let source = Source { path: &path };
        let name = configuration_name(&source, &plans, choice, &file)?;
        let resolved = inherited(&source, &plans.configurations, &name)?;
        let configuration: Configuration =
            parsed(&path, serde_json::from_value(Value::Object(resolved)))?;
        source.check_kind(&plans, &configuration)?;
        let plan = source.plan(&plans, &configuration, &description)?;
        if let Some(what) = plan.contradiction() {
            return Err(WeightsError::input(&path, format!("{name}: {what}")));
        }
        let wanted = plan_tensors(&plan)?;
        let tensors = fit(&mut file, &wanted)?;
        let mut remarks = remarks(&plan, &file);
        let training = ImportedTraining::read(&mut file, &wanted, configuration.batch_dice)
            .map_err(|why| {
                remarks.push(format!(
                    "its training cannot be resumed: {why}; `voxseg train --from` begins a new one with its weights"
                ));
            })
            .ok();
        Ok(Self {
            remarks,
            plan,
            tensors,
            fold: fold_of(&checkpoint),
            checkpoint,
            configuration: name,
            training,
        })
    }

    /// Makes a run of it, which `voxseg predict` uses: the final checkpoint and plan.json, the plan last; and, where its
    /// training can be gone on with, the latest checkpoint, which has the optimiser's state as well.
    ///
    /// # Errors
    /// [`WeightsError::Input`] where `run` is not new or empty; those of the file system.
    pub fn write(&self, run: &RunFolder) -> Result<(), WeightsError> {
        let root = run.root();
        let is_free = match std::fs::read_dir(root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            Err(e) => return Err(WeightsError::read(root, e)),
        };
        if !is_free {
            let problem = "is not empty; give a new folder, so that nothing is overwritten";
            return Err(WeightsError::input(root, problem));
        }
        let training = self.training.as_ref();
        let info = CheckpointInfo::imported(training.map_or(0, |training| training.step));
        checkpoint::write(&run.last(), &self.tensors, &info)?;
        if let Some(training) = training {
            let mut all = self.tensors.clone();
            for (name, velocity) in &training.velocities {
                let states = training.optimizer.state_names(name);
                all.extend(states.map(|state| (state, velocity.clone())));
            }
            checkpoint::write(&run.latest(), &all, &info)?;
        }
        Ok(self.plan.write(&run.plan())?)
    }
}

/// Refuses what is no folder of a model, and such a folder's folds and parents.
fn check_folder(folder: &Path, plans: &Path) -> Result<(), WeightsError> {
    let problem = match folder {
        _ if plans.exists() => return Ok(()),
        folder if folder.is_dir() => "has no plans.json",
        folder if folder.exists() => "is a file",
        _ => "no such folder",
    };
    let wanted = "give the folder of a trained model of nnU-Net v2, TRAINER__PLANS__CONFIGURATION, with plans.json in it";
    Err(WeightsError::input(folder, format!("{problem}; {wanted}")))
}

/// The fold of fold_K/CHECKPOINT.
fn fold_of(checkpoint: &Path) -> String {
    let folder = checkpoint.parent().and_then(Path::file_name);
    let name = folder.map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    name.strip_prefix("fold_").unwrap_or(&name).to_owned()
}

fn parsed<T>(path: &Path, result: serde_json::Result<T>) -> Result<T, WeightsError> {
    result.map_err(|e| WeightsError::input(path, format!("{e}; is it a plans.json of nnU-Net v2?")))
}

/// The checkpoint that `choice` means.
fn checkpoint_of(folder: &Path, choice: &ModelChoice) -> Result<PathBuf, WeightsError> {
    let folds: Vec<&str> = match &choice.fold {
        Some(fold) => vec![fold],
        None => vec!["0", "1", "2", "3", "4", "all"],
    };
    let at = |fold: &str| folder.join(format!("fold_{fold}")).join(&choice.checkpoint);
    let found: Vec<&str> = folds.iter().copied().filter(|f| at(f).is_file()).collect();
    match (found.as_slice(), choice.fold.as_deref()) {
        ([only], _) => Ok(at(only)),
        ([], Some(fold)) => Err(WeightsError::input(
            &at(fold),
            "no such file; give another --fold or --checkpoint",
        )),
        ([], None) => Err(WeightsError::input(
            folder,
            format!(
                "no fold_0 to fold_4 or fold_all in it has a {}; give the folder of a trained model, TRAINER__PLANS__CONFIGURATION, or another --checkpoint",
                choice.checkpoint
            ),
        )),
        (several, _) => Err(WeightsError::input(
            folder,
            format!(
                "has the folds {}; choose one with --fold (each becomes a run of its own)",
                several.join(", ")
            ),
        )),
    }
}

/// The configuration to take: the one asked for, that of the checkpoint, or the only one.
fn configuration_name(
    source: &Source<'_>,
    plans: &Plans,
    choice: &ModelChoice,
    file: &WeightsFile,
) -> Result<String, WeightsError> {
    let asked = choice.configuration.clone();
    let named = || file.entry(&["init_args", "configuration"]);
    let names: Vec<&String> = plans.configurations.keys().collect();
    let name = match (asked.or_else(named), names.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => (*only).clone(),
        (None, _) => String::new(),
    };
    if plans.configurations.contains_key(&name) {
        return Ok(name);
    }
    let names = plans.configurations.keys().cloned().collect::<Vec<_>>();
    let problem = format!(
        "has no configuration `{name}`; choose with --configuration among {}",
        names.join(", ")
    );
    Err(WeightsError::input(source.path, problem))
}

/// The keys of a configuration with those that it inherits.
fn inherited(
    source: &Source<'_>,
    all: &Map<String, Value>,
    name: &str,
) -> Result<Map<String, Value>, WeightsError> {
    let mut keys = Map::new();
    let mut next = Some(name.to_owned());
    for _ in 0..MOST_PARENTS {
        let Some(name) = next else { return Ok(keys) };
        let Some(Value::Object(own)) = all.get(&name) else {
            let problem = format!("`{name}`, from which a configuration inherits, is missing");
            return Err(WeightsError::input(source.path, problem));
        };
        next = own
            .get("inherits_from")
            .and_then(Value::as_str)
            .map(str::to_owned);
        for (key, value) in own {
            keys.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let problem = format!("`{name}` inherits from too many configurations, or from itself");
    Err(WeightsError::input(source.path, problem))
}

impl Source<'_> {
    /// Refuses what prediction would silently do otherwise than nnU-Net.
    fn check_kind(&self, plans: &Plans, of: &Configuration) -> Result<(), WeightsError> {
        let expect = |key: &str, found: &str, known: &[&str]| match known.contains(&found) {
            true => Ok(()),
            false => self.unsupported(key, format!("`{found}`"), known.join(", ")),
        };
        if plans.transpose_forward != [0, 1, 2] {
            let found = format!("{:?}", plans.transpose_forward);
            self.unsupported(
                "transpose_forward",
                found,
                "[0, 1, 2]: axes are never swapped",
            )?;
        }
        if plans.image_reader_writer.ends_with("WithReorient") {
            let found = plans.image_reader_writer.clone();
            self.unsupported(
                "image_reader_writer",
                found,
                "readers that leave images in the orientation of their file",
            )?;
        }
        if let Some(stage) = &of.previous_stage {
            self.unsupported("previous_stage", format!("`{stage}`"), "no cascades")?;
        }
        let manager = plans.label_manager.as_deref();
        expect(
            "label_manager",
            manager.unwrap_or("LabelManager"),
            &["LabelManager"],
        )?;
        let preprocessor = of.preprocessor_name.as_deref();
        let usual = "DefaultPreprocessor";
        expect("preprocessor_name", preprocessor.unwrap_or(usual), &[usual])?;
        let resampling = of.resampling_fn_data.as_deref();
        let usual = "resample_data_or_seg_to_shape";
        expect("resampling_fn_data", resampling.unwrap_or(usual), &[usual])
    }

    fn plan(
        &self,
        plans: &Plans,
        of: &Configuration,
        description: &Description,
    ) -> Result<Plan, WeightsError> {
        let (topology, layers, planar) = network(self, of.architecture.as_ref())?;
        let patch = axes(&of.patch_size, planar, 1);
        let spacing = axes(&of.spacing, planar, 1.0);
        let median = axes(&of.median_image_size_in_voxels, planar, 1.0);
        let (Some(patch), Some(spacing), Some(median)) = (patch, spacing, median) else {
            let problem = "patch_size, spacing and median_image_size_in_voxels must have as many numbers as the convolutions have axes";
            return Err(WeightsError::input(self.path, problem));
        };
        Ok(Plan {
            model: None,
            dataset: plans.dataset_name.clone(),
            file_ending: description.file_ending.clone(),
            labels: description.labels.clone(),
            preprocessing: Preprocessing {
                spacing,
                planar,
                channels: self.channels(plans, of, description)?,
            },
            median_shape: median.map(|n| n.round_ties_even() as usize),
            patch,
            batch: of.batch_size,
            topology,
            layers,
            decoder: Default::default(),
            tokens: Default::default(),
        })
    }

    fn channels(
        &self,
        plans: &Plans,
        of: &Configuration,
        description: &Description,
    ) -> Result<Vec<ChannelPlan>, WeightsError> {
        let count = description.channels();
        if of.normalization_schemes.len() != count || of.use_mask_for_norm.len() != count {
            let problem = format!(
                "normalization_schemes and use_mask_for_norm must have one entry for each of the {count} channels of dataset.json"
            );
            return Err(WeightsError::input(self.path, problem));
        }
        let channels = description.channel_names.iter().enumerate();
        channels
            .map(|(channel, name)| {
                let properties = &plans.foreground_intensity_properties_per_channel;
                let normalisation = self.normalisation(&of.normalization_schemes[channel])?;
                let intensities = properties.get(&channel.to_string()).copied();
                if normalisation == Normalisation::Ct && intensities.is_none() {
                    let problem = format!(
                        "foreground_intensity_properties_per_channel has no entry {channel}, which CTNormalization needs"
                    );
                    return Err(WeightsError::input(self.path, problem));
                }
                Ok(ChannelPlan {
                    name: name.clone(),
                    normalisation,
                    use_mask: of.use_mask_for_norm[channel]
                        && normalisation == Normalisation::ZScore,
                    intensities: intensities.unwrap_or_default(),
                })
            })
            .collect()
    }

    fn normalisation(&self, scheme: &str) -> Result<Normalisation, WeightsError> {
        let known = [
            ("ZScoreNormalization", Normalisation::ZScore),
            ("CTNormalization", Normalisation::Ct),
            ("NoNormalization", Normalisation::None),
            ("RescaleTo01Normalization", Normalisation::RescaleTo01),
            ("RGBTo01Normalization", Normalisation::RgbTo01),
        ];
        match known.iter().find(|(name, _)| *name == scheme) {
            Some(&(_, how)) => Ok(how),
            None => {
                let names = known.map(|(name, _)| name).join(", ");
                self.unsupported("normalization_schemes", format!("`{scheme}`"), names)
            }
        }
    }
}

/// What the user should know of a model beside its plan.
fn remarks(plan: &Plan, file: &WeightsFile) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(axes) = file.sizes(&["inference_allowed_mirroring_axes"]) {
        let missing = usize::from(plan.preprocessing.planar);
        let allowed: Vec<usize> = axes.iter().map(|axis| axis + missing).collect();
        if mirror_axes(plan).iter().any(|axis| !allowed.contains(axis)) {
            remarks.push(
                "it was not trained with mirror images along all axes: predict without --tta"
                    .into(),
            );
        }
    }
    if let Some(trainer) = file.entry(&["trainer_name"])
        && trainer != "nnUNetTrainer"
    {
        remarks.push(format!(
            "it was trained by {trainer}; what that trainer changes beyond plans.json is not known here"
        ));
    }
    remarks
}

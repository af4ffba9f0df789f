//! Which network, on which patch.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::InspectArgs;
use crate::bytes::Bytes;
use crate::classify::Description;
use crate::cli::runs::Trained;
use crate::cli::{CliError, Common, Output};
use crate::dataset::{DESCRIPTION_FILE, Dataset, Plan};
use crate::losses::LossConfig;
use crate::models::{Form, Network, Task, model};
use crate::optim::OptimizerConfig;
use crate::run::{RunFolder, network_of};
use crate::tensor::{Element, Shape};
use crate::train::{TargetForm, TrainConfig};
use crate::words::extent;

/// Patches a step where nothing else is said: nnU-Net's least.
const BATCH: usize = 2;

/// Elements of one tensor beyond which no device can follow, and sizes would leave 64 bits.
const MOST_ELEMENTS: usize = 1 << 40;

/// A network with what it is fed and trained with.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// As the user calls it.
    pub name: String,
    /// The network.
    pub network: Network,
    /// Whether prediction is planned instead of a training step; classifiers are not trained on patches.
    pub inference: bool,
    /// What its targets look like.
    pub form: TargetForm,
    /// The loss.
    pub loss: LossConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Patch extent in voxels.
    pub patch: [usize; 3],
    /// Device memory that its training may plan for.
    pub memory_budget: Option<Bytes>,
    /// The kernels that measuring chose for its training, where there is such a file.
    pub kernels: Option<PathBuf>,
    batch: usize,
}

impl Subject {
    /// The network of a run folder, of a data set, of a plan.json, or a published one.
    ///
    /// # Errors
    /// [`CliError`] where there is no such network, or the patch does not fit it.
    pub fn of(args: &InspectArgs, common: &Common, output: &Output) -> Result<Self, CliError> {
        let mut subject = match (&args.run, &args.network) {
            (Some(folder), _) if is_dataset(folder) => Self::of_dataset(folder, common, output)?,
            (Some(run), _) => Self::of_run(run, output)?,
            (None, Some(name)) => Self::named(name, args)?,
            (None, None) => return Err(CliError::Usage("give RUN or --network".into())),
        };
        if let Some(patch) = args.patch {
            let patch = patch.extent(subject.patch[0] == 1);
            subject.patch = patch.map_err(CliError::Usage)?;
        }
        subject.batch = args.batch.map_or(subject.batch, NonZeroUsize::get);
        subject.memory_budget = args.memory_budget.or(subject.memory_budget);
        subject.inference |= args.inference;
        if subject.inference {
            subject.batch = 1;
            subject.memory_budget = None;
            subject.kernels = None;
            subject.network.precision = Element::F32;
        }
        subject.network.precision = args.precision.unwrap_or(subject.network.precision);
        subject.check_patch()?;
        subject.check_size()?;
        Ok(subject)
    }

    /// (N, in_channels, D, H, W) of the input.
    pub fn shape(&self) -> Shape {
        Shape::new(self.batch, self.network.in_channels(), 1, 1, 1).with_spatial(self.patch)
    }

    /// The same on another patch.
    pub fn with_patch(&self, patch: [usize; 3]) -> Self {
        Self {
            patch,
            ..self.clone()
        }
    }

    /// What patch extents must be multiples of; `None` for unpadded networks, whose rule is not so simple.
    pub fn patch_steps(&self) -> Option<[usize; 3]> {
        self.network.steps()
    }

    /// The network that training would plan for a data set.
    fn of_dataset(folder: &Path, common: &Common, output: &Output) -> Result<Self, CliError> {
        let class = super::device(common, None)?.0.class;
        let dataset = Dataset::open(folder)?;
        let bar = output.progress(dataset.training.len() as u64, 0, "cases");
        let inspected = |done| bar.set_position(done as u64);
        let (config, plan) = TrainConfig::default().planned(&dataset, class, inspected)?;
        bar.finish_and_clear();
        output.news("planned in memory, as `voxseg train` would without flags; nothing is written");
        Ok(Self {
            optimizer: config.optimizer(),
            loss: config.loss,
            ..Self::planned(&folder.display().to_string(), &plan)?
        })
    }

    fn of_run(run: &Path, output: &Output) -> Result<Self, CliError> {
        let wanted = "the folder that `voxseg train -o` wrote, or a data set";
        let folder = match Trained::at(run, wanted)? {
            Trained::Segmenter(folder) => folder,
            Trained::Classifier(folder) => return Self::of_classifier(&folder),
        };
        let config = match folder.config().is_file() {
            true => TrainConfig::read(&folder.config())?,
            false => {
                output.news("the run has no config.toml, as an import need not have one: planned with the usual loss and optimiser");
                TrainConfig::default()
            }
        };
        let mut planned = Self::of_plan(&folder.plan())?;
        planned.network.precision = config.precision;
        Ok(Self {
            name: run.display().to_string(),
            optimizer: config.optimizer(),
            loss: config.loss,
            memory_budget: config.memory_budget,
            kernels: Some(folder.kernels()),
            ..planned
        })
    }

    fn of_classifier(folder: &RunFolder) -> Result<Self, CliError> {
        let description = Description::read(folder)?;
        let [height, width] = description.preparation.size;
        let name = folder.root().display().to_string();
        Ok(Self {
            inference: true,
            ..Self::new(&name, description.network()?, [1, height, width])
        })
    }

    fn of_plan(file: &Path) -> Result<Self, CliError> {
        let plan = Plan::read(file)?;
        Self::planned(&file.display().to_string(), &plan)
    }

    fn planned(name: &str, plan: &Plan) -> Result<Self, CliError> {
        Ok(Self {
            form: TargetForm::of(&plan.labels),
            batch: plan.batch,
            ..Self::new(name, network_of(plan)?, plan.patch)
        })
    }

    fn new(name: &str, network: Network, patch: [usize; 3]) -> Self {
        Self {
            name: name.to_owned(),
            network,
            inference: false,
            form: TargetForm::CLASSES,
            loss: LossConfig::default(),
            optimizer: OptimizerConfig::default(),
            memory_budget: None,
            kernels: None,
            batch: BATCH,
            patch,
        }
    }

    fn named(name: &str, args: &InspectArgs) -> Result<Self, CliError> {
        if name.ends_with(".json") || Path::new(name).is_file() {
            if args.channels.or(args.classes).is_some() {
                let reason =
                    "--channels and --classes are for published networks; a plan.json has its own";
                return Err(CliError::Usage(reason.into()));
            }
            return Self::of_plan(Path::new(name));
        }
        let model = model(name)?;
        let published = model.published;
        let is_planar = published.extent[0] == 1;
        let extent = args
            .patch
            .as_ref()
            .map(|patch| patch.extent(is_planar))
            .transpose();
        let form = Form {
            channels: args.channels.map_or(published.channels, NonZeroUsize::get),
            classes: args.classes.map_or(published.classes, NonZeroUsize::get),
            extent: extent.map_err(CliError::Usage)?.unwrap_or(published.extent),
        };
        let network = Network::new((model.of_form)(form)?);
        Ok(Self {
            inference: model.task == Task::Classification,
            ..Self::new(name, network, form.extent)
        })
    }

    fn check_patch(&self) -> Result<(), CliError> {
        let Some(total) = self.patch_steps() else {
            return Ok(());
        };
        if (0..3).all(|a| self.patch[a].is_multiple_of(total[a])) {
            return Ok(());
        }
        let next: [usize; 3] = std::array::from_fn(|a| self.patch[a].next_multiple_of(total[a]));
        Err(CliError::Usage(format!(
            "a patch of {} does not fit {}: its extents must be multiples of {}; the next is --patch {}",
            extent(self.patch),
            self.name,
            extent(total),
            extent(next),
        )))
    }

    fn check_size(&self) -> Result<(), CliError> {
        let widest = self.network.in_channels().max(self.network.out_channels());
        let elements = self
            .patch
            .into_iter()
            .chain([self.batch])
            .try_fold(widest, |product, n| product.checked_mul(n));
        if elements.is_some_and(|n| n <= MOST_ELEMENTS) {
            return Ok(());
        }
        Err(CliError::Usage(format!(
            "a batch of {} patches of {} voxels with up to {widest} channels is more than any device holds; use a smaller patch or batch",
            self.batch,
            extent(self.patch),
        )))
    }
}

/// Whether a folder is a data set rather than a run.
pub(super) fn is_dataset(folder: &Path) -> bool {
    folder.join(DESCRIPTION_FILE).is_file() && !RunFolder::new(folder).plan().is_file()
}

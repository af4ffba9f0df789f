//! The training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::TrainConfig;
use super::error::TrainError;
use super::loader::{Draw, Fed, Loader};
use super::log::{Log, LogLine};
use super::memory::PlannedMemory;
use super::network::{Feeds, TrainingStep};
use super::summary::RunSummary;
use crate::graph::{Executor, Parameters, Profile};
use crate::hash::Fnv;
use crate::ops::ValueId;
use crate::ops::dropout::seed_bits;
use crate::run::RunFolder;
use crate::run::checkpoint::{self, Checkpoint, CheckpointInfo};
use crate::tensor::Element;
use crate::tune::Measured;

/// What a caller hears while a run goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A training case has been read and measured: done, of all. It begins anew where all problems of a data set that
    /// has one are looked for.
    Inspected(usize, usize),
    /// Something about the data or the configuration that is no error but seldom meant.
    Warning(String),
    /// What was decided, in words.
    News(String),
    /// What was decided, told before anything is allocated.
    Decided(Box<RunSummary>),
    /// The device memory that the run will take: told before anything is allocated, and once more where kernels have
    /// been measured and those chosen need another amount.
    Planned(PlannedMemory),
    /// The kernels of a problem have been measured, one of so many.
    Measured(Measured, usize),
    /// A case has been preprocessed: done, of all.
    Prepared(usize, usize),
    /// Training starts at this step of so many.
    Started {
        /// Steps done before, by an earlier run.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Patches a step.
        batch: usize,
    },
    /// A step is done.
    Step(LogLine),
    /// Validation cases have been predicted while training.
    Validation(LogLine),
    /// The time of a training step by operator, where it was asked for.
    Profile(Profile),
    /// A checkpoint is on disk.
    Checkpoint(usize),
    /// A validation case has been predicted at the end: done, of all. Told of 0 when the last step is done.
    Validated(usize, usize),
}

/// How a loop looks at what it has trained so far.
pub(crate) trait Look {
    /// Share of the last average in the moving average of the score that the best checkpoint has; 0 for the score itself.
    const KEEP: f64;

    /// The score of the weights after `step` steps, and its line in the log.
    async fn look(&self, step: u64) -> Result<(f64, LogLine), TrainError>;
}

/// Everything a loop needs, made by the caller.
pub(crate) struct Session<'a, V> {
    pub config: &'a TrainConfig,
    pub folder: &'a RunFolder,
    pub steps: usize,
    pub configuration: String,
    pub draw: Arc<Draw>,
    pub parameters: &'a mut Parameters,
    pub validator: Option<&'a V>,
    pub profile: bool,
    /// Asks for an end after the step, see [`super::TrainOptions::stop`].
    pub stop: Option<&'a AtomicBool>,
}

/// Steps in a row up to the last one whose loss or gradients were not finite.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    in_a_row: usize,
    /// Whether the last loss was finite and its scale too large for f16: such steps are left out, and expected.
    are_of_scale: bool,
}

impl Failures {
    /// Whether the weights after the last step are to be trusted.
    fn spared_weights(self) -> bool {
        self.in_a_row == 0 || self.are_of_scale
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    step: usize,
    best: Option<f64>,
    average: Option<f64>,
}

/// The step that is timed, counted from the first of this process, where there are as many: by then every pipeline has
/// run.
const PROFILED: usize = 3;

/// Steps whose loss or gradient was not finite in a row before the run is given up.
const PATIENCE: usize = 20;

impl<V: Look> Session<'_, V> {
    /// Trains to the last step, from `checkpoint` where there is one.
    pub async fn run(
        &mut self,
        step: TrainingStep,
        checkpoint: Option<Checkpoint>,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Vec<LogLine>, TrainError> {
        let ids = Ids {
            feeds: step.feeds,
            hyper: step.hyper,
            heads: step.heads,
        };
        let batch = step.program.graph().value(ids.feeds.image).shape.n();
        let executor = Executor::new(step.program, self.parameters)?;
        let mut progress = self.restore(checkpoint)?;
        let mut log = Log::open(&self.folder.log(), progress.step as u64)
            .map_err(|e| TrainError::io(self.folder.log(), e))?;
        observe(Event::Started {
            step: progress.step,
            steps: self.steps,
            batch,
        });
        let mut loader = Loader::start(self.draw.clone(), progress.step as u64, self.steps as u64)
            .map_err(|e| TrainError::io(self.folder.root().to_owned(), e))?;
        let mut failures = Failures::default();
        let profiled = (progress.step + PROFILED).min(self.steps.saturating_sub(1));
        // The result of a step is fetched after the next one has been submitted, so that the device never idles,
        // except where a checkpoint or a validation needs the weights of just this step.
        while progress.step < self.steps {
            let first = progress.step;
            let due = self.next_stop(first);
            let mut stop = due;
            for at in first..due {
                if self.is_asked_to_stop() {
                    stop = at;
                    break;
                }
                let batch = next(&mut loader, at)?;
                let timed = self.profile && at == profiled;
                self.submit(&executor, &ids, &batch, at, timed.then_some(observe))
                    .await?;
                if at > first {
                    failures = self
                        .report(&executor, at - 1, failures, &mut log, observe)
                        .await?;
                }
            }
            if stop > first {
                failures = self
                    .report(&executor, stop - 1, failures, &mut log, observe)
                    .await?;
            }
            progress.step = stop;
            // Weights of which the last loss was no number are not to be trusted: the checkpoint before stays. But a run
            // must end where its last steps are such, which changed nothing and would come again.
            let is_sound = failures.spared_weights() || stop == self.steps;
            if stop < due {
                if is_sound {
                    self.save(&self.folder.latest(), &progress).await?;
                }
                return Err(TrainError::Stopped { step: stop });
            }
            if is_sound {
                self.pause(&mut progress, &mut log, observe).await?;
            }
        }
        self.save(&self.folder.last(), &progress).await?;
        Ok(log.lines().to_vec())
    }

    fn is_asked_to_stop(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    fn restore(&mut self, checkpoint: Option<Checkpoint>) -> Result<Progress, TrainError> {
        let Some(found) = checkpoint else {
            return Ok(Progress {
                step: 0,
                best: None,
                average: None,
            });
        };
        found.restore(self.parameters)?;
        Ok(Progress {
            step: found.info.step,
            best: found.info.best,
            average: found.info.average,
        })
    }

    fn checkpoint_every(&self) -> usize {
        let default = self.steps.div_ceil(20);
        self.config
            .schedule
            .checkpoint_every
            .unwrap_or(default)
            .max(1)
    }

    /// `None` where there is nothing to validate with.
    fn validate_every(&self) -> Option<usize> {
        let every = self
            .config
            .schedule
            .validate_every
            .unwrap_or(self.steps.div_ceil(5));
        (every > 0 && self.validator.is_some()).then_some(every)
    }

    /// The next step at which the loop must look at the weights.
    fn next_stop(&self, step: usize) -> usize {
        let after = |every: usize| (step / every + 1) * every;
        let checkpoint = after(self.checkpoint_every());
        let validation = self.validate_every().map_or(usize::MAX, after);
        checkpoint.min(validation).min(self.steps)
    }

    async fn submit(
        &self,
        executor: &Executor,
        ids: &Ids,
        batch: &Fed,
        step: usize,
        profile: Option<&(dyn Fn(Event) + Sync)>,
    ) -> Result<(), TrainError> {
        let (t, total) = (step as u64, self.steps as u64);
        let rate = self.config.learning_rate().rate(t, total);
        let hyper = self.config.optimizer().hyper(rate, t);
        let weights = self.config.supervision().at_step(ids.heads, t, total)?;
        let classes = self.config.loss.class_weights.as_deref();
        let mut feed = ids.feeds.of_batch(batch, &weights, classes);
        feed.push((ids.hyper, &hyper));
        let seed = [dropout_seed(self.config.seed, t)];
        feed.extend(ids.feeds.dropout_seed.map(|id| (id, &seed[..])));
        let Some(observe) = profile else {
            return Ok(executor.run(&feed).await?);
        };
        let times = executor.run_timed(&feed).await?;
        observe(Event::Profile(Profile::new(executor.program(), &[times])));
        Ok(())
    }

    /// Fetches the result of `step`, logs it, and gives the bad steps up to it.
    async fn report(
        &self,
        executor: &Executor,
        step: usize,
        failures: Failures,
        log: &mut Log,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<Failures, TrainError> {
        let Some(outputs) = executor.fetch().await? else {
            return Ok(failures);
        };
        let finite = |v: f32| v.is_finite().then_some(v);
        let (loss, norm) = (finite(outputs[0].data[0]), finite(outputs[1].data[0]));
        let line = LogLine::Step {
            step: step as u64 + 1,
            loss,
            gradient_norm: norm,
            learning_rate: self
                .config
                .learning_rate()
                .rate(step as u64, self.steps as u64),
        };
        log.append(line.clone())
            .map_err(|e| TrainError::io(self.folder.log(), e))?;
        observe(Event::Step(line));
        if loss.is_some() && norm.is_some() {
            return Ok(Failures::default());
        }
        let in_a_row = failures.in_a_row + 1;
        // A shorter run of which no step counted has nothing to show either.
        if in_a_row >= PATIENCE.min(self.steps) {
            return Err(TrainError::NotFinite {
                step: step + 1,
                times: in_a_row,
            });
        }
        Ok(Failures {
            in_a_row,
            are_of_scale: loss.is_some() && self.config.precision == Element::F16,
        })
    }

    /// What is due after `progress.step` steps: validation first, since its score belongs into the checkpoint.
    async fn pause(
        &self,
        progress: &mut Progress,
        log: &mut Log,
        observe: &(dyn Fn(Event) + Sync),
    ) -> Result<(), TrainError> {
        let due = |every: usize| progress.step.is_multiple_of(every) || progress.step == self.steps;
        let checkpoint = due(self.checkpoint_every());
        if self.validate_every().is_some_and(due)
            && let Some(validator) = self.validator
        {
            let (score, line) = validator.look(progress.step as u64).await?;
            log.append(line.clone())
                .map_err(|e| TrainError::io(self.folder.log(), e))?;
            observe(Event::Validation(line));
            let average = progress
                .average
                .map_or(score, |a| V::KEEP * a + (1.0 - V::KEEP) * score);
            progress.average = Some(average);
            if progress.best.is_none_or(|best| average > best) {
                progress.best = Some(average);
                self.save(&self.folder.best(), progress).await?;
            }
        }
        if checkpoint {
            self.save(&self.folder.latest(), progress).await?;
            observe(Event::Checkpoint(progress.step));
        }
        Ok(())
    }

    async fn save(&self, path: &std::path::Path, progress: &Progress) -> Result<(), TrainError> {
        let info = CheckpointInfo {
            step: progress.step,
            best: progress.best,
            average: progress.average,
            configuration: self.configuration.clone(),
        };
        checkpoint::save(path, self.parameters, &info).await?;
        Ok(())
    }
}

/// The dropout of a step follows from seed and step alone, so that a resumed run draws it again.
fn dropout_seed(seed: u64, step: u64) -> f32 {
    let bytes = [seed.to_le_bytes(), step.to_le_bytes()].concat();
    seed_bits(Fnv::of(&bytes) as u32)
}

fn next(loader: &mut Loader, step: usize) -> Result<Fed, TrainError> {
    match loader.next_batch() {
        Some(batch) => Ok(batch?),
        None => Err(TrainError::Loader { step: step + 1 }),
    }
}

/// The inputs of a training step.
struct Ids {
    feeds: Feeds,
    hyper: ValueId,
    heads: usize,
}

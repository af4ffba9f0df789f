//! What a person sees of a training run while it goes on: bars on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Output;
use super::output::pace;
use crate::graph::Profile;
use crate::train::{Event, LogLine};

/// Without a terminal there is a line after each such share of the steps,
const LINES: u64 = 20;

/// and after this time at the latest.
const SILENCE: Duration = Duration::from_secs(60);

/// Share of the last average in the running average of the loss.
const KEEP: f32 = 0.95;

/// Shows the phases of a run.
pub(super) struct Watch<'a> {
    output: &'a Output,
    words: Words,
    is_terminal: bool,
    phase: Mutex<Phase>,
}

/// What is counted.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// What a batch is made of.
    pub samples: &'static str,
    /// What is read and validated.
    pub cases: &'static str,
}

impl Words {
    /// Volumes, trained on in patches.
    pub const VOLUMES: Self = Self {
        samples: "patches",
        cases: "cases",
    };

    /// Whole images.
    pub const IMAGES: Self = Self {
        samples: "images",
        cases: "images",
    };
}

struct Phase {
    /// When the verb began; `None` once the first step was reported.
    start: Option<Instant>,
    name: &'static str,
    bar: ProgressBar,
    training: Training,
    loss: Option<f32>,
    /// Validation Dice or accuracy.
    score: Option<(&'static str, f64)>,
    profile: Option<Profile>,
}

/// How far the steps are.
#[derive(Clone, Copy)]
struct Training {
    /// Steps done before, by an earlier run.
    before: u64,
    steps: u64,
    batch: u64,
    since: Instant,
    /// Step and time of the last line.
    told: (u64, Instant),
}

impl Training {
    fn from(before: u64, steps: u64, batch: u64) -> Self {
        let since = Instant::now();
        Self {
            before,
            steps,
            batch,
            since,
            told: (before, since),
        }
    }

    /// Whether a line is due at `step`.
    fn is_due(&self, step: u64) -> bool {
        let every = self.steps.div_ceil(LINES).max(1);
        step == self.steps || step / every > self.told.0 / every || self.told.1.elapsed() >= SILENCE
    }
}

impl<'a> Watch<'a> {
    pub fn new(output: &'a Output, words: Words) -> Self {
        let phase = Phase {
            start: Some(Instant::now()),
            name: "",
            bar: ProgressBar::hidden(),
            training: Training::from(0, 1, 1),
            loss: None,
            score: None,
            profile: None,
        };
        Self {
            output,
            words,
            is_terminal: std::io::stderr().is_terminal(),
            phase: Mutex::new(phase),
        }
    }

    /// Shows an event.
    pub fn hear(&self, event: Event) {
        let mut phase = self.phase.lock().unwrap_or_else(|e| e.into_inner());
        match event {
            Event::Inspected(done, of) => self.count(&mut phase, "inspecting", done, of),
            Event::Warning(text) => self.tell(&phase, &format!("warning: {text}")),
            Event::News(text) => self.tell(&phase, &text),
            Event::Decided(summary) => self.tell(&phase, &summary.to_string()),
            Event::Planned(memory) => {
                self.tell(&phase, &format!("planned device memory: {memory}"))
            }
            Event::Measured(measured, of) => {
                self.enter(&mut phase, "measuring kernels", 0, of as u64, "problems");
                phase.bar.inc(1);
                self.tell(&phase, &measured.to_text());
            }
            Event::Prepared(done, of) => self.count(&mut phase, "preparing", done, of),
            Event::Started { step, steps, batch } => {
                let [step, steps, batch] = [step, steps, batch].map(|n| n as u64);
                let (done, of) = (step * batch, steps * batch);
                self.enter(&mut phase, "training", done, of, self.words.samples);
                phase.training = Training::from(step, steps, batch);
                if step > 0 {
                    self.tell(&phase, &format!("going on after step {step} of {steps}"));
                }
            }
            Event::Step(LogLine::Step { step, loss, .. }) => self.step(&mut phase, step, loss),
            Event::Validation(LogLine::Validation { step, dice, .. }) => {
                self.score(&mut phase, step, ("Dice", dice));
            }
            Event::Validation(LogLine::Classified { step, accuracy, .. }) => {
                self.score(&mut phase, step, ("accuracy", accuracy));
            }
            Event::Profile(profile) => {
                self.tell(&phase, profile.table().to_string().trim_end());
                phase.profile = Some(profile);
            }
            Event::Validated(done, of) => self.count(&mut phase, "validating", done, of),
            _ => {}
        }
    }

    /// Clears the bar; gives the times of a step by operator, where they were taken.
    pub fn finish(&self) -> Option<Profile> {
        let mut phase = self.phase.lock().unwrap_or_else(|e| e.into_inner());
        phase.bar.finish_and_clear();
        phase.profile.take()
    }

    fn tell(&self, phase: &Phase, line: &str) {
        phase.bar.suspend(|| self.output.news(line));
    }

    /// `done` of `of` cases have gone through the phase `name`.
    fn count(&self, phase: &mut Phase, name: &'static str, done: usize, of: usize) {
        self.enter(phase, name, 0, of as u64, self.words.cases);
        phase.bar.set_position(done as u64);
    }

    fn enter(&self, phase: &mut Phase, name: &'static str, done: u64, total: u64, unit: &str) {
        if phase.name == name {
            return;
        }
        phase.bar.finish_and_clear();
        phase.name = name;
        phase.bar = self.output.progress(total, done, unit);
        if !self.is_terminal {
            self.output
                .news(&format!("{name} ({unit}: {})", total - done));
        }
    }

    fn score(&self, phase: &mut Phase, step: u64, score: (&'static str, f64)) {
        phase.score = Some(score);
        phase.show();
        let loss = phase.loss.map_or("-".to_owned(), |l| format!("{l:.4}"));
        let (name, value) = score;
        let line = format!("step {step}: loss {loss}, validation {name} {value:.4}");
        self.tell(phase, &line);
    }

    fn step(&self, phase: &mut Phase, step: u64, loss: Option<f32>) {
        if let Some(loss) = loss {
            let average = phase
                .loss
                .map_or(loss, |old| KEEP * old + (1.0 - KEEP) * loss);
            phase.loss = Some(average);
        }
        let training = phase.training;
        phase.bar.set_position(step * training.batch);
        phase.show();
        if let Some(start) = phase.start.take() {
            let seconds = start.elapsed().as_secs_f64();
            let line = format!("first step done {seconds:.1} s after the start");
            self.tell(phase, &line);
        }
        if !self.is_terminal && training.is_due(step) {
            let [done, left] = [step - training.before, training.steps - step];
            let [done, left] = [done, left].map(|n| n * training.batch);
            let line = format!(
                "step {step}/{}: loss {}, {} {}",
                training.steps,
                phase.loss.map_or("-".to_owned(), |l| format!("{l:.4}")),
                self.words.samples,
                pace(done, left, training.since.elapsed()),
            );
            phase.training.told = (step, Instant::now());
            self.tell(phase, &line);
        }
    }
}

impl Phase {
    fn show(&self) {
        let loss = self.loss.map_or(String::new(), |l| format!("loss {l:.4}"));
        let score = self.score;
        let score = score.map_or(String::new(), |(name, value)| format!(" {name} {value:.3}"));
        self.bar.set_message(loss + &score);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_after_each_twentieth_and_at_the_end() {
        let mut training = Training::from(0, 250, 2);
        let mut due = Vec::new();
        for step in 1..=250 {
            if training.is_due(step) {
                due.push(step);
                training.told.0 = step;
            }
        }
        assert_eq!(due.len(), 20, "{due:?}");
        assert_eq!((due[0], due[19]), (13, 250));
    }
}

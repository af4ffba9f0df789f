//! The log of a run: one JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::fsio::write_atomic;
use crate::report::curves::Record;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum LogLine {
    /// A training step.
    Step {
        /// Steps done, from 1.
        step: u64,
        /// Total loss; absent where it was not finite.
        loss: Option<f32>,
        /// Norm of all gradients before clipping; absent where it was not finite.
        gradient_norm: Option<f32>,
        /// Learning rate.
        learning_rate: f64,
    },
    /// A look at validation cases.
    Validation {
        /// Steps done.
        step: u64,
        /// Mean Dice over the foreground classes.
        dice: f64,
        /// Dice of each class.
        classes: Vec<Option<f64>>,
    },
    /// A look at held-out images of a classifier.
    Classified {
        /// Steps done.
        step: u64,
        /// Share of the images whose class had the largest probability.
        accuracy: f64,
        /// Share of those whose class was among the five most probable; of more than five classes.
        top5: Option<f64>,
        /// Mean cross-entropy; absent where it was not finite.
        loss: Option<f64>,
    },
}

impl LogLine {
    /// The step it belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step { step, .. }
            | Self::Validation { step, .. }
            | Self::Classified { step, .. } => *step,
        }
    }

    /// A point of the training curves.
    pub fn record(&self) -> Record {
        let nothing = Record {
            step: self.step(),
            loss: None,
            validation_dice: None,
            validation_accuracy: None,
        };
        match *self {
            Self::Step { loss, .. } => Record {
                loss: loss.map(f64::from),
                ..nothing
            },
            Self::Validation { dice, .. } => Record {
                validation_dice: Some(dice),
                ..nothing
            },
            Self::Classified { accuracy, .. } => Record {
                validation_accuracy: Some(accuracy),
                ..nothing
            },
        }
    }
}

/// A log open for more lines.
#[derive(Debug)]
pub struct Log {
    file: File,
    lines: Vec<LogLine>,
}

impl Log {
    /// Opens the log at `path` with the lines up to `step` kept: what came after the checkpoint is done again. A last
    /// line cut off by a kill is dropped.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path, step: u64) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let lines: Vec<LogLine> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &LogLine| line.step() <= step)
            .collect();
        write_atomic(path, |w| {
            lines.iter().try_for_each(|line| write_line(w, line))
        })?;
        Ok(Self {
            file: OpenOptions::new().append(true).open(path)?,
            lines,
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// Those of the file system, a full disk among them.
    pub fn append(&mut self, line: LogLine) -> io::Result<()> {
        write_line(&mut self.file, &line)?;
        self.lines.push(line);
        Ok(())
    }

    /// All lines so far.
    pub fn lines(&self) -> &[LogLine] {
        &self.lines
    }
}

fn write_line(to: &mut dyn Write, line: &LogLine) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    to.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> LogLine {
        LogLine::Step {
            step,
            loss: Some(0.5),
            gradient_norm: None,
            learning_rate: 0.01,
        }
    }

    #[test]
    fn a_resumed_log_drops_what_comes_after_the_checkpoint_and_a_cut_off_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, 0).unwrap();
        for step in 1..=4 {
            log.append(line(step)).unwrap();
        }
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"st");
        std::fs::write(&path, text).unwrap();
        let mut log = Log::open(&path, 2).unwrap();
        log.append(line(3)).unwrap();
        let steps: Vec<u64> = log.lines().iter().map(LogLine::step).collect();
        assert_eq!(steps, [1, 2, 3]);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    }
}

//! Batches drawn ahead on a thread of their own, so that the device never waits for them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::dataset::DatasetError;

/// Batches ready before they are asked for.
const AHEAD: usize = 2;

/// What a training step is fed.
#[derive(Clone, Debug)]
pub struct Fed {
    /// (N, C, D, H, W).
    pub image: Vec<f32>,
    /// (N, 1, D, H, W) class indices, or (N, R, D, H, W) regions.
    pub target: Vec<f32>,
    /// (N, 1, D, H, W), where the step takes it.
    pub voxel_weights: Option<Vec<f32>>,
}

/// How the batch of a step is made; it must depend on the step alone, so that a resumed run sees the same ones.
pub type Draw = dyn Fn(u64) -> Result<Fed, DatasetError> + Send + Sync;

/// A thread that draws batches.
#[derive(Debug)]
pub struct Loader {
    batches: Receiver<Result<Fed, DatasetError>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts to draw the batches of the steps from `first` to `end` (exclusive).
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(draw: Arc<Draw>, first: u64, end: u64) -> std::io::Result<Self> {
        let (sender, batches) = sync_channel(AHEAD);
        let thread = Builder::new().name("batches".into()).spawn(move || {
            for step in first..end {
                let batch = draw(step);
                let failed = batch.is_err();
                // The receiver is gone where the run ended early.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self {
            batches,
            thread: Some(thread),
        })
    }

    /// The next batch; `None` after the last, or after an error was given.
    pub fn next_batch(&mut self) -> Option<Result<Fed, DatasetError>> {
        self.batches.recv().ok()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing the channel ends the thread at its next send.
        let (_, closed) = sync_channel(0);
        self.batches = closed;
        if let Some(thread) = self.thread.take() {
            // A panic there has already been seen as a missing batch.
            let _ = thread.join();
        }
    }
}

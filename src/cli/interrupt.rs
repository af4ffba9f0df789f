//! Ctrl-C and the request to end: the first is heard and what is in hand is finished, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::error::INTERRUPTED;

/// Whether the user wants the program to end. Until [`Interrupt::listen`] a signal ends it at once, as ever.
#[derive(Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the first signal is noted only. Where the system has no signals, nothing changes.
    pub fn listen(&self) {
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down and puts it up, the second ends the program.
            let ends =
                flag::register_conditional_shutdown(signal, INTERRUPTED.into(), self.0.clone());
            if ends.is_ok() {
                let _ = flag::register(signal, self.0.clone());
            }
        }
    }

    /// From here on a signal ends the program at once again.
    pub fn ignore(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there was a signal; stays so.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Whether there was a signal.
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

//! Measures which kernels are the fastest for the very problems of a network on this adapter, once, and keeps the answer.
//!
//! Rules choose well where figures stood behind them; on an adapter that nobody has measured, a measurement of the
//! network's own problems is worth more. Different kernels add in different orders, so a measured choice changes the last
//! bits of a result: it is used only where it is asked for, and is kept with the run that was trained with it.

mod choices;
mod measure;

pub use choices::{ChoicesError, KernelChoices, cache_file};
pub use measure::{Measured, Problems, TuneError, measure, problems_of};

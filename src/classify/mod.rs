//! Classifiers of whole images: folders of images in, a trained network out, and its word on other images.

mod batches;
mod config;
mod data;
mod description;
mod error;
mod inherit;
mod listing;
mod model;
mod pictures;
mod predictor;
mod run;
mod scores;
mod setup;

pub use config::{CLASSIFY_EXAMPLE, ClassifyConfig, DEFAULT_MODEL};
pub use data::{ImageSet, Labelled};
pub use description::Description;
pub use error::ClassifyError;
pub use listing::images_in;
pub use model::{Classified, Classifier};
pub use pictures::Preparation;
pub use run::{ClassifyOptions, ClassifyReport, train};
pub use scores::{Scores, probabilities};

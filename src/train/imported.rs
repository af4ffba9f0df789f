//! The configuration under which the training of another program goes on.

use super::TrainConfig;
use super::config::{ConfigError, Length};
use crate::losses::LossConfig;
use crate::weights::{ImportedModel, ImportedTraining};

impl TrainConfig {
    /// That of `training`, the training of `model`. What nnU-Net has in its code alone, such as its augmentation, is as
    /// here; what follows from the plan is chosen when the run is resumed.
    ///
    /// # Errors
    /// [`ConfigError::Value`] where the fold is none.
    pub fn of_import(
        model: &ImportedModel,
        training: &ImportedTraining,
    ) -> Result<Self, ConfigError> {
        let fold = model.fold.parse().map_err(|found| ConfigError::Value {
            key: "fold".into(),
            expected: "0 to 4, or \"all\"",
            found,
        })?;
        let config = Self {
            fold,
            schedule: Length {
                steps: Some(training.steps),
                ..Length::default()
            },
            loss: LossConfig {
                batch_dice: training.batch_dice,
                ..LossConfig::default()
            },
            optimizer: Some(training.optimizer),
            learning_rate: Some(training.learning_rate),
            ..Self::default()
        };
        config.validate()?;
        Ok(config)
    }
}

//! The family of networks of a run: which one, and whether it is for such images.

use super::TrainConfig;
use super::config::ConfigError;
use crate::models::{check_dimensions, is_residual_encoder, model, nnunet_name};

impl TrainConfig {
    /// Whether stages are planned as residual blocks.
    pub(super) fn has_residual_encoder(&self) -> bool {
        let name = self.network.model.as_deref();
        self.network.residual || name.is_some_and(is_residual_encoder)
    }

    /// Whether slices are trained on instead of volumes, as far as it is decided before the data are known: `planar` says
    /// so, or the name of the network.
    pub fn planar(&self) -> Option<bool> {
        let name = self.network.model.as_deref();
        let named = name.and_then(|name| model(name).ok()?.planar());
        // A name that is for volumes does not make volumes of slices.
        self.network.planar.or(named.filter(|planar| *planar))
    }

    /// Checks that the network is for what the other keys say, before the data are known.
    ///
    /// # Errors
    /// [`ConfigError::Model`].
    pub(super) fn check_family(&self) -> Result<(), ConfigError> {
        let (Some(name), Some(planar)) = (&self.network.model, self.network.planar) else {
            return Ok(());
        };
        let found = match planar {
            true => "`network.planar` is true",
            false => "`network.planar` is false",
        };
        check_dimensions(name, planar, found).map_err(ConfigError::Model)
    }

    /// The name of the family for a plan of slices (`planar`) or volumes: the given one, else nnU-Net's.
    ///
    /// # Errors
    /// [`ConfigError::Model`] where it is for volumes, and each case is a slice.
    pub(super) fn family_for(&self, planar: bool) -> Result<String, ConfigError> {
        match &self.network.model {
            None => Ok(nnunet_name(self.network.residual, planar).to_owned()),
            Some(name) => {
                let found = match planar {
                    true => "each case of the data set is a single slice",
                    false => "the cases of the data set are volumes",
                };
                check_dimensions(name, planar, found).map_err(ConfigError::Model)?;
                Ok(name.clone())
            }
        }
    }
}

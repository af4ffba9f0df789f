//! Images and label maps in memory.

use super::error::VolumeError;
use super::geometry::Geometry;

/// An image: one or several channels of `f32` intensities.
///
/// Voxels are in C, D, H, W order, W fastest. NIfTI files give one channel, colour pictures three.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    geometry: Geometry,
    channels: usize,
    voxels: Vec<f32>,
}

impl Image {
    /// Puts `voxels` (C, D, H, W) and their geometry together.
    ///
    /// # Errors
    /// [`VolumeError::VoxelCount`] where their number is not `channels` times D * H * W.
    pub fn new(geometry: Geometry, channels: usize, voxels: Vec<f32>) -> Result<Self, VolumeError> {
        check_count(&geometry, channels, voxels.len())?;
        Ok(Self {
            geometry,
            channels,
            voxels,
        })
    }

    /// Where the voxels lie.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Voxels along D, H, W.
    pub fn shape(&self) -> [usize; 3] {
        self.geometry.shape()
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All intensities, C, D, H, W.
    pub fn voxels(&self) -> &[f32] {
        &self.voxels
    }

    /// Takes the image apart without a copy.
    pub fn into_parts(self) -> (Geometry, Vec<f32>) {
        (self.geometry, self.voxels)
    }
}

/// A label map: one whole number per voxel, D, H, W, W fastest; 0 is background.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelMap {
    geometry: Geometry,
    labels: Vec<u32>,
}

impl LabelMap {
    /// Puts `labels` (D, H, W) and their geometry together; give the geometry of the image that was
    /// segmented to have its header fields written unchanged.
    ///
    /// # Errors
    /// [`VolumeError::VoxelCount`] where their number is not D * H * W.
    pub fn new(geometry: Geometry, labels: Vec<u32>) -> Result<Self, VolumeError> {
        check_count(&geometry, 1, labels.len())?;
        Ok(Self { geometry, labels })
    }

    /// Where the labels lie.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Voxels along D, H, W.
    pub fn shape(&self) -> [usize; 3] {
        self.geometry.shape()
    }

    /// All labels, D, H, W.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The largest label, 0 where there is none.
    pub fn largest(&self) -> u32 {
        self.labels.iter().copied().max().unwrap_or(0)
    }

    /// Takes the label map apart without a copy.
    pub fn into_parts(self) -> (Geometry, Vec<u32>) {
        (self.geometry, self.labels)
    }
}

fn check_count(geometry: &Geometry, channels: usize, found: usize) -> Result<(), VolumeError> {
    let expected = channels * geometry.voxels();
    if found == expected {
        return Ok(());
    }
    Err(VolumeError::VoxelCount {
        shape: geometry.shape(),
        channels,
        expected,
        found,
    })
}

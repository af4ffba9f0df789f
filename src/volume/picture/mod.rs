//! 2D images: PNG and TIFF as volumes with D = 1 and a spacing of 1 mm.

mod read;
mod tiff_pages;
mod write;

pub(super) use read::{read_image, read_labels};
pub(super) use write::{extent, write_image, write_labels};

use super::geometry::Geometry;

/// A format of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Tiff,
}

impl Kind {
    fn format(self) -> image::ImageFormat {
        match self {
            Self::Png => image::ImageFormat::Png,
            Self::Tiff => image::ImageFormat::Tiff,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Tiff => "TIFF",
        }
    }
}

fn geometry_of(width: u32, height: u32) -> Geometry {
    Geometry::from_spacing([1, height as usize, width as usize], [1.0; 3])
}

//! A small data set: discs, bars and checks on noise, one folder a class.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::volume::{Geometry, Image, write_image};

/// The classes, sorted.
pub const CLASSES: [&str; 3] = ["bars", "checks", "discs"];

/// H and W of all images.
pub const EXTENT: usize = 24;

/// Writes `count` images of each class to `folder`/CLASS, drawn by `seed`.
pub fn write_shapes(folder: &Path, count: usize, seed: u64) {
    for (class, name) in CLASSES.iter().enumerate() {
        for number in 0..count {
            let path = folder.join(name).join(format!("{name}{number:02}.png"));
            write_shape(&path, class, 1, seed + (1000 * class + number) as u64);
        }
    }
}

/// Writes one image of a class with so many channels.
pub fn write_shape(path: &Path, class: usize, channels: usize, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let [phase_y, phase_x] = [0, 1].map(|_| rng.random_range(0..6));
    let centre = [0, 1].map(|_| rng.random_range(9..15) as f64);
    let radius = rng.random_range(5..8) as f64;
    let is_bright = |y: usize, x: usize| match class {
        0 => ((x + phase_x) / 3).is_multiple_of(2),
        1 => ((y + phase_y) / 3 + (x + phase_x) / 3).is_multiple_of(2),
        _ => (y as f64 - centre[0]).hypot(x as f64 - centre[1]) < radius,
    };
    let mut voxels = Vec::new();
    for _ in 0..channels {
        for at in 0..EXTENT * EXTENT {
            let level = if is_bright(at / EXTENT, at % EXTENT) {
                180
            } else {
                60
            };
            voxels.push((level + rng.random_range(0..20)) as f32);
        }
    }
    let geometry = Geometry::from_spacing([1, EXTENT, EXTENT], [1.0; 3]);
    let image = Image::new(geometry, channels, voxels).expect("as many voxels as pixels");
    write_image(path, &image).expect("the image is written");
}

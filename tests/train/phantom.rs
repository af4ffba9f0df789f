//! Data sets of bright balls in noise, small enough to train on within seconds.

use std::fs::create_dir_all;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use voxseg::volume::{Geometry, Image, LabelMap, write_image, write_labels};

/// Intensity of the surroundings, of the ball, and of its core in every odd channel.
const INTENSITIES: [f32; 3] = [60.0, 110.0, 160.0];

/// Radius of a ball, and of its core, in mm.
const RADII: [f64; 2] = [6.0, 3.0];

/// What to make.
pub struct Phantom {
    pub cases: usize,
    /// D, H, W.
    pub shape: [usize; 3],
    /// D, H, W in mm.
    pub spacing: [f64; 3],
    pub channels: usize,
    pub ending: &'static str,
    /// The labels of dataset.json.
    pub labels: Value,
    /// The label that each region is written as, where labels are regions.
    pub region_order: Option<Vec<u32>>,
    /// The label of a voxel out of its ring (0 outside, 1 ball, 2 core) and its index D, H, W.
    pub label: fn(u32, [usize; 3]) -> u32,
}

impl Phantom {
    /// One class and one channel in NIfTI.
    pub fn balls(cases: usize) -> Self {
        Self {
            cases,
            shape: [16, 24, 24],
            spacing: [1.5, 1.0, 1.0],
            channels: 1,
            ending: ".nii",
            labels: json!({"background": 0, "ball": 1}),
            region_order: None,
            label: |ring, _| ring.min(1),
        }
    }

    /// Writes the training cases `ball0`, `ball1`, … into `folder`.
    pub fn write(&self, folder: &Path) {
        for name in ["imagesTr", "labelsTr"] {
            create_dir_all(folder.join(name)).expect("a new folder");
        }
        for case in 0..self.cases {
            self.write_case(folder, case);
        }
        let channels: serde_json::Map<String, Value> = (0..self.channels)
            .map(|c| (c.to_string(), json!(format!("MRI {c}"))))
            .collect();
        let mut description = json!({
            "channel_names": channels,
            "labels": self.labels,
            "numTraining": self.cases,
            "file_ending": self.ending,
        });
        if let Some(order) = &self.region_order {
            description["regions_class_order"] = json!(order);
        }
        std::fs::write(folder.join("dataset.json"), description.to_string()).expect("a file");
    }

    fn write_case(&self, folder: &Path, case: usize) {
        let geometry = match self.ending {
            ".png" => Geometry::from_spacing(self.shape, [1.0; 3]),
            _ => Geometry::from_spacing(self.shape, self.spacing),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(case as u64);
        let centre = [0, 1, 2].map(|a| self.shape[a] as f64 * rng.random_range(0.4..0.6));
        let rings: Vec<u32> = (0..geometry.voxels())
            .map(|offset| self.ring(geometry.index_of(offset), centre))
            .collect();
        for channel in 0..self.channels {
            let noisy = rings.iter().map(|&ring| {
                let seen = ring.min(1 + channel as u32 % 2) as usize;
                (INTENSITIES[seen] + rng.random_range(-20.0..20.0)).round()
            });
            let image = Image::new(geometry.clone(), 1, noisy.collect()).expect("an image");
            let name = format!("imagesTr/ball{case}_{channel:04}{}", self.ending);
            write_image(folder.join(name), &image).expect("the image is written");
        }
        let labels = rings.iter().enumerate();
        let labels = labels.map(|(offset, &ring)| (self.label)(ring, geometry.index_of(offset)));
        let map = LabelMap::new(geometry.clone(), labels.collect()).expect("a label map");
        let name = format!("labelsTr/ball{case}{}", self.ending);
        write_labels(folder.join(name), &map).expect("the label map is written");
    }

    fn ring(&self, index: [usize; 3], centre: [f64; 3]) -> u32 {
        let distance = |a: usize| match self.shape[a] {
            1 => 0.0,
            _ => (index[a] as f64 - centre[a]) * self.spacing[a],
        };
        let radius = (0..3).map(|a| distance(a).powi(2)).sum::<f64>().sqrt();
        RADII.iter().filter(|&&limit| radius < limit).count() as u32
    }
}

/// A configuration of `steps` steps that takes seconds, for patches of 8 x 16 x 16 voxels.
pub fn quick(steps: usize) -> String {
    format!(
        "[schedule]\nsteps = {steps}\ncheckpoint_every = 2\nvalidate_every = 4\n\
         [batch]\nsize = 2\npatch = [8, 16, 16]\n\
         [network]\nbase_features = 4\nmax_features = 8\nmax_stages = 3\n"
    )
}

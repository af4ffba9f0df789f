//! Data sets in temporary folders.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use voxseg::dataset::{
    ChannelPlan, CropAndResample, DatasetError, Description, IntensityProperties, Labels,
    LoadedCase, Normalisation, Preprocessing, RestoredLabels,
};
use voxseg::volume::{Geometry, Image, LabelMap, write_image, write_labels};

/// One channel, background and one foreground label, NIfTI without compression.
pub const PLAIN: &str = r#"{
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "organ": 1},
    "numTraining": 2,
    "file_ending": ".nii"
}"#;

/// [`PLAIN`] with two channels.
pub fn two_channels() -> String {
    PLAIN.replace(r#"{"0": "MRI"}"#, r#"{"0": "T1", "1": "T2"}"#)
}

/// Understands a dataset.json that never was a file.
pub fn describe(text: &str) -> Description {
    Description::parse(text, Path::new("dataset.json")).unwrap()
}

/// A data set that is deleted at the end of the test.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// The folders of the raw layout and a dataset.json, but no case.
    pub fn new(description: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["imagesTr", "labelsTr"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("dataset.json"), description).unwrap();
        Self { folder }
    }

    /// [`PLAIN`] with the cases a and b of 6 x 7 x 8 voxels.
    pub fn two_cases() -> Self {
        let folder = Self::new(PLAIN);
        for id in ["a", "b"] {
            folder.add_case(id, [6, 7, 8], [2.0, 1.0, 1.0], 1);
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A case with [`voxels`]; channel n is n + 1 times as bright.
    pub fn add_case(&self, id: &str, shape: [usize; 3], spacing: [f64; 3], channels: usize) {
        let geometry = Geometry::from_spacing(shape, spacing);
        let (image, label) = voxels(&geometry);
        for channel in 0..channels {
            let scaled = image.iter().map(|v| v * (channel + 1) as f32).collect();
            let name = format!("imagesTr/{id}_{channel:04}.nii");
            write_nifti(&self.file(&name), &geometry, scaled);
        }
        let map = LabelMap::new(geometry, label).unwrap();
        write_labels(self.file(&format!("labelsTr/{id}.nii")), &map).unwrap();
    }
}

/// A border of zeros, within it a ramp, within that a box of 100 to 106 with label 1.
pub fn voxels(geometry: &Geometry) -> (Vec<f32>, Vec<u32>) {
    let shape = geometry.shape();
    let depth_of = |offset: usize| {
        let index = geometry.index_of(offset);
        (0..3)
            .map(|a| index[a].min(shape[a] - 1 - index[a]))
            .min()
            .unwrap()
    };
    (0..geometry.voxels())
        .map(|offset| match depth_of(offset) {
            0 => (0.0, 0),
            1 => (1.0 + offset as f32 * 0.01, 0),
            _ => (100.0 + (offset % 7) as f32, 1),
        })
        .unzip()
}

/// Writes one channel.
pub fn write_nifti(path: &Path, geometry: &Geometry, voxels: Vec<f32>) {
    let image = Image::new(geometry.clone(), 1, voxels).unwrap();
    write_image(path, &image).unwrap();
}

/// A case that never was a file.
pub fn loaded(geometry: Geometry, image: Vec<f32>, label: Option<Vec<u32>>) -> LoadedCase {
    LoadedCase {
        id: "a".into(),
        path: "a_0000.nii".into(),
        channels: image.len() / geometry.voxels(),
        geometry,
        image,
        label,
    }
}

/// `channels` channels without normalisation at `spacing`.
pub fn preprocessing(spacing: [f64; 3], channels: usize) -> Preprocessing {
    let channel = ChannelPlan {
        name: "noNorm".into(),
        normalisation: Normalisation::None,
        use_mask: false,
        intensities: IntensityProperties::default(),
    };
    Preprocessing {
        spacing,
        planar: false,
        channels: vec![channel; channels],
    }
}

/// The segmentation of logits (C, D, H, W), handed over by so many slices at a time.
pub fn restored(
    record: CropAndResample,
    logits: &[f32],
    labels: &Labels,
    slices_at: impl Fn(usize) -> usize,
) -> Result<Vec<u32>, DatasetError> {
    let [depth, height, width] = record.resampled_shape;
    let plane = height * width;
    let slice = |z: usize| -> Vec<f32> {
        let of = |class: usize| &logits[(class * depth + z) * plane..][..plane];
        (0..labels.classes()).flat_map(of).copied().collect()
    };
    let mut restored = RestoredLabels::new(record, labels);
    let mut z = 0;
    while z < depth {
        let end = (z + slices_at(z)).min(depth);
        restored.add((z..end).map(slice).collect());
        z = end;
    }
    restored.finish()
}

/// As [`restored`], all slices at once.
pub fn restored_whole(record: CropAndResample, logits: &[f32], labels: &Labels) -> Vec<u32> {
    restored(record, logits, labels, |_| record.resampled_shape[0]).unwrap()
}

/// The real data, where it is there.
pub fn real_data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("VOXSEG_DATA").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("did not run: no real data in {}", folder.display());
    None
}

/// Asserts that an error is the user's fault and that its message holds all of `words`.
pub fn assert_blames(error: &DatasetError, words: &[&str]) {
    let message = error.to_string();
    assert!(error.is_users_fault(), "{message}");
    for word in words {
        assert!(message.contains(word), "\"{word}\" is not in: {message}");
    }
}

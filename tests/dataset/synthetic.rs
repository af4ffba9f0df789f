use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tempfile::TempDir;
use voxseg::dataset::synthetic::{
    CLASS_NAMES, DATASET_NAME, SyntheticConfig, SyntheticDataset, SyntheticError,
    write_synthetic_dataset,
};
use voxseg::dataset::{Dataset, check_integrity};
use voxseg::volume::{Image, LabelMap, read_image, read_labels};

/// Scans of the size that the demonstration uses, but fewer.
static SCANS: LazyLock<(TempDir, SyntheticDataset)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let config = SyntheticConfig {
        training_cases: 4,
        test_cases: 1,
        ..SyntheticConfig::default()
    };
    let dataset = write_synthetic_dataset(folder.path(), &config).unwrap();
    (folder, dataset)
});

fn coarse(training_cases: usize, seed: u64) -> SyntheticConfig {
    SyntheticConfig {
        training_cases,
        test_cases: 1,
        shape: [8, 16, 16],
        spacing: [12.0, 6.0, 6.0],
        seed,
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let relative = |path: PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
    files(folder).into_keys().map(relative).collect()
}

fn training_cases() -> Vec<(Image, LabelMap)> {
    let (_, dataset) = &*SCANS;
    let read = |name: &String| {
        let image = dataset.folder.join(format!("imagesTr/{name}_0000.nii.gz"));
        let labels = dataset.folder.join(format!("labelsTr/{name}.nii.gz"));
        (read_image(image).unwrap(), read_labels(labels).unwrap())
    };
    dataset.training.iter().map(read).collect()
}

#[test]
fn the_folder_has_the_raw_layout_of_nnunet() {
    let (_, dataset) = &*SCANS;
    let expected = [
        "dataset.json",
        "imagesTr/train_001_0000.nii.gz",
        "imagesTr/train_002_0000.nii.gz",
        "imagesTr/train_003_0000.nii.gz",
        "imagesTr/train_004_0000.nii.gz",
        "imagesTs/test_001_0000.nii.gz",
        "labelsTr/train_001.nii.gz",
        "labelsTr/train_002.nii.gz",
        "labelsTr/train_003.nii.gz",
        "labelsTr/train_004.nii.gz",
        "labelsTs/test_001.nii.gz",
    ];
    assert_eq!(names(&dataset.folder), expected);
    assert!(dataset.folder.ends_with(DATASET_NAME));
    assert_eq!(dataset.test, ["test_001"]);

    let text = fs::read(dataset.folder.join("dataset.json")).unwrap();
    let description: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(description["numTraining"], 4);
    assert_eq!(description["file_ending"], ".nii.gz");
    assert_eq!(description["channel_names"]["0"], "MRI");
    for (label, name) in CLASS_NAMES.iter().enumerate() {
        assert_eq!(description["labels"][name], label);
    }
}

#[test]
fn it_opens_as_a_data_set_without_complaint() {
    let (_, synthetic) = &*SCANS;
    let dataset = Dataset::open(&synthetic.folder).unwrap();
    let complaints = check_integrity(&dataset, |_| ());
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn every_scan_has_its_own_oblique_grid_that_its_labels_share() {
    let typical = SyntheticConfig::default();
    let mut spacings = Vec::new();
    for (image, labels) in training_cases() {
        let (grid, spacing) = (image.geometry(), image.geometry().spacing());
        grid.matches(labels.geometry()).unwrap();
        for axis in 0..3 {
            let ratio = spacing[axis] / typical.spacing[axis];
            assert!((0.939..=1.061).contains(&ratio), "spacing {spacing:?}");
            let covered = image.shape()[axis] as f64 * spacing[axis];
            let wanted = typical.shape[axis] as f64 * typical.spacing[axis];
            assert!(
                (covered - wanted).abs() <= spacing[axis] / 2.0 + 1e-3,
                "axis {axis} covers {covered} mm"
            );
        }
        let rows = grid.affine().rows();
        assert!(rows[0][1].abs() + rows[0][2].abs() > 0.01, "not oblique");
        assert_eq!(grid.orientation().as_deref(), Some("RAS"));
        spacings.push(spacing);
    }
    spacings.dedup();
    assert_eq!(spacings.len(), 4, "all of one spacing: {spacings:?}");
}

#[test]
fn every_class_is_large_enough_to_learn_in_every_case() {
    for (image, map) in training_cases() {
        let share = |label: u32| {
            let hits = map.labels().iter().filter(|&&l| l == label).count();
            hits as f64 / map.labels().len() as f64
        };
        assert_eq!(map.largest(), 3);
        let shares = [share(1), share(2), share(3)];
        assert!(shares[0] > 0.02, "liver: {shares:?}");
        assert!(shares[1] > 0.005 && shares[2] > 0.005, "{shares:?}");
        let plausible = |v: &f32| v.fract() == 0.0 && (0.0..1000.0).contains(v);
        assert!(image.voxels().iter().all(plausible));
    }
}

/// The best Dice that any function of the z-scored intensity reaches, pooled over the cases: bins
/// of intensity enter the prediction by the share of the class in them, best first.
fn best_dice_of_intensity(cases: &[(Image, LabelMap)], label: u32) -> f64 {
    let mut bins: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for (image, map) in cases {
        let voxels = image.voxels();
        let mean = voxels.iter().sum::<f32>() / voxels.len() as f32;
        let squares: f32 = voxels.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (squares / voxels.len() as f32).sqrt();
        for (v, l) in voxels.iter().zip(map.labels()) {
            let bin = bins.entry(((v - mean) / deviation * 20.0).floor() as i64);
            let (all, hits) = bin.or_default();
            *all += 1;
            *hits += u64::from(*l == label);
        }
    }
    let mut bins: Vec<(u64, u64)> = bins.into_values().collect();
    bins.sort_by(|a, b| (b.1 * a.0).cmp(&(a.1 * b.0)));
    let truth: u64 = bins.iter().map(|bin| bin.1).sum();
    let mut taken = (0, 0);
    let dice = bins.iter().map(|bin| {
        taken = (taken.0 + bin.0, taken.1 + bin.1);
        2.0 * taken.1 as f64 / (taken.0 + truth) as f64
    });
    dice.fold(0.0, f64::max)
}

#[test]
fn no_function_of_the_intensity_alone_finds_an_organ() {
    let cases = training_cases();
    for label in 1..=3 {
        let pooled = best_dice_of_intensity(&cases, label);
        assert!(pooled < 0.6, "class {label}: {pooled:.3} over all cases");
        assert!(pooled > 0.1, "class {label}: {pooled:.3}, nothing to see");
        for case in &cases {
            let own = best_dice_of_intensity(std::slice::from_ref(case), label);
            assert!(own < 0.75, "class {label}: {own:.3} in one case");
        }
    }
}

#[test]
fn the_noise_of_air_is_rician() {
    for (image, _) in training_cases() {
        let width = image.shape()[2];
        let corner: Vec<f64> = image
            .voxels()
            .chunks(image.shape()[1] * width)
            .flat_map(|slice| &slice[..6])
            .map(|&v| f64::from(v))
            .collect();
        let mean = corner.iter().sum::<f64>() / corner.len() as f64;
        let variance = corner.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / corner.len() as f64;
        // Of a Rayleigh distribution: sqrt(pi / (4 - pi)).
        let ratio = mean / variance.sqrt();
        assert!((ratio - 1.913).abs() < 0.35, "mean over deviation {ratio}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_more_cases_change_no_other() {
    let folders: Vec<TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let write = |folder: usize, config: &SyntheticConfig| {
        let dataset = write_synthetic_dataset(folders[folder].path(), config).unwrap();
        let strip = |(path, bytes): (PathBuf, Vec<u8>)| {
            let relative = path.strip_prefix(&dataset.folder).unwrap();
            (relative.to_owned(), bytes)
        };
        files(&dataset.folder)
            .into_iter()
            .map(strip)
            .collect::<BTreeMap<_, _>>()
    };
    let first = write(0, &coarse(2, 7));
    assert_eq!(write(1, &coarse(2, 7)), first);
    assert_eq!(write(0, &coarse(2, 7)), first, "written over itself");

    let more = write(2, &coarse(3, 7));
    let other = write(3, &coarse(2, 8));
    for (path, bytes) in first
        .iter()
        .filter(|(path, _)| path.extension() != Some("json".as_ref()))
    {
        assert_eq!(&more[path], bytes, "{}", path.display());
        assert_ne!(&other[path], bytes, "{}", path.display());
    }
}

#[test]
fn a_file_of_another_data_set_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    write_synthetic_dataset(folder.path(), &coarse(2, 7)).unwrap();
    let before = files(folder.path());
    let refused = write_synthetic_dataset(folder.path(), &coarse(1, 9)).unwrap_err();
    assert!(matches!(refused, SyntheticError::Stranger { .. }));
    assert!(refused.to_string().contains("train_002"), "{refused}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn settings_out_of_range_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let base = SyntheticConfig::default();
    let wrong = [
        SyntheticConfig {
            training_cases: 0,
            ..base.clone()
        },
        SyntheticConfig {
            shape: [1, 64, 64],
            ..base.clone()
        },
        SyntheticConfig {
            spacing: [3.0, f64::NAN, 1.5],
            ..base.clone()
        },
        SyntheticConfig {
            spacing: [3.0, 0.0, 1.5],
            ..base
        },
    ];
    for config in wrong {
        let refused = write_synthetic_dataset(folder.path(), &config);
        assert!(
            matches!(refused, Err(SyntheticError::Config { .. })),
            "{config:?}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

//! Crop, normalise, resample.

use voxseg::dataset::{DatasetError, IntensityProperties, Normalisation};
use voxseg::volume::Geometry;

use crate::support::{assert_blames, loaded, preprocessing, voxels};

#[test]
fn the_border_goes_and_the_grid_changes() {
    let geometry = Geometry::from_spacing([6, 7, 8], [2.0, 1.0, 1.0]);
    let (image, label) = voxels(&geometry);
    let case = loaded(geometry, image, Some(label));
    let done = preprocessing([1.0, 1.0, 2.0], 1).apply(case).unwrap();
    assert_eq!(done.record.bounds.start, [1; 3]);
    assert_eq!(done.record.bounds.extent, [4, 5, 6]);
    assert_eq!(done.record.resampled_shape, [8, 5, 3]);
    assert_eq!(done.image.len(), 120);
    let label = done.label.unwrap();
    assert_eq!(label.len(), 120);
    assert_eq!(label[(4 * 5 + 2) * 3 + 1], 1);
    assert_eq!(label[0], 0);
    let brightest = done.image.iter().copied().fold(0.0, f32::max);
    assert!((100.0..=106.0).contains(&brightest));
}

#[test]
fn each_channel_is_normalised_by_its_plan_before_it_is_resampled() {
    let geometry = Geometry::from_spacing([1, 2, 4], [1.0; 3]);
    let image = [[0.0, 2.0, 4.0, 0.0, 0.0, 6.0, 8.0, 0.0], [1.0; 8]].concat();
    let mut how = preprocessing([1.0; 3], 2);
    how.channels[0].normalisation = Normalisation::ZScore;
    how.channels[1].normalisation = Normalisation::Ct;
    how.channels[1].intensities = IntensityProperties {
        mean: 5.0,
        std: 2.0,
        percentile_00_5: 3.0,
        percentile_99_5: 9.0,
        ..IntensityProperties::default()
    };
    let done = how.apply(loaded(geometry, image, None)).unwrap();
    let mean: f32 = done.image[..8].iter().sum();
    assert!(mean.abs() < 1e-6);
    assert_eq!(done.image[8..], [-1.0; 8]);
}

#[test]
fn the_mask_bounds_the_statistics() {
    let geometry = Geometry::from_spacing([1, 3, 4], [1.0; 3]);
    let image = vec![1.0, 0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let mut how = preprocessing([1.0; 3], 1);
    how.channels[0].normalisation = Normalisation::ZScore;
    how.channels[0].use_mask = true;
    let done = how.apply(loaded(geometry, image, None)).unwrap();
    let expected = [-1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0];
    assert_eq!(done.image, expected);
}

#[test]
fn slices_stay_slices() {
    let geometry = Geometry::from_spacing([3, 4, 4], [7.0, 1.0, 1.0]);
    let mut how = preprocessing([1.0, 0.5, 0.5], 1);
    how.planar = true;
    let case = loaded(geometry, vec![1.0; 48], None);
    assert_eq!(how.apply(case).unwrap().record.resampled_shape, [3, 8, 8]);
}

#[test]
fn an_absurd_spacing_is_refused_before_memory_is_asked_for() {
    let geometry = Geometry::from_spacing([4, 4, 4], [1e6, 1e6, 1e6]);
    let case = loaded(geometry, vec![1.0; 64], None);
    let error = preprocessing([1.0; 3], 1).apply(case).unwrap_err();
    assert_blames(&error, &["a_0000.nii", "spacing", "1000000.0"]);
}

#[test]
fn other_channels_than_planned_are_refused() {
    let geometry = Geometry::from_spacing([2, 2, 2], [1.0; 3]);
    let error = preprocessing([1.0; 3], 2).apply(loaded(geometry, vec![1.0; 8], None));
    assert!(matches!(
        error,
        Err(DatasetError::ChannelCount {
            expected: 2,
            found: 1,
            ..
        })
    ));
}

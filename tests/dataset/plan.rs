//! The planner against nnU-Net's plans of public data sets.

use crate::support::assert_blames;
use voxseg::dataset::{
    Budget, Description, Extent, Fingerprint, IntensityProperties, Normalisation, Overrides,
    PLAN_FILE, Plan, PlannedShape, Request, Shaping, StageLists, Topology, plan_shape,
    target_spacing,
};
use voxseg::gpu::DeviceProfile;
use voxseg::losses::LossConfig;
use voxseg::models::{PlainNet, plain_unet};
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::Shape;
use voxseg::train::{TargetForm, training_step};

/// Median shape and spacing (mm, lowest resolution first, as nnU-Net orders axes), cases and classes.
struct Public {
    name: &'static str,
    shape: [f64; 3],
    spacing: [f64; 3],
    cases: f64,
    channels: usize,
    classes: usize,
}

const fn public(
    name: &'static str,
    shape: [f64; 3],
    spacing: [f64; 3],
    cases: f64,
    (channels, classes): (usize, usize),
) -> Public {
    Public {
        name,
        shape,
        spacing,
        cases,
        channels,
        classes,
    }
}

const HIPPOCAMPUS: Public = public("Hippocampus", [36.0, 50.0, 35.0], [1.0; 3], 260.0, (1, 3));
const HEART: Public = public(
    "Heart",
    [115.0, 320.0, 232.0],
    [1.37, 1.25, 1.25],
    20.0,
    (1, 2),
);
const SPLEEN: Public = public(
    "Spleen",
    [187.0, 512.0, 512.0],
    [1.6, 0.793, 0.793],
    41.0,
    (1, 2),
);
const LIVER: Public = public(
    "Liver",
    [482.0, 512.0, 512.0],
    [1.0, 0.767, 0.767],
    131.0,
    (1, 3),
);
const PROSTATE: Public = public(
    "Prostate",
    [20.0, 320.0, 319.0],
    [3.6, 0.62, 0.62],
    32.0,
    (2, 3),
);
const BRATS: Public = public("BraTS", [138.0, 170.0, 138.0], [1.0; 3], 484.0, (4, 4));
const ACDC: Public = public(
    "ACDC",
    [18.0, 246.0, 213.0],
    [5.0, 1.56, 1.56],
    200.0,
    (1, 4),
);
const KITS: Public = public("KiTS", [527.0, 512.0, 512.0], [0.78; 3], 210.0, (1, 3));

fn plan(of: &Public, planar: bool, budget: &Budget) -> PlannedShape {
    let request = Request {
        shaping: Shaping {
            spacing: of.spacing,
            planar,
            base_features: budget.base_features,
            max_features: budget.allowance(planar).max_features,
            max_stages: budget.max_stages,
            residual: budget.residual,
            stages: StageLists::default(),
        },
        channels: of.channels,
        classes: of.classes,
        patch: None,
    };
    let data = Extent {
        median: of.shape,
        voxels: of.shape.iter().product::<f64>() * of.cases,
    };
    plan_shape(&request, &data, budget)
}

#[test]
fn volumes_are_planned_as_by_nnunet() {
    for (of, patch, batch) in [
        (HIPPOCAMPUS, [40, 56, 40], 9),
        (HEART, [80, 192, 160], 2),
        (SPLEEN, [64, 192, 160], 2),
        (LIVER, [128, 128, 128], 2),
        (PROSTATE, [20, 320, 256], 2),
        (BRATS, [128, 128, 128], 2),
        (ACDC, [20, 256, 224], 4),
        (KITS, [128, 128, 128], 2),
    ] {
        let found = plan(&of, false, &Budget::nnunet(8.0));
        assert_eq!((found.patch, found.batch), (patch, batch), "{}", of.name);
    }
}

#[test]
fn slices_are_planned_as_by_nnunet() {
    for (of, patch, batch) in [
        (HIPPOCAMPUS, [1, 56, 40], 366),
        (HEART, [1, 320, 256], 40),
        (SPLEEN, [1, 512, 512], 12),
        (LIVER, [1, 512, 512], 12),
        (PROSTATE, [1, 320, 320], 32),
        (BRATS, [1, 192, 160], 105),
        (ACDC, [1, 256, 224], 56),
        (KITS, [1, 512, 512], 12),
    ] {
        let found = plan(&of, true, &Budget::nnunet(8.0));
        assert_eq!((found.patch, found.batch), (patch, batch), "{}", of.name);
    }
}

#[test]
fn the_plan_of_most_slices_compiles_for_a_gpu() {
    let PlannedShape {
        patch,
        batch,
        topology,
    } = plan(&HIPPOCAMPUS, true, &Budget::nnunet(8.0));
    let rows = batch * topology.features.iter().max().unwrap();
    assert!(rows > 65_535, "{rows}");
    let network = plain_unet(PlainNet {
        in_channels: HIPPOCAMPUS.channels,
        out_channels: HIPPOCAMPUS.classes,
        features: topology.features,
        kernels: topology.kernels,
        strides: topology.strides,
    });
    let images = Shape::new(batch, HIPPOCAMPUS.channels, 1, 1, 1).with_spatial(patch);
    // The least grid of any device, with buffers that hold such a batch.
    let device = DeviceProfile {
        max_binding: 1 << 30,
        max_buffer: 1 << 30,
        ..DeviceProfile::minimal_gpu()
    };
    let (form, loss) = (TargetForm::CLASSES, LossConfig::default());
    let optimizer = OptimizerConfig::default();
    training_step(&network.into(), images, form, &loss, &optimizer, &device).unwrap();
}

#[test]
fn residual_encoders_are_planned_as_by_nnunet() {
    for (of, patch, batch) in [
        (HIPPOCAMPUS, [40, 56, 40], 178),
        (HEART, [112, 288, 224], 2),
        (SPLEEN, [80, 256, 256], 2),
        (LIVER, [192, 192, 192], 2),
        (PROSTATE, [20, 320, 320], 5),
        (BRATS, [160, 192, 160], 3),
        (ACDC, [20, 256, 224], 10),
        (KITS, [192, 192, 192], 2),
    ] {
        let found = plan(&of, false, &Budget::nnunet_residual(24.0));
        assert_eq!((found.patch, found.batch), (patch, batch), "{}", of.name);
    }
}

#[test]
fn networks_for_the_cpu_keep_within_their_limits() {
    let budget = Budget::cpu_like();
    for of in [
        HIPPOCAMPUS,
        HEART,
        SPLEEN,
        LIVER,
        PROSTATE,
        BRATS,
        ACDC,
        KITS,
    ] {
        for planar in [false, true] {
            let found = plan(&of, planar, &budget);
            let allowance = budget.allowance(planar);
            assert!(found.patch.iter().product::<usize>() <= allowance.max_patch_voxels);
            let flops = found
                .topology
                .forward_flops(found.patch, of.channels, of.classes);
            assert!(flops <= 6e9 && flops > 1e7, "{} {flops}", of.name);
            assert!((3..=5).contains(&found.topology.stages()));
            assert_eq!(found.topology.features[0], 8);
            let divisor = found.topology.divisor();
            assert!((0..3).all(|axis| found.patch[axis].is_multiple_of(divisor[axis])));
        }
    }
}

/// A cube of 6 stages with 3 x 3 x 3 kernels, of 320 features at most.
fn cube(residual: bool) -> Topology {
    let shaping = Shaping {
        spacing: [1.0; 3],
        planar: false,
        base_features: 32,
        max_features: 320,
        max_stages: usize::MAX,
        residual,
        stages: StageLists::default(),
    };
    let (topology, patch) = shaping.topology([128.0; 3]);
    assert_eq!(patch, [128; 3]);
    topology
}

/// The figures in the comments of nnU-Net's planners.
#[test]
fn feature_elements_are_those_of_nnunet() {
    let plain = cube(false);
    assert_eq!(plain.features, [32, 64, 128, 256, 320, 320]);
    assert_eq!(plain.feature_elements([128; 3], 3, false), 452_796_416.0);
    assert_eq!(plain.feature_elements([128; 3], 3, true), 453_694_976.0);
    let residual = cube(true);
    assert_eq!(residual.blocks, Some(vec![1, 3, 4, 6, 6, 6]));
    assert_eq!(residual.feature_elements([128; 3], 3, true), 558_319_104.0);
}

#[test]
fn operations_are_counted_by_hand() {
    let topology = Topology {
        features: vec![4, 8],
        kernels: vec![[1, 3, 3], [3, 3, 3]],
        strides: vec![[1; 3], [1, 2, 2]],
        blocks: None,
        convs: None,
        decoder_convs: None,
        heads: None,
    };
    let fine = 9 * (4 + 16) + 9 * (32 + 16) + 8 * 4 + 4 * 2;
    let coarse = 27 * (32 + 64);
    let macs = (2 * 8 * 8) * fine + (2 * 4 * 4) * coarse;
    assert_eq!(topology.forward_flops([2, 8, 8], 1, 2), 2.0 * macs as f64);
}

#[test]
fn a_thin_coarse_axis_is_not_pooled_until_the_others_have_caught_up() {
    let found = plan(&PROSTATE, false, &Budget::nnunet(8.0));
    let (kernels, strides) = (&found.topology.kernels, &found.topology.strides);
    assert_eq!(kernels[..3], [[1, 3, 3], [1, 3, 3], [3, 3, 3]]);
    assert_eq!(strides[..4], [[1; 3], [1, 2, 2], [1, 2, 2], [2, 2, 2]]);
}

#[test]
fn the_coarse_axis_may_be_any() {
    let turned = Public {
        shape: [320.0, 20.0, 319.0],
        spacing: [0.62, 3.6, 0.62],
        ..PROSTATE
    };
    let found = plan(&turned, false, &Budget::nnunet(8.0));
    assert_eq!(found.patch, [320, 20, 256]);
    assert_eq!(found.topology.strides[1], [2, 1, 2]);
}

pub fn fingerprint(spacings: &[[f64; 3]], shapes: &[[usize; 3]]) -> Fingerprint {
    Fingerprint {
        spacings: spacings.to_vec(),
        shapes_after_crop: shapes.to_vec(),
        foreground_intensity_properties_per_channel: [(0, IntensityProperties::default())].into(),
        median_relative_size_after_cropping: 1.0,
    }
}

#[test]
fn the_target_spacing_is_the_median_unless_an_axis_is_coarse_and_thin() {
    let spacings = [[1.0, 0.5, 0.5], [2.0, 0.6, 0.5], [3.0, 0.7, 0.9]];
    let print = fingerprint(&spacings, &[[100, 100, 100]; 3]);
    assert_eq!(target_spacing(&print), [2.0, 0.6, 0.5]);
    let print = fingerprint(&spacings, &[[10, 100, 100]; 3]);
    let found = target_spacing(&print);
    assert!((found[0] - 1.2).abs() < 1e-12, "{found:?}");
    let spacings = [[0.1, 0.5, 0.5], [2.0, 0.6, 0.5], [3.0, 0.7, 0.9]];
    let print = fingerprint(&spacings, &[[10, 100, 100]; 3]);
    assert_eq!(target_spacing(&print), [0.6 + 1e-5, 0.6, 0.5]);
}

pub fn description(channel: &str) -> Description {
    let text = crate::support::PLAIN.replace("MRI", channel);
    Description::parse(&text, std::path::Path::new("dataset.json")).unwrap()
}

#[test]
fn pictures_get_a_planar_network() {
    let print = fingerprint(&[[1.0; 3]; 4], &[[1, 512, 512]; 4]);
    let budget = Budget::cpu_like();
    let plan = Plan::new(&description("EM"), &print, &budget, &Overrides::default()).unwrap();
    assert!(plan.preprocessing.planar);
    assert_eq!(plan.patch, [1, 256, 256]);
    assert_eq!(plan.batch, 4);
    assert!(plan.topology.kernels.iter().all(|k| *k == [1, 3, 3]));
    assert_eq!(plan.topology.divisor()[0], 1);
}

#[test]
fn the_border_decides_about_the_mask_and_the_name_about_the_scheme() {
    let mut print = fingerprint(&[[1.0; 3]], &[[40; 3]]);
    print.median_relative_size_after_cropping = 0.7;
    for (name, scheme, use_mask) in [
        ("T1", Normalisation::ZScore, true),
        ("CT", Normalisation::Ct, false),
    ] {
        let budget = Budget::cpu_like();
        let plan = Plan::new(&description(name), &print, &budget, &Overrides::default()).unwrap();
        let channel = &plan.preprocessing.channels[0];
        assert_eq!(
            (channel.normalisation, channel.use_mask),
            (scheme, use_mask)
        );
    }
}

#[test]
fn the_user_has_the_last_word() {
    let print = fingerprint(&[[1.0; 3]; 4], &[[64; 3]; 4]);
    let overrides = Overrides {
        spacing: Some([2.0; 3]),
        patch: Some([30, 33, 16]),
        batch: Some(5),
        base_features: Some(6),
        max_features: Some(10),
        max_stages: Some(3),
        ..Overrides::default()
    };
    let budget = Budget::nnunet(8.0);
    let plan = Plan::new(&description("T1"), &print, &budget, &overrides).unwrap();
    assert_eq!(plan.patch, [32, 36, 16]);
    assert_eq!(plan.batch, 5);
    assert_eq!(plan.topology.features, [6, 10, 10]);
    assert_eq!(plan.preprocessing.spacing, [2.0; 3]);
    assert_eq!(plan.median_shape, [32; 3]);
}

#[test]
fn a_plan_is_written_and_read_again_and_unknown_keys_are_refused() {
    let print = fingerprint(&[[1.5, 0.7, 0.7]; 4], &[[64; 3]; 4]);
    let budget = Budget::nnunet_residual(24.0);
    let plan = Plan::new(&description("T1"), &print, &budget, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PLAN_FILE);
    plan.write(&path).unwrap();
    assert_eq!(Plan::read(&path).unwrap(), plan);
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replacen('{', "{\"colour\": 1,", 1);
    std::fs::write(&path, text).unwrap();
    assert_blames(&Plan::read(&path).unwrap_err(), &[PLAN_FILE, "colour"]);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let print = fingerprint(&[[1.0; 3]], &[[64; 3]]);
    let none = Overrides::default;
    for (overrides, word) in [
        (
            Overrides {
                spacing: Some([1.0, 0.0, 1.0]),
                ..none()
            },
            "spacing",
        ),
        (
            Overrides {
                spacing: Some([1.0, f64::NAN, 1.0]),
                ..none()
            },
            "spacing",
        ),
        (
            Overrides {
                patch: Some([0, 8, 8]),
                ..none()
            },
            "patch",
        ),
        (
            Overrides {
                patch: Some([1 << 11, 1 << 11, 1 << 11]),
                ..none()
            },
            "patch",
        ),
        (
            Overrides {
                batch: Some(0),
                ..none()
            },
            "batch",
        ),
        (
            Overrides {
                batch: Some(4097),
                ..none()
            },
            "batch",
        ),
        (
            Overrides {
                max_stages: Some(0),
                ..none()
            },
            "stages",
        ),
    ] {
        let budget = Budget::cpu_like();
        let error = Plan::new(&description("T1"), &print, &budget, &overrides).unwrap_err();
        assert_blames(&error, &[word]);
    }
    let empty = fingerprint(&[], &[]);
    let budget = Budget::cpu_like();
    assert!(Plan::new(&description("T1"), &empty, &budget, &none()).is_err());
}

#[test]
fn a_plan_that_contradicts_itself_is_refused() {
    let print = fingerprint(&[[1.5, 0.7, 0.7]; 4], &[[64; 3]; 4]);
    let budget = Budget::nnunet(8.0);
    let plan = Plan::new(&description("T1"), &print, &budget, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PLAN_FILE);
    type Spoil = fn(&mut Plan);
    let spoils: [(&str, Spoil); 9] = [
        ("channel", |p| p.preprocessing.channels.clear()),
        ("foreground", |p| p.labels.foreground.clear()),
        ("region_order", |p| p.labels.region_order = Some(vec![])),
        ("spacing", |p| p.preprocessing.spacing[1] = -1.0),
        ("batch", |p| p.batch = 0),
        ("stages", |p| p.topology.strides.truncate(1)),
        ("per stage", |p| p.topology.features.truncate(2)),
        ("above 0", |p| p.topology.strides[1][0] = 0),
        ("divide", |p| p.patch[2] += 1),
    ];
    for (word, spoil) in spoils {
        let mut other = plan.clone();
        spoil(&mut other);
        other.write(&path).unwrap();
        assert_blames(&Plan::read(&path).unwrap_err(), &[PLAN_FILE, word]);
    }
}

#[test]
fn cases_too_small_for_any_network_are_refused() {
    let print = fingerprint(&[[1.0; 3]], &[[4, 5, 6]]);
    let budget = Budget::cpu_like();
    let error = Plan::new(&description("T1"), &print, &budget, &Overrides::default()).unwrap_err();
    assert_blames(&error, &["patch", "8 voxels"]);
}

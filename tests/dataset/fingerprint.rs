//! What the planner is told about the data.

use voxseg::dataset::{Budget, Overrides, Plan};
use voxseg::dataset::{Dataset, FINGERPRINT_FILE, Fingerprint};

use crate::support::{Folder, real_data, two_channels};

#[test]
fn the_border_of_zeros_is_cropped_and_foreground_measured() {
    let folder = Folder::new(&two_channels());
    folder.add_case("a", [6, 7, 8], [2.0, 1.0, 0.5], 2);
    folder.add_case("b", [8, 8, 8], [3.0, 1.0, 1.0], 2);
    let dataset = Dataset::open(folder.path()).unwrap();
    let mut done = Vec::new();
    let print = Fingerprint::of(&dataset, 0, |n| done.push(n)).unwrap();
    assert_eq!(done, [1, 2]);
    assert_eq!(print.shapes_after_crop, [[4, 5, 6], [6, 6, 6]]);
    assert_eq!(print.spacings, [[2.0, 1.0, 0.5], [3.0, 1.0, 1.0]]);
    let sizes = [120.0 / 336.0, 216.0 / 512.0];
    let median = (sizes[0] + sizes[1]) / 2.0;
    assert!((print.median_relative_size_after_cropping - median).abs() < 1e-12);
    let properties = &print.foreground_intensity_properties_per_channel;
    assert_eq!(properties[&0].min, 100.0);
    assert_eq!(properties[&0].max, 106.0);
    assert_eq!(properties[&1].max, 212.0);
    assert!((properties[&1].mean - 2.0 * properties[&0].mean).abs() < 1e-9);
    assert!(properties[&0].std > 1.5 && properties[&0].std < 2.5);
}

#[test]
fn it_is_written_in_the_known_form_and_read_again() {
    let folder = Folder::two_cases();
    let dataset = Dataset::open(folder.path()).unwrap();
    let print = Fingerprint::of(&dataset, 5, |_| ()).unwrap();
    assert_eq!(print, Fingerprint::of(&dataset, 5, |_| ()).unwrap());
    let path = folder.file(FINGERPRINT_FILE);
    print.write(&path).unwrap();
    assert_eq!(Fingerprint::read(&path).unwrap(), print);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(json["spacings"][1][0], 2.0);
    let properties = &json["foreground_intensity_properties_per_channel"]["0"];
    assert_eq!(properties["min"], 100.0);
    assert!(properties["percentile_00_5"].is_number());
}

#[test]
fn the_real_data_are_planned() {
    let Some(data) = real_data() else { return };
    for (name, planar) in [
        ("Dataset101_LeftAtrium", false),
        ("Dataset102_MembraneEM", true),
        ("Dataset103_Glioma", false),
        ("Dataset104_CardiacCine", false),
    ] {
        let dataset = Dataset::open(data.join(name)).unwrap();
        let print = Fingerprint::of(&dataset, 0, |_| ()).unwrap();
        for budget in [Budget::cpu_like(), Budget::nnunet(8.0)] {
            let overrides = Overrides::default();
            let plan = Plan::new(&dataset.description, &print, &budget, &overrides).unwrap();
            assert_eq!(plan.preprocessing.planar, planar, "{name}");
            println!(
                "{name}: spacing {:?}, median {:?}, patch {:?}, batch {}, features {:?}, strides {:?}, kernels {:?}, {:.2} GFLOP",
                plan.preprocessing.spacing,
                plan.median_shape,
                plan.patch,
                plan.batch,
                plan.topology.features,
                plan.topology.strides,
                plan.topology.kernels,
                plan.topology
                    .forward_flops(plan.patch, plan.channels(), plan.classes())
                    / 1e9,
            );
        }
    }
}

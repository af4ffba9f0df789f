//! Choices of the user about the stages of a network, and what plans make of them.

use voxseg::dataset::{Budget, Overrides, PLAN_FILE, Plan, StageLists};
use voxseg::run::network_of;

use crate::plan::{description, fingerprint};
use crate::support::assert_blames;

#[test]
fn lists_of_stages_take_the_place_of_the_rule() {
    let print = fingerprint(&[[1.0; 3]; 4], &[[64; 3]; 4]);
    let budget = Budget::nnunet(8.0);
    let kernels = vec![[1, 3, 5], [3, 3, 3], [3, 3, 1]];
    let strides = vec![[1; 3], [1, 2, 4], [3, 2, 1]];
    let mut overrides = Overrides {
        stages: StageLists {
            features: None,
            kernels: Some(kernels.clone()),
            strides: Some(strides.clone()),
            encoder_blocks: Some(vec![1, 2, 3]),
            decoder_blocks: Some(vec![3, 1]),
            heads: Some(vec![0]),
        },
        ..Overrides::default()
    };
    let plan = |overrides: &Overrides| Plan::new(&description("T1"), &print, &budget, overrides);
    let free = plan(&overrides).unwrap();
    assert_eq!(free.topology.kernels, kernels);
    assert_eq!(free.topology.strides, strides);
    assert_eq!(free.topology.encoder_blocks(), [1, 2, 3]);
    assert_eq!(free.topology.decoder_blocks(), [3, 1]);
    assert_eq!(free.topology.heads(), [0]);
    assert_eq!(free.topology.features.len(), 3);
    assert_eq!(free.patch[0] % 3, 0);
    overrides.patch = Some([31, 32, 30]);
    assert_eq!(plan(&overrides).unwrap().patch, [33, 32, 32]);
}

#[test]
fn more_convolutions_leave_room_for_a_smaller_patch() {
    let print = fingerprint(&[[1.0; 3]; 40], &[[256; 3]; 40]);
    let voxels = |blocks: usize| {
        let overrides = Overrides {
            stages: StageLists {
                encoder_blocks: Some(vec![blocks; 5]),
                ..StageLists::default()
            },
            ..Overrides::default()
        };
        let budget = Budget::nnunet(8.0);
        let plan = Plan::new(&description("T1"), &print, &budget, &overrides).unwrap();
        plan.patch.iter().product::<usize>()
    };
    assert!(voxels(6) < voxels(2));
}

#[test]
fn volumes_may_be_seen_as_slices() {
    let print = fingerprint(&[[1.0; 3]; 4], &[[64; 3]; 4]);
    let overrides = Overrides {
        planar: Some(true),
        ..Overrides::default()
    };
    let budget = Budget::cpu_like();
    let plan = Plan::new(&description("T1"), &print, &budget, &overrides).unwrap();
    assert!(plan.preprocessing.planar);
    assert_eq!(plan.patch[0], 1);
    assert!(plan.topology.kernels.iter().all(|k| *k == [1, 3, 3]));
}

/// Refused by the planner, naming key, expectation and finding.
#[test]
fn lists_that_no_network_can_have_are_refused() {
    let stages = |change: fn(&mut StageLists)| {
        let mut stages = StageLists::default();
        change(&mut stages);
        stages
    };
    let cases: [(StageLists, &[&str]); 13] = [
        (
            stages(|s| s.kernels = Some(vec![[3; 3], [3, 2, 3]])),
            &["kernels", "odd", "[3, 2, 3]"],
        ),
        (
            stages(|s| s.kernels = Some(vec![[3; 3], [99; 3]])),
            &["kernels", "31", "99"],
        ),
        (stages(|s| s.kernels = Some(vec![])), &["kernels", "two"]),
        (
            stages(|s| s.kernels = Some(vec![[3; 3]; 9])),
            &["network.kernels", "a list of 5", "9 entries"],
        ),
        (
            stages(|s| s.strides = Some(vec![[2; 3], [2; 3]])),
            &["strides", "[1, 1, 1]", "[2, 2, 2]"],
        ),
        (
            stages(|s| s.strides = Some(vec![[1; 3], [0, 2, 2]])),
            &["strides", "above 0", "[0, 2, 2]"],
        ),
        (
            stages(|s| s.strides = Some(vec![[1; 3], [usize::MAX; 3], [2; 3]])),
            &["strides", "4096"],
        ),
        (
            stages(|s| {
                s.strides = Some(vec![[1; 3], [2; 3]]);
                s.kernels = Some(vec![[3; 3]; 3]);
            }),
            &["network.kernels", "a list of 2", "3 entries"],
        ),
        (
            stages(|s| s.encoder_blocks = Some(vec![2, 0, 2])),
            &["encoder_blocks", "1 to 64", "[2, 0, 2]"],
        ),
        (
            stages(|s| s.decoder_blocks = Some(vec![])),
            &["decoder_blocks", "one decoder stage", "[]"],
        ),
        (
            stages(|s| s.heads = Some(vec![1, 2])),
            &["heads", "from 0", "[1, 2]"],
        ),
        (stages(|s| s.heads = Some(vec![])), &["heads", "[]"]),
        (
            stages(|s| s.heads = Some(vec![0, 4])),
            &["network.heads", "0 to 3", "found 4"],
        ),
    ];
    let print = fingerprint(&[[1.0; 3]; 4], &[[64; 3]; 4]);
    for (stages, words) in cases {
        let overrides = Overrides {
            stages,
            ..Overrides::default()
        };
        let budget = Budget::nnunet(8.0);
        let error = Plan::new(&description("T1"), &print, &budget, &overrides).unwrap_err();
        assert_blames(&error, words);
    }
}

#[test]
fn plans_of_earlier_versions_are_read() {
    let print = fingerprint(&[[1.5, 0.7, 0.7]; 4], &[[64; 3]; 4]);
    for budget in [Budget::nnunet(8.0), Budget::nnunet_residual(24.0)] {
        let plan = Plan::new(&description("T1"), &print, &budget, &Overrides::default()).unwrap();
        let mut document = serde_json::to_value(&plan).unwrap();
        assert!(document.as_object_mut().unwrap().remove("layers").is_some());
        let topology = document["topology"].as_object_mut().unwrap();
        for key in ["convs", "decoder_convs", "heads"] {
            topology.remove(key);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PLAN_FILE);
        std::fs::write(&path, document.to_string()).unwrap();
        let old = Plan::read(&path).unwrap();
        let network = |plan| format!("{:?}", network_of(plan).unwrap());
        assert_eq!(network(&old), network(&plan));
    }
}

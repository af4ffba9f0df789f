//! MobileNets: published parameters and multiply-adds, exact, and the same definitions in volumes.

use voxseg::graph::Graph;
use voxseg::models::{Counts, Form, LrAspp, MobileNetV1, MobileNetV2, MobileNetV3, Network, model};
use voxseg::nn::Mode;
use voxseg::ops::Build;
use voxseg::tensor::Shape;

#[track_caller]
fn check(name: &str, parameters: usize, madds: f64) {
    let found = model(name).unwrap().counts().unwrap();
    assert_eq!(found, Counts { parameters, madds }, "{name}");
}

/// The shape of the logits for one image of `form`.
fn logits(network: impl Into<Network>, form: Form, mode: Mode) -> Shape {
    let mut graph = Graph::new();
    let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
    let image = graph.input("image", shape).unwrap();
    let heads = network.into().build(&mut graph, image, mode).unwrap();
    graph.shape(heads.logits[0])
}

#[test]
fn v1_at_each_width() {
    check("mobilenet_v1", 4_231_976, 568_740_352.0);
    check("mobilenet_v1_075", 2_585_560, 325_400_448.0);
    check("mobilenet_v1_050", 1_331_592, 149_497_088.0);
    check("mobilenet_v1_025", 470_072, 41_030_272.0);
}

#[test]
fn v1_at_each_resolution() {
    for (side, madds) in [
        (192, 418_121_728.0),
        (160, 290_675_200.0),
        (128, 186_400_768.0),
    ] {
        let form = Form {
            extent: [1, side, side],
            ..model("mobilenet_v1").unwrap().published
        };
        let found = Counts::of(&MobileNetV1::published(form, 1.0), form).unwrap();
        let parameters = 4_231_976;
        assert_eq!(found, Counts { parameters, madds }, "{side}");
    }
}

#[test]
fn v2_at_each_width() {
    check("mobilenet_v2_140", 6_108_776, 582_195_824.0);
    check("mobilenet_v2", 3_504_872, 300_774_272.0);
    check("mobilenet_v2_075", 2_636_424, 209_069_792.0);
    check("mobilenet_v2_050", 1_968_680, 97_131_840.0);
    check("mobilenet_v2_035", 1_677_128, 59_285_808.0);
}

#[test]
fn v3_large_and_small() {
    check("mobilenet_v3_large", 5_483_032, 216_589_760.0);
    check("mobilenet_v3_small", 2_542_856, 56_510_400.0);
}

#[test]
fn lraspp_has_its_parameters_and_gives_a_class_for_each_pixel() {
    let published = model("lraspp").unwrap();
    assert_eq!(published.counts().unwrap().parameters, 3_221_538);
    let form = Form {
        extent: [1, 51, 70],
        ..published.published
    };
    let shape = logits(LrAspp::published(form), form, Mode::Inference);
    assert_eq!(shape, Shape::new(1, 21, 1, 51, 70));
}

#[test]
fn each_of_them_takes_volumes() {
    let form = Form {
        channels: 2,
        classes: 5,
        extent: [20, 33, 40],
    };
    let classes = Shape::new(1, 5, 1, 1, 1);
    for mode in [Mode::Training, Mode::Inference] {
        assert_eq!(
            logits(MobileNetV1::published(form, 0.25), form, mode),
            classes
        );
        assert_eq!(
            logits(MobileNetV2::published(form, 0.35), form, mode),
            classes
        );
        assert_eq!(logits(MobileNetV3::large(form), form, mode), classes);
        assert_eq!(logits(MobileNetV3::small(form), form, mode), classes);
        let voxels = classes.with_spatial(form.extent);
        assert_eq!(logits(LrAspp::published(form), form, mode), voxels);
    }
}

#[test]
fn numbers_that_make_no_network_are_named() {
    let form = model("mobilenet_v2").unwrap().published;
    let mut network = MobileNetV2::published(form, 1.0);
    network.stages[2].expansion = 0;
    let error = Counts::of(&network, form).unwrap_err();
    assert!(
        error.is_users_fault() && error.to_string().contains("stages.expansion"),
        "{error}"
    );
    let mut network = LrAspp::published(form);
    network.low = 17;
    let error = Counts::of(&network, form).unwrap_err();
    assert!(
        error.is_users_fault() && error.to_string().contains("17"),
        "{error}"
    );
}

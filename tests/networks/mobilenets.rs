//! MobileNets: published parameters and multiply-adds, exact, and the same definitions in volumes.

use voxseg::graph::Graph;
use voxseg::models::{
    Counts, Form, InvertedStage, LrAspp, MobileNetV1, MobileNetV2, MobileNetV3, MobileUNet,
    Network, SeparableStage, V3Block, V3Features, model,
};
use voxseg::nn::{LayerStyle, Mode, Nonlinearity, Norm};
use voxseg::ops::Build;
use voxseg::tensor::Shape;

use crate::family::matches;

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

/// Stride 1, and stride 2 in the plane.
const ONE: [usize; 3] = [1; 3];
const TWO: [usize; 3] = [1, 2, 2];

#[test]
fn v1_matches_timm() {
    let stage = |channels, blocks, stride| SeparableStage {
        channels,
        blocks,
        stride,
    };
    let network = MobileNetV1 {
        in_channels: 3,
        classes: 3,
        kernel: [1, 3, 3],
        stem: 8,
        stem_stride: TWO,
        stages: vec![stage(16, 1, ONE), stage(24, 2, TWO)],
        dropout: 0.0,
    };
    matches("network_mobilenet_v1", &network.into());
}

#[test]
fn v2_matches_torchvision() {
    let stage = |expansion, channels, blocks, stride| InvertedStage {
        expansion,
        channels,
        blocks,
        stride,
    };
    let network = MobileNetV2 {
        in_channels: 3,
        classes: 3,
        kernel: [1, 3, 3],
        stem: 8,
        stem_stride: TWO,
        stages: vec![
            stage(1, 8, 1, ONE),
            stage(3, 16, 2, TWO),
            stage(2, 8, 1, ONE),
        ],
        last: 1280,
        dropout: 0.0,
    };
    matches("network_mobilenet_v2", &network.into());
}

/// Kernel, channels inside and out, squeeze and excitation, activation, stride, dilation.
type Row = (
    usize,
    usize,
    usize,
    bool,
    Nonlinearity,
    [usize; 3],
    [usize; 3],
);

const RE: Nonlinearity = Nonlinearity::Relu;
const HS: Nonlinearity = Nonlinearity::HSwish;

fn features(rows: &[Row]) -> V3Features {
    let block = |&(k, expanded, channels, squeeze, nonlinearity, stride, dilation): &Row| V3Block {
        kernel: [1, k, k],
        expanded,
        channels,
        squeeze,
        nonlinearity,
        stride,
        dilation,
    };
    V3Features {
        in_channels: 3,
        stem_kernel: [1, 3, 3],
        stem_stride: TWO,
        stem: 8,
        blocks: rows.iter().map(block).collect(),
        norm: Norm::Batch {
            eps: 0.001,
            momentum: 0.01,
        },
    }
}

#[test]
fn v3_matches_torchvision() {
    let network = MobileNetV3 {
        features: features(&[
            (3, 8, 8, true, RE, ONE, ONE),
            (5, 24, 16, false, RE, TWO, ONE),
            (5, 40, 16, true, HS, ONE, ONE),
            (3, 32, 24, true, HS, TWO, ONE),
        ]),
        hidden: 16,
        classes: 3,
        dropout: 0.0,
    };
    matches("network_mobilenet_v3", &network.into());
}

#[test]
fn lraspp_matches_torchvision() {
    let network = LrAspp {
        features: features(&[
            (3, 16, 8, false, RE, TWO, ONE),
            (3, 24, 8, false, RE, ONE, ONE),
            (5, 32, 16, true, HS, ONE, TWO),
            (5, 40, 16, true, HS, ONE, TWO),
        ]),
        low: 2,
        inter: 16,
        classes: 3,
    };
    matches("network_lraspp", &network.into());
}

#[test]
fn mobile_unet_matches_its_definition_in_pytorch() {
    let network = MobileUNet {
        in_channels: 2,
        out_channels: 3,
        features: vec![6, 8, 12],
        kernels: vec![[1, 3, 3], [3; 3], [3; 3]],
        strides: vec![ONE, TWO, [2; 3]],
        blocks: vec![0, 1, 2],
        expansion: 4,
        heads: vec![0, 1],
        layers: LayerStyle {
            activation: Nonlinearity::Relu6,
            ..LayerStyle::default()
        },
    };
    matches("network_mobile_unet", &network.into());
}

#[test]
fn mobile_unet_takes_a_tenth_of_the_work_of_a_full_one() {
    let [light, full] = ["mobile_unet", "nnunet3d"].map(|name| model(name).unwrap());
    assert_eq!(light.published, full.published);
    let (light, full) = (light.counts().unwrap(), full.counts().unwrap());
    println!("{light:?}, {full:?}");
    assert!(10.0 * light.madds < full.madds && 5 * light.parameters < full.parameters);
}

#[test]
fn a_separable_convolution_saves_what_the_formula_says() {
    let form = model("mobilenet_v1").unwrap().published;
    let saving = |network: Network| {
        let mut graph = Graph::new();
        let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
        let image = graph.input("image", shape).unwrap();
        network.build(&mut graph, image, Mode::Inference).unwrap();
        (graph.separable_saving(), graph.product_madds())
    };
    let (v1, madds) = saving(MobileNetV1::published(form, 1.0).into());
    let v1 = v1.unwrap();
    assert_eq!(v1.pairs, 13);
    // All but the first convolution, 27 * 32 for each of 112 * 112 pixels, and the classifier.
    let others = (27 * 32 * 112 * 112 + 1024 * 1000) as f64;
    assert_eq!(v1.madds, madds - others);
    assert_eq!(
        v1.formula,
        [1.0 / 1024.0 + 1.0 / 9.0, 1.0 / 64.0 + 1.0 / 9.0]
    );
    let share = v1.madds / v1.full_madds;
    assert!(v1.formula[0] < share && share < v1.formula[1], "{share}");
    // Through the squeeze and excitation between filter and projection.
    assert_eq!(saving(MobileNetV3::large(form).into()).0.unwrap().pairs, 15);
    assert_eq!(
        saving(MobileNetV2::published(form, 1.0).into())
            .0
            .unwrap()
            .pairs,
        17
    );
    let full = voxseg::models::unet2d(form.channels, 2, 8, 3);
    assert_eq!(saving(full.into()).0, None);
}

//! Activations against the f64 reference, central differences, and PyTorch.

use voxseg::ops::Operator;
use voxseg::ops::activation::{Activate, Activation};
use voxseg::reference::Tolerance;
use voxseg::reference::activation as reference;
use voxseg::tensor::{HostTensor, Shape};

use crate::conv::tensor;
use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, halves, random, random_in};
use crate::norm::function_of;

const SHAPES: [Shape; 5] = [
    // More rows than an axis of a grid may count.
    Shape::new(257, 256, 1, 1, 1),
    Shape::new(2, 3, 5, 6, 7),
    Shape::new(2, 3, 3, 5, 8),
    Shape::new(1, 2, 20, 30, 52),
    Shape::new(1, 2, 21, 31, 17),
];

fn slopes(activation: Activation, channels: usize) -> HostTensor<f64> {
    match activation {
        Activation::LeakyRelu { slope } => HostTensor {
            shape: Shape::scalar(),
            data: vec![f64::from(slope)],
        },
        _ => random_in(Shape::vector(channels), 4, 0.1, 0.4),
    }
}

/// The sum of rounded exponentials and quotients of a sigmoid, or of a normal distribution, errs by a few times the epsilon
/// of a product.
const SIGMOID: f64 = 4.0;

fn check(
    name: &str,
    activation: Activation,
    [x, slopes, dy]: [HostTensor<f64>; 3],
    y: HostTensor<f64>,
    [dx, dslopes]: [HostTensor<f64>; 2],
) {
    let factor = match activation {
        Activation::Sigmoid | Activation::Gelu | Activation::GeluTanh | Activation::Elu => SIGMOID,
        _ => 1.0,
    };
    let terms = x.shape.n() * x.shape.voxels();
    let mut inputs = vec![(x, true)];
    let mut expected = vec![Some(dx)];
    if activation == Activation::Prelu {
        inputs.push((slopes, false));
        expected.push(Some(dslopes));
    }
    let case = Case::new(name, Activate(activation), inputs);
    case.check_forward(&[y], Tolerance::for_terms(2).amplified(factor));
    // Only the slopes' gradient is a sum over voxels.
    let terms = if activation == Activation::Prelu {
        terms
    } else {
        2
    };
    case.check_backward(
        &[Some(dy)],
        &expected,
        Tolerance::for_terms(terms).amplified(factor),
    );
}

#[test]
fn the_reference_gradients_agree_with_central_differences() {
    let shape = Shape::new(2, 3, 2, 3, 4);
    for activation in Activation::ALL {
        let f = function_of(Some(activation));
        let (x, dy) = (random_in(shape, 1, -8.0, 8.0), random(shape, 2));
        let slopes = slopes(activation, 3);
        let (dx, dslopes) = reference::backward(f, &x, &slopes.data, &dy);
        let forward = |x: &HostTensor<f64>, s: &HostTensor<f64>| reference::forward(f, x, &s.data);
        check_reference_gradient("activation dx", &x, &dx, &dy, |x| forward(x, &slopes));
        if activation == Activation::Prelu {
            check_reference_gradient("dslopes", &slopes, &dslopes, &dy, |s| forward(&x, s));
        }
    }
}

#[test]
fn activations_match_the_reference_forward_and_backward() {
    for activation in Activation::ALL {
        for shape in SHAPES {
            let f = function_of(Some(activation));
            let (x, dy) = (halves(random_in(shape, 1, -8.0, 8.0)), random(shape, 2));
            let slopes = slopes(activation, shape.c());
            let y = reference::forward(f, &x, &slopes.data);
            let (dx, dslopes) = reference::backward(f, &x, &slopes.data, &dy);
            let name = format!("{activation:?} of {shape}");
            check(&name, activation, [x, slopes, dy], y, [dx, dslopes]);
        }
    }
}

#[test]
fn activations_match_pytorch() {
    let fixture = Fixture::load("ops_activation");
    let mut seen = 0;
    for case in fixture.cases() {
        let activation = match case.op() {
            "relu" => Activation::Relu,
            "leaky_relu" => Activation::LeakyRelu {
                slope: case.number("negative_slope") as f32,
            },
            "relu6" => Activation::Relu6,
            "hardswish" => Activation::HardSwish,
            "hardsigmoid" => Activation::HardSigmoid,
            "sigmoid" => Activation::Sigmoid,
            "gelu" if case.text("approximate") == "none" => Activation::Gelu,
            "gelu" => Activation::GeluTanh,
            "elu" => Activation::Elu,
            "prelu" if case.tensor("w").data.len() > 1 => Activation::Prelu,
            _ => continue,
        };
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|key| tensor(&case, key));
        let of_slopes = |key: &str| match activation {
            Activation::Prelu => tensor(&case, key),
            _ => slopes(activation, x.shape.c()),
        };
        let (slopes, dslopes) = (of_slopes("w"), of_slopes("dw"));
        check(case.name(), activation, [x, slopes, dy], y, [dx, dslopes]);
        seen += 1;
    }
    assert_eq!(seen, 20);
}

#[test]
fn a_nan_stays_a_nan() {
    let shape = Shape::new(1, 1, 1, 1, 8);
    for activation in Activation::ALL {
        let mut inputs = vec![(
            HostTensor {
                shape,
                data: vec![f64::NAN; 8],
            },
            false,
        )];
        if activation == Activation::Prelu {
            inputs.push((slopes(activation, 1), false));
        }
        let found = Case::new("NaN", Activate(activation), inputs).run(false, None);
        assert!(found[0].data.iter().all(|v| v.is_nan()), "{activation:?}");
    }
}

#[test]
fn prelu_wants_a_slope_for_each_channel() {
    let x = Shape::new(1, 3, 2, 2, 2);
    let refused = |inputs: &[Shape]| Activate(Activation::Prelu).infer(inputs).unwrap_err();
    assert!(
        refused(&[x])
            .to_string()
            .contains("takes 2 inputs, found 1")
    );
    let text = refused(&[x, Shape::vector(2)]).to_string();
    assert!(
        text.contains("the slopes must be (1, 3, 1, 1, 1)"),
        "{text}"
    );
}

/// WGSL has no include: the kernels that apply an activation each hold its text.
#[test]
fn every_kernel_holds_the_same_activation() {
    let shader = |name: &str| {
        let path = format!("{}/shaders/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    let function = |name: &str, function: &str| {
        let text = shader(name);
        let start = text.find(&format!("fn {function}(")).unwrap();
        let end = start + text[start..].find("\n}\n").unwrap();
        text[start..end].to_owned()
    };
    let same = |a: &str, b: &str, f: &str| assert_eq!(function(a, f), function(b, f), "{f} of {b}");
    for f in ["activate", "ramp", "sigmoid", "normal", "elu"] {
        same("activation/forward", "norm/apply", f);
    }
    for name in ["norm/backward_sums", "norm/backward_dx"] {
        same("activation/backward", name, "activate_gradient");
        same("activation/forward", name, "sigmoid");
        same("activation/forward", name, "normal");
    }
}

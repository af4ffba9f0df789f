//! Convolution and transposed convolution against PyTorch.

use std::sync::Arc;

use voxseg::graph::Graph;
use voxseg::ops::Operator;
use voxseg::ops::conv::{ConvAttributes, ConvForward, ConvInputGrad, conv_transpose};
use voxseg::reference::Tolerance;

use crate::conv::tensor;
use crate::fixtures::Fixture;
use crate::harness::Case;

/// Compares outputs and gradients of every case of a file; `operator` takes the window and the extents of y.
fn check_fixture(file: &str, operator: impl Fn(ConvAttributes, [usize; 3]) -> Arc<dyn Operator>) {
    let fixture = Fixture::load(file);
    for case in fixture.cases() {
        let [x, w, y, dy] = ["x", "w", "y", "dy"].map(|key| tensor(&case, key));
        let bias = case.optional("b").map(|_| tensor(&case, "b"));
        let a = ConvAttributes::new(w.shape.spatial())
            .with_stride(case.axes("stride"))
            .with_padding(case.axes("padding"))
            .with_dilation(case.axes("dilation"))
            .with_groups(case.number("groups") as usize);
        let terms = (a.taps() * x.shape.c().max(y.shape.c())).max(2 * y.shape.voxels());
        let mut inputs = vec![(x, true), (w, false)];
        inputs.extend(bias.clone().map(|b| (b, false)));
        let name = format!("{file} {}", case.name());
        let run = Case::of(name, operator(a, y.shape.spatial()), inputs);
        run.check_forward(&[y], Tolerance::for_terms(terms));
        let mut grads = vec![Some(tensor(&case, "dx")), Some(tensor(&case, "dw"))];
        grads.extend(bias.map(|_| Some(tensor(&case, "db"))));
        run.check_backward(&[Some(dy)], &grads, Tolerance::for_terms(terms));
    }
}

#[test]
fn conv_matches_pytorch() {
    check_fixture("ops_conv", |attributes, _| {
        Arc::new(ConvForward { attributes })
    });
}

#[test]
fn transposed_conv_matches_pytorch() {
    check_fixture("ops_conv_transpose", |attributes, input_size| {
        Arc::new(ConvInputGrad {
            attributes,
            input_size,
        })
    });
}

#[test]
fn transposed_conv_computes_its_output_size_as_pytorch_does() {
    let fixture = Fixture::load("ops_conv_transpose");
    for case in fixture.cases() {
        let (x, w) = (tensor(&case, "x"), tensor(&case, "w"));
        let a = ConvAttributes::new(w.shape.spatial())
            .with_stride(case.axes("stride"))
            .with_padding(case.axes("padding"))
            .with_groups(case.number("groups") as usize);
        let mut graph = Graph::new();
        let x = graph.input("x", x.shape).unwrap();
        let w = graph.input("w", w.shape).unwrap();
        let y = conv_transpose(&mut graph, x, w, None, a, case.axes("output_padding")).unwrap();
        assert_eq!(
            graph.value(y).shape,
            tensor(&case, "y").shape,
            "{}",
            case.name()
        );
    }
}

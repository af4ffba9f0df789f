//! Conditional and adaptive instance normalisation against the f64 reference, central differences and PyTorch.

use voxseg::graph::{Graph, differentiate};
use voxseg::ops::activation::Activation;
use voxseg::ops::norm::{
    MeanDeviation, NormKind, NormParameters, SelectRows, adaptive_instance_norm,
    conditional_instance_norm,
};
use voxseg::ops::{Build, ValueId};
use voxseg::reference::Tolerance;
use voxseg::reference::norm as reference;
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::{self, Fixture};
use crate::harness::{Case, check_reference_gradient, random, random_in, stored};
use crate::norm::{EPS, Example, IN_FOURS, LONG, LONG_ODD, MIDDLE_WORDS, ODD};
use crate::norm_layers::run;

#[test]
fn each_sample_may_have_a_scale_and_a_shift_of_its_own() {
    let leaky = Some(Activation::LeakyRelu { slope: 0.01 });
    let kinds = [
        NormKind::Instance,
        NormKind::Batch,
        NormKind::Group { groups: 1 },
    ];
    for kind in kinds {
        for shape in [ODD, IN_FOURS] {
            Example::new(kind, leaky, shape).with_own_affine().check();
        }
    }
    for activation in [None, Some(Activation::Prelu), Some(Activation::HardSwish)] {
        for shape in [ODD, MIDDLE_WORDS] {
            let example = Example::new(NormKind::Instance, activation, shape);
            example.with_own_affine().check();
        }
    }
    for shape in [LONG, LONG_ODD] {
        let example = Example::new(NormKind::Instance, leaky, shape);
        example.with_own_affine().check();
    }
}

fn rows(n: usize, c: usize, seed: u64) -> HostTensor<f64> {
    random(Shape::new(n, c, 1, 1, 1), seed)
}

fn index_of(data: &[f64]) -> HostTensor<f64> {
    HostTensor {
        shape: Shape::new(data.len(), 1, 1, 1, 1),
        data: data.to_vec(),
    }
}

#[test]
fn rows_are_chosen_by_an_input_of_the_step_and_only_they_have_a_gradient() {
    for (styles, channels, chosen) in [
        (4, 3, &[2.0, 0.0, 2.0][..]),
        (1, 70, &[0.0, 0.0]),
        (70, 1, &[69.0, 3.0, 3.0, 3.0, 0.0]),
    ] {
        let (table, index) = (rows(styles, channels, 1), index_of(chosen));
        let dy = rows(chosen.len(), channels, 2);
        let inputs = vec![(table.clone(), false), (index.clone(), false)];
        let case = Case::new(format!("rows of {}", table.shape), SelectRows, inputs);
        let y = reference::select_rows(&table, &index);
        case.check_forward(&[y], Tolerance::for_terms(1));
        let dtable = reference::select_rows_backward(styles, &index, &dy);
        check_reference_gradient("dtable", &table, &dtable, &dy, |table| {
            reference::select_rows(table, &index)
        });
        case.check_backward(
            &[Some(dy)],
            &[Some(dtable), None],
            Tolerance::for_terms(chosen.len()),
        );
    }
}

#[test]
fn a_row_that_is_not_there_is_no_number() {
    let inputs = vec![
        (rows(3, 2, 1), false),
        (index_of(&[3.0, -1.0, 0.5, 2.0, f64::NAN]), false),
    ];
    let y = &Case::new("unknown rows", SelectRows, inputs).run(false, None)[0];
    let is_nan: Vec<bool> = y.data.chunks(2).map(|row| row[0].is_nan()).collect();
    assert_eq!(is_nan, [true, true, true, false, true]);
}

#[test]
fn mean_and_deviation_match_the_reference() {
    let small = random_in(Shape::new(2, 3, 2, 2, 3), 1, -1.0, 3.0);
    let stats = Shape::new(2, 3, 1, 1, 1);
    let zeros = HostTensor::zeros(stats);
    let dy = random(stats, 2);
    for (i, of) in [[&dy, &zeros], [&zeros, &dy]].into_iter().enumerate() {
        let dx = reference::mean_deviation_backward(&small, 1e-5, of);
        check_reference_gradient("d statistic", &small, &dx, &dy, |x| {
            let [mean, deviation] = reference::mean_deviation(x, 1e-5);
            if i == 0 { mean } else { deviation }
        });
    }
    for shape in [ODD, IN_FOURS, MIDDLE_WORDS, LONG, LONG_ODD] {
        let x = random_in(shape, 1, -1.0, 3.0);
        let expected = reference::mean_deviation(&x, f64::from(EPS));
        let name = format!("mean and deviation of {shape}");
        let case = Case::new(name, MeanDeviation { eps: EPS }, vec![(x.clone(), true)]);
        let tolerance = Tolerance::for_terms(shape.voxels());
        case.check_forward(&expected, tolerance);
        let stats = expected[0].shape;
        let (dy, zeros) = (random(stats, 2), HostTensor::zeros(stats));
        for (upstream, of) in [
            ([Some(dy.clone()), None], [&dy, &zeros]),
            ([None, Some(dy.clone())], [&zeros, &dy]),
        ] {
            let dx = reference::mean_deviation_backward(&x, f64::from(EPS), of);
            case.check_backward(&upstream, &[Some(dx)], tolerance);
        }
    }
}

/// Runs `build` on the tensors `keys` of a case and compares its output and the gradients of the first `trained` of them.
pub fn matches(
    case: &fixtures::Case<'_>,
    keys: &[&str],
    trained: usize,
    build: impl FnOnce(&mut Graph, &[ValueId]) -> ValueId,
) {
    let tensors: Vec<HostTensor<f64>> = keys.iter().map(|k| stored(case.tensor(k))).collect();
    let [y, dy] = ["y", "dy"].map(|key| stored(case.tensor(key)));
    let mut feeds: Vec<(&str, &HostTensor<f64>)> = keys.iter().copied().zip(&tensors).collect();
    feeds.push(("dy", &dy));
    let (found, _) = run(
        |graph| {
            let inputs: Vec<ValueId> = keys
                .iter()
                .zip(&tensors)
                .map(|(key, t)| graph.input(key, t.shape).unwrap())
                .collect();
            let result = build(graph, &inputs);
            let seed = graph.input("dy", dy.shape).unwrap();
            let sources = &inputs[..trained];
            let gradients = differentiate(graph, result, seed, sources).unwrap();
            let gradients = sources.iter().map(|s| gradients[s]);
            std::iter::once(result).chain(gradients).collect()
        },
        &feeds,
        &[],
    );
    let gradients = keys[..trained].iter().map(|k| format!("d{k}"));
    let expected = gradients.map(|key| (stored(case.tensor(&key)), key));
    let expected = std::iter::once((y, "y".to_owned())).chain(expected);
    let terms = tensors[0].shape.n() * tensors[0].shape.voxels();
    for (found, (expected, key)) in found.iter().zip(expected) {
        // Means are below three deviations from 0, and (x - mean) * rstd counts their rounding as often.
        let tolerance = Tolerance::for_terms(terms).amplified(3.0);
        let name = format!("{} {key}", case.name());
        let deviation = tolerance.compare(&name, found, &expected).unwrap();
        println!("{name}: {:.3} of the tolerance", deviation.used);
    }
}

#[test]
fn normalisation_by_a_style_matches_pytorch() {
    let fixture = Fixture::load("ops_style");
    let mut seen = 0;
    for case in fixture.cases() {
        let eps = |case: &fixtures::Case<'_>| case.number("eps") as f32;
        match case.op() {
            "conditional_instance_norm" => {
                matches(&case, &["x", "w", "b", "index"], 3, |graph, inputs| {
                    let tables = NormParameters {
                        gamma: inputs[1],
                        beta: inputs[2],
                        slope: None,
                    };
                    conditional_instance_norm(graph, inputs[0], tables, inputs[3], eps(&case), None)
                        .unwrap()
                })
            }
            "adaptive_instance_norm" => matches(&case, &["x", "style"], 2, |graph, inputs| {
                adaptive_instance_norm(graph, inputs[0], inputs[1], eps(&case)).unwrap()
            }),
            _ => continue,
        }
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn styles_that_do_not_fit_are_refused() {
    let mut graph = Graph::new();
    let mut input = |name: &str, shape| graph.input(name, shape).unwrap();
    let x = input("x", Shape::new(3, 4, 2, 2, 2));
    let two = input("two samples", Shape::new(2, 4, 2, 2, 2));
    let wide = input("wide", Shape::new(3, 5, 2, 2, 2));
    let same = input("same", Shape::new(3, 4, 1, 5, 5));
    let gamma = input("gamma", Shape::new(6, 4, 1, 1, 1));
    let index = input("index", Shape::new(2, 1, 1, 1, 1));
    let mut refused = |style, eps, word: &str| {
        let error = adaptive_instance_norm(&mut graph, x, style, eps).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(two, EPS, "the style");
    refused(wide, EPS, "the style");
    refused(same, 0.0, "positive");
    let tables = NormParameters {
        gamma,
        beta: gamma,
        slope: None,
    };
    let error = conditional_instance_norm(&mut graph, x, tables, index, EPS, None).unwrap_err();
    assert!(error.to_string().contains("the style"), "{error}");
    assert_eq!(graph.shape(x).n(), 3);
}

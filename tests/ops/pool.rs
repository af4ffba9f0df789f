use voxseg::ops::Operator;
use voxseg::ops::pool::{AvgPool, GlobalAvgPool, MaxPool, Window};
use voxseg::reference::{Tolerance, pool};
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, halves, random, stored};

fn window(kernel: [usize; 3], stride: [usize; 3], padding: [usize; 3]) -> Window {
    Window {
        kernel,
        stride,
        padding,
    }
}

fn plain(w: Window) -> pool::Window {
    pool::Window {
        kernel: w.kernel,
        stride: w.stride,
        padding: w.padding,
    }
}

/// Windows of every kind: overlapping, with gaps, padded unevenly, in a plane, and the ones with kernels of their own.
fn cases() -> Vec<(Shape, Window)> {
    let odd = Shape::new(2, 3, 5, 6, 7);
    vec![
        (odd, Window::tiles([2, 2, 2])),
        (odd, window([3, 3, 3], [2, 2, 2], [1, 1, 1])),
        (odd, window([3, 3, 3], [1, 1, 1], [1, 1, 1])),
        (odd, window([1, 2, 3], [2, 3, 1], [0, 1, 1])),
        (odd, window([2, 2, 2], [3, 3, 3], [0, 0, 0])),
        (Shape::new(2, 3, 1, 9, 11), Window::tiles([1, 2, 2])),
        (Shape::new(2, 3, 4, 6, 8), Window::tiles([2, 2, 2])),
        (Shape::new(2, 5, 3, 6, 16), Window::tiles([1, 2, 2])),
        (Shape::new(1, 3, 24, 20, 24), Window::tiles([2, 2, 2])),
        (Shape::new(1, 1, 1, 1, 1), Window::tiles([1, 1, 1])),
    ]
}

fn output(op: &dyn Operator, x: Shape) -> Shape {
    op.infer(&[x]).unwrap()[0]
}

#[test]
fn max_pool_matches_the_reference() {
    for (k, (shape, window)) in cases().into_iter().enumerate() {
        let x = halves(random(shape, k as u64));
        let dy = random(output(&MaxPool { window }, shape), 100 + k as u64);
        let y = pool::max_pool(&x, plain(window));
        let dx = pool::max_pool_backward(&x, &dy, plain(window));
        check_max(&x, window, &y, &dy, &dx);
    }
}

fn check_max(
    x: &HostTensor<f64>,
    window: Window,
    y: &HostTensor<f64>,
    dy: &HostTensor<f64>,
    dx: &HostTensor<f64>,
) {
    let name = format!("max {} {window:?}", x.shape);
    let chosen = Case::new(name.clone(), MaxPool { window }, vec![(x.clone(), true)]);
    let generic = Case::new(name, MaxPool { window }, vec![(x.clone(), true)]);
    for case in [chosen, generic.with_variant("pool", "generic")] {
        case.check_forward(std::slice::from_ref(y), Tolerance::for_terms(1));
        let terms = window.kernel.iter().product();
        let dy = Some(dy.clone());
        case.check_backward(&[dy], &[Some(dx.clone())], Tolerance::for_terms(terms));
    }
}

#[test]
fn the_first_of_equal_values_gets_the_gradient_of_its_window() {
    // Three values only, so nearly every window has ties.
    for (k, (shape, window)) in cases().into_iter().enumerate() {
        let mut x = random(shape, k as u64);
        x.data.iter_mut().for_each(|v| *v = v.round());
        let dy = random(output(&MaxPool { window }, shape), 100 + k as u64);
        let y = pool::max_pool(&x, plain(window));
        let dx = pool::max_pool_backward(&x, &dy, plain(window));
        check_max(&x, window, &y, &dy, &dx);
    }
}

#[test]
fn a_nan_wins_the_maximum() {
    for shape in [Shape::new(1, 1, 2, 2, 8), Shape::new(1, 1, 2, 2, 6)] {
        for at in 0..8 {
            let mut x = random(shape, 3);
            *x.at_mut([0, 0, at / 4, at / 2 % 2, 2 + at % 2]) = f64::NAN;
            let window = Window::tiles([2, 2, 2]);
            let case = Case::new("max of NaN", MaxPool { window }, vec![(x, true)]);
            let y = &case.run(false, None)[0];
            let nans: Vec<usize> = (0..y.data.len()).filter(|&i| y.data[i].is_nan()).collect();
            assert_eq!(nans, [1], "NaN at place {at} of the window");
        }
    }
}

#[test]
fn avg_pool_matches_the_reference() {
    for (k, (shape, window)) in cases().into_iter().enumerate() {
        for count_include_pad in [true, false] {
            let op = || AvgPool {
                window,
                count_include_pad,
            };
            let x = random(shape, k as u64);
            let dy = random(output(&op(), shape), 100 + k as u64);
            let y = pool::avg_pool(&x, plain(window), count_include_pad);
            let dx = pool::avg_pool_backward(shape, &dy, plain(window), count_include_pad);
            let terms = Tolerance::for_terms(window.kernel.iter().product());
            let name = format!("avg {shape} {window:?} {count_include_pad}");
            let chosen = Case::new(name.clone(), op(), vec![(x.clone(), true)]);
            let generic = Case::new(name, op(), vec![(x.clone(), true)]);
            for case in [chosen, generic.with_variant("pool", "generic")] {
                case.check_forward(std::slice::from_ref(&y), terms);
                case.check_backward(&[Some(dy.clone())], &[Some(dx.clone())], terms);
            }
        }
    }
}

#[test]
fn global_avg_pool_matches_the_reference() {
    let shapes = [
        Shape::new(2, 3, 5, 6, 7),
        Shape::new(2, 5, 1, 1, 1),
        Shape::new(1, 2, 1, 8, 8),
        Shape::new(2, 3, 1, 5, 13),
        Shape::new(1, 3, 17, 20, 31),
        Shape::new(2, 2, 24, 24, 36),
    ];
    for (k, shape) in shapes.into_iter().enumerate() {
        // A mean far from zero, as after an activation: the sum of equal signs is what loses digits.
        let mut x = random(shape, k as u64);
        x.data
            .iter_mut()
            .for_each(|v| *v = f64::from((*v + 2.0) as f32));
        let name = format!("global avg {shape}");
        let case = Case::new(name, GlobalAvgPool, vec![(x.clone(), true)]);
        case.check_forward(&[pool::global_avg_pool(&x)], Tolerance::for_terms(64));
        let dy = random(shape.with_spatial([1; 3]), 50);
        let dx = pool::global_avg_pool_backward(shape, &dy);
        case.check_backward(&[Some(dy)], &[Some(dx)], Tolerance::for_terms(1));
    }
}

#[test]
fn gradients_of_the_reference_agree_with_differences() {
    let shape = Shape::new(2, 2, 3, 4, 5);
    let x = random(shape, 1);
    for w in [
        window([3, 3, 3], [2, 1, 2], [1, 1, 1]),
        Window::tiles([1, 2, 2]),
    ] {
        let dy = random(output(&MaxPool { window: w }, shape), 2);
        let w = plain(w);
        let dx = pool::max_pool_backward(&x, &dy, w);
        check_reference_gradient("max pool", &x, &dx, &dy, |x| pool::max_pool(x, w));
        for count in [true, false] {
            let dx = pool::avg_pool_backward(shape, &dy, w, count);
            check_reference_gradient("avg pool", &x, &dx, &dy, |x| pool::avg_pool(x, w, count));
        }
    }
    let dy = random(shape.with_spatial([1; 3]), 3);
    let dx = pool::global_avg_pool_backward(shape, &dy);
    check_reference_gradient("global avg pool", &x, &dx, &dy, pool::global_avg_pool);
}

#[test]
fn pooling_agrees_with_pytorch() {
    let fixture = Fixture::load("ops_pool");
    for f in fixture.cases() {
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|key| stored(f.tensor(key)));
        let tolerance = Tolerance::for_terms(x.shape.voxels());
        let inputs = vec![(x, true)];
        let sizes = || window(f.axes("kernel"), f.axes("stride"), f.axes("padding"));
        let case = match f.op() {
            "max_pool" => Case::new(f.name(), MaxPool { window: sizes() }, inputs),
            "avg_pool" => {
                let op = AvgPool {
                    window: sizes(),
                    count_include_pad: f.flag("count_include_pad"),
                };
                Case::new(f.name(), op, inputs)
            }
            "global_avg_pool" => Case::new(f.name(), GlobalAvgPool, inputs),
            other => panic!("no operator {other}"),
        };
        case.check_forward(&[y], tolerance);
        case.check_backward(&[Some(dy)], &[Some(dx)], tolerance);
    }
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let x = Shape::new(1, 1, 4, 4, 4);
    for (window, part) in [
        (window([0, 1, 1], [1, 1, 1], [0, 0, 0]), "kernel 0"),
        (
            window([2, 2, 2], [1, 0, 1], [0, 0, 0]),
            "stride 0 along height",
        ),
        (
            window([2, 2, 2], [1, 1, 1], [0, 0, 2]),
            "padding 2 along width",
        ),
        (
            window([5, 1, 1], [1, 1, 1], [0, 0, 0]),
            "at least 5 voxels along depth",
        ),
        (
            window([usize::MAX, 1, 1], [1, 1, 1], [usize::MAX / 2, 0, 0]),
            "kernel",
        ),
    ] {
        let error = MaxPool { window }.infer(&[x]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(GlobalAvgPool.infer(&[Shape::new(1, 1, 0, 4, 4)]).is_err());
}

#![allow(missing_docs)]
use std::sync::Arc;
use std::time::Instant;
use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::graph::*;
use voxseg::ops::conv::*;
use voxseg::tensor::Shape;

fn main() {
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let k = ConvAttributes::same;
    let filter = std::env::args().nth(1).unwrap_or_default();
    let cases: Vec<(&str, ConvAttributes, [usize; 2], [usize; 3])> = vec![
        ("k3 32-32 32^3", k([3, 3, 3]), [32, 32], [32, 32, 32]),
        ("k3 64-64 16^3", k([3, 3, 3]), [64, 64], [16, 16, 16]),
        ("k3 1-32 32^3", k([3, 3, 3]), [1, 32], [32, 32, 32]),
        ("k3 128-128 6^3", k([3, 3, 3]), [128, 128], [6, 6, 6]),
        (
            "k3s2 32-64 32^3",
            k([3, 3, 3]).with_stride([2, 2, 2]),
            [32, 64],
            [32, 32, 32],
        ),
        ("k133 32-32 8,32,32", k([1, 3, 3]), [32, 32], [16, 32, 32]),
        ("2d k3 32-32 128,128", k([1, 3, 3]), [32, 32], [1, 128, 128]),
        (
            "2d k3s2 32-64 128,128",
            k([1, 3, 3]).with_stride([1, 2, 2]),
            [32, 64],
            [1, 128, 128],
        ),
        ("k1 64-64 32^3", k([1, 1, 1]), [64, 64], [32, 32, 32]),
        ("k1 32-3 32^3", k([1, 1, 1]), [32, 3], [32, 32, 32]),
        (
            "k2s2 32-64 32^3",
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [32, 64],
            [32, 32, 32],
        ),
        ("k5 16-16 32^3", k([5, 5, 5]), [16, 16], [32, 32, 32]),
    ];
    for (name, a, [ci, co], size) in cases {
        if !name.contains(&filter) {
            continue;
        }
        for dir in ["fwd", "dx"] {
            let mut g = Graph::new();
            let xs = Shape::new(1, ci, 1, 1, 1).with_spatial(size);
            let ys = xs
                .with_c(co)
                .with_spatial(a.output_size("x", size).unwrap());
            let w = g.input("w", a.weight_shape("x", ci, co).unwrap()).unwrap();
            let y = if dir == "fwd" {
                let x = g.input("x", xs).unwrap();
                conv(&mut g, x, w, None, a).unwrap()
            } else {
                let dy = g.input("dy", ys).unwrap();
                conv_input_grad(&mut g, dy, w, None, a, size).unwrap()
            };
            let p = Program::compile(g, &[y], gpu.profile(), ProgramOptions::default()).unwrap();
            let flops = p.cost(0).flops;
            let mut ps = Parameters::new(gpu.clone(), 0);
            let t = Instant::now();
            let e = Executor::new(p, &mut ps).unwrap();
            let build = t.elapsed().as_secs_f64();
            let t = Instant::now();
            let times = pollster::block_on(e.run_timed(&[])).unwrap();
            let first = t.elapsed().as_secs_f64();
            let mut best: Vec<f64> = times.iter().map(|t| t.ms).collect();
            for _ in 0..12 {
                let times = pollster::block_on(e.run_timed(&[])).unwrap();
                for (b, t) in best.iter_mut().zip(&times) {
                    *b = b.min(t.ms);
                }
            }
            let total: f64 = best.iter().sum();
            print!(
                "{name:24} {dir:4} {:6.2} GFLOP/s  build {build:.2}s first {first:.2}s  ",
                flops / total * 1e-6
            );
            for (t, b) in times.iter().zip(&best) {
                print!("{} {b:.2}ms  ", t.kernel);
            }
            println!();
        }
    }
    let _ = Arc::strong_count(&gpu);
}

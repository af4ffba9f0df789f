//! Convolution by cooperative matrices against the f64 reference: as it is where the adapter has them, and everywhere with
//! the matrices written out as plain WGSL, which proves what the kernel does around them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use voxseg::gpu::{CooperativeMatrix, DeviceProfile, Kernel};
use voxseg::ops::conv::{ConvAttributes, ConvForward, ConvInputGrad, ConvWeightGrad};
use voxseg::ops::{Lowering, OpError, Operator};
use voxseg::reference::{Tolerance, conv as reference};
use voxseg::tensor::{Element, HostTensor, Shape};

use crate::conv::{tensors, tolerance, window};
use crate::harness::{Case, gpu, random};

const KERNELS: [&str; 2] = ["conv/coop_correlate", "conv/coop_weight_grad"];

/// An operator lowered to products of cooperative matrices.
#[derive(Debug)]
struct Cooperative {
    op: Arc<dyn Operator>,
    edge: u32,
    /// Invocations of the subgroups that a twin without matrices pretends to run on; `None` for the kernel itself.
    lanes: Option<u32>,
}

impl Operator for Cooperative {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        self.op.infer(inputs)
    }

    fn element(&self, index: usize, inputs: &[Element]) -> Element {
        self.op.element(index, inputs)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let matrix = CooperativeMatrix {
            edge: self.edge,
            operands: to.inputs[0].element,
        };
        let device = DeviceProfile {
            cooperative: vec![matrix],
            forced_variants: BTreeMap::from([("conv".to_owned(), "coop".to_owned())]),
            ..to.device.clone()
        };
        let mut inner = Lowering::new(&device, to.inputs, to.outputs);
        self.op.lower(&mut inner)?;
        let mut found = 0;
        for dispatch in &mut inner.dispatches {
            if KERNELS.contains(&dispatch.kernel.name) {
                found += 1;
                dispatch.kernel = match self.lanes {
                    Some(lanes) => twin(dispatch.kernel, lanes),
                    None => dispatch.kernel,
                };
            }
        }
        assert!(found > 0, "{}: another kernel was chosen", self.op.name());
        to.scratch = inner.scratch;
        to.dispatches = inner.dispatches;
        Ok(())
    }
}

/// The kernel with subgroups of `lanes` invocations counted out, and matrices of which each invocation holds what it needs:
/// one row of A and of C, by its number, and all of B.
fn twin(kernel: &'static Kernel, lanes: u32) -> &'static Kernel {
    type Twins = BTreeMap<(&'static str, u32), &'static Kernel>;
    static TWINS: Mutex<Twins> = Mutex::new(Twins::new());
    let mut twins = TWINS.lock().unwrap();
    twins.entry((kernel.name, lanes)).or_insert_with(|| {
        let source = String::leak(written_out(kernel.source, lanes));
        let twin = Kernel::new(kernel.name, source, kernel.params, kernel.access);
        Box::leak(Box::new(twin))
    })
}

fn written_out(source: &str, lanes: u32) -> String {
    let [a, b, c] = ["A", "B", "C"].map(|role| {
        let end = format!(", {role}>;");
        let line = source
            .lines()
            .find(|l| l.starts_with("alias") && l.ends_with(&end));
        line.unwrap().split(' ').nth(1).unwrap()
    });
    // What is unrolled for the registers of a GPU takes a CPU's compiler seconds.
    let dropped = ["enable wgpu_cooperative_matrix;", "// unroll"];
    let mut text = String::new();
    let mut counted = String::new();
    for line in source.lines() {
        let alias = line
            .strip_prefix("alias ")
            .and_then(|l| l.split_once(" = coop_mat8x8<"));
        let builtin = line
            .trim()
            .strip_prefix("@builtin(")
            .and_then(|l| l.split_once(") "));
        if let Some((name, _)) = alias {
            text += match name == b {
                true => "alias NAME = array<array<f32, EDGE>, EDGE>;\n",
                false => "alias NAME = array<f32, EDGE>;\n",
            }
            .replace("NAME", name)
            .as_str();
        } else if let Some((what, name)) = builtin.filter(|(what, _)| what.contains("subgroup")) {
            let value = match what {
                "subgroup_id" => format!("invocation / {lanes}u"),
                "num_subgroups" => format!("(THREADS + {}u) / {lanes}u", lanes - 1),
                "subgroup_invocation_id" => format!("invocation % {lanes}u"),
                "subgroup_size" => format!("{lanes}u"),
                other => panic!("no twin of {other}"),
            };
            counted += &format!("    let {} = {value};\n", name.trim_end_matches(": u32,"));
        } else if !dropped.contains(&line.trim()) {
            text += line;
            text.push('\n');
        }
    }
    let (head, main) = text.split_once("@compute").unwrap();
    let main = main.replacen(
        "\n) {\n",
        &format!("\n) {{\n    row = invocation % EDGE;\n{counted}"),
        1,
    );
    let mut calls = Calls::default();
    let main = calls.replace(&main, [a, b]);
    format!(
        "{head}var<private> row: u32;
{}
fn coop_multiply_add(a: {a}, b: {b}, c: {c}) -> {c} {{
    var left = a;
    var right = b;
    var sums = c;
    for (var j = 0u; j < EDGE; j++) {{
        for (var k = 0u; k < EDGE; k++) {{
            sums[j] += left[k] * right[k][j];
        }}
    }}
    return sums;
}}
@compute{}",
        calls.functions(c),
        main.replace("coopMultiplyAdd(", "coop_multiply_add(")
    )
}

/// The loads and stores of matrices that a kernel makes, by type and buffer.
#[derive(Default)]
struct Calls {
    rows: Vec<(String, String)>,
    wholes: Vec<(String, String)>,
    stores: Vec<String>,
}

impl Calls {
    /// `code` with each `coopLoad<T>(&b[i], s)` and `coopStoreT(m, &b[i], s)` a call of a function without pointers, which
    /// WGSL has not for buffers.
    fn replace(&mut self, code: &str, [a, b]: [&str; 2]) -> String {
        let mut out = String::new();
        let mut rest = code;
        while let Some(at) = rest.find("coop") {
            out += &rest[..at];
            rest = &rest[at..];
            if let Some(load) = rest.strip_prefix("coopLoad<") {
                let (of, tail) = load.split_once(">(&").unwrap();
                let (buffer, tail) = tail.split_once('[').unwrap();
                let list = match of == a {
                    true => &mut self.rows,
                    false => &mut self.wholes,
                };
                assert!(of == a || of == b, "{of} is neither {a} nor {b}");
                list.push((of.to_owned(), buffer.to_owned()));
                out += &format!("load_{of}_{buffer}(");
                rest = without_bracket(tail, &mut out);
            } else if let Some(store) = rest.strip_prefix("coopStoreT(") {
                let (value, tail) = store.split_once(", &").unwrap();
                let (buffer, tail) = tail.split_once('[').unwrap();
                self.stores.push(buffer.to_owned());
                out += &format!("store_{buffer}({value}, ");
                rest = without_bracket(tail, &mut out);
            } else {
                out += "coop";
                rest = &rest["coop".len()..];
            }
        }
        out + rest
    }

    /// Loads are by columns, stores by rows, as the names say.
    fn functions(mut self, c: &str) -> String {
        let mut text = String::new();
        for list in [&mut self.rows, &mut self.wholes] {
            list.sort();
            list.dedup();
        }
        for (of, buffer) in self.rows {
            text += &format!(
                "fn load_{of}_{buffer}(first: u32, stride: u32) -> {of} {{
    var m: {of};
    for (var k = 0u; k < EDGE; k++) {{
        m[k] = f32({buffer}[first + k * stride + row]);
    }}
    return m;
}}\n"
            );
        }
        for (of, buffer) in self.wholes {
            text += &format!(
                "fn load_{of}_{buffer}(first: u32, stride: u32) -> {of} {{
    var m: {of};
    for (var j = 0u; j < EDGE; j++) {{
        for (var k = 0u; k < EDGE; k++) {{
            m[k][j] = f32({buffer}[first + j * stride + k]);
        }}
    }}
    return m;
}}\n"
            );
        }
        self.stores.dedup();
        for buffer in self.stores {
            text += &format!(
                "fn store_{buffer}(value: {c}, first: u32, stride: u32) {{
    var m = value;
    for (var j = 0u; j < EDGE; j++) {{
        {buffer}[first + row * stride + j] = m[j];
    }}
}}\n"
            );
        }
        text
    }
}

/// Appends `index` of `index], …` to `out` and gives what follows the bracket.
fn without_bracket<'a>(tail: &'a str, out: &mut String) -> &'a str {
    let mut depth = 1;
    let end = tail.char_indices().find(|&(_, c)| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        depth == 0
    });
    let (end, _) = end.unwrap();
    *out += &tail[..end];
    &tail[end + 1..]
}

/// Windows with channels (in, out) and input extents: ends of boxes, matrices, steps and columns; planes and rows of taps.
fn examples() -> Vec<Example> {
    let k = ConvAttributes::same;
    let mut lopsided = ConvAttributes::new([3, 2, 4]);
    lopsided.padding = [0, 1, 2];
    lopsided.padding_after = [2, 0, 1];
    let dilated = ConvAttributes::new([3, 4, 3])
        .with_stride([2, 3, 1])
        .with_dilation([2, 2, 3])
        .with_padding([2, 3, 5]);
    vec![
        (k([3, 3, 3]), [3, 5], [5, 6, 7]),
        (k([3, 3, 3]), [9, 17], [3, 9, 10]),
        (k([1, 3, 3]), [17, 33], [1, 9, 18]),
        (k([3, 3, 3]).with_stride([2, 2, 2]), [17, 5], [5, 9, 19]),
        (k([1, 1, 1]), [16, 64], [3, 3, 16]),
        (
            ConvAttributes::new([2, 2, 2]).with_stride([2, 2, 2]),
            [3, 9],
            [6, 5, 8],
        ),
        (k([5, 5, 5]), [2, 3], [3, 6, 7]),
        (lopsided, [2, 3], [4, 5, 6]),
        (dilated, [9, 5], [7, 9, 11]),
    ]
}

type Example = (ConvAttributes, [usize; 2], [usize; 3]);

/// More for the weight gradient: taps that are shared out over several workgroups, and those that fit by rows alone.
fn weight_grad_examples() -> Vec<Example> {
    let k = ConvAttributes::same;
    let far = k([3, 3, 3]).with_dilation([1, 9, 9]);
    let more = [
        (k([1, 7, 7]), [3, 5], [2, 4, 9]),
        (far.with_padding([1, 9, 9]), [2, 3], [2, 5, 6]),
        (k([1, 1, 1]).with_stride([2, 2, 2]), [41, 3], [3, 6, 17]),
    ];
    [examples(), more.to_vec()].concat()
}

/// Compares `op` by matrices with `expected`.
fn compare(
    op: Arc<dyn Operator>,
    inputs: Vec<(HostTensor<f64>, bool)>,
    expected: HostTensor<f64>,
    tolerance: Tolerance,
    (edge, lanes, stored): Products,
) {
    let name = format!("{op:?}, {edge} x {edge}, lanes {lanes:?}");
    let case = Case::new(name, Cooperative { op, edge, lanes }, inputs);
    let case = match stored {
        Element::F32 => case.in_f32(),
        Element::F16 => case.in_f16(),
    };
    case.check_forward(&[expected], tolerance);
}

/// The edge of the matrices, the invocations of a subgroup of the twin, and what is multiplied.
type Products = (u32, Option<u32>, Element);

/// The forward convolution and the transposed map of the same window.
fn check(&(attributes, channels, size): &Example, by: Products) {
    let t = tensors(&attributes, channels, size);
    let win = window(&attributes);
    let input_size = size;
    let y = reference::forward(&win, &t.x, &t.w, Some(&t.bias), t.dy.shape.spatial());
    // With a bias and without.
    let bias = (by.2 == Element::F16).then(|| random(Shape::vector(channels[0]), 5));
    let dx = reference::input_grad(&win, &t.dy, &t.w, bias.as_ref(), size);
    let tolerance = tolerance(&attributes, &t);
    let forward = Arc::new(ConvForward { attributes });
    let inputs = [(t.x, true), (t.w.clone(), false), (t.bias, false)];
    compare(forward, inputs.to_vec(), y, tolerance, by);
    let transposed = Arc::new(ConvInputGrad {
        attributes,
        input_size,
    });
    let mut inputs = vec![(t.dy, true), (t.w, false)];
    inputs.extend(bias.map(|bias| (bias, false)));
    compare(transposed, inputs, dx, tolerance, by);
}

fn check_weight_grad(&(attributes, channels, size): &Example, by: Products) {
    let t = tensors(&attributes, channels, size);
    let dw = reference::weight_grad(&window(&attributes), &t.x, &t.dy, t.w.shape);
    let tolerance = Tolerance::for_terms(2 * t.dy.shape.voxels());
    let op = Arc::new(ConvWeightGrad { attributes });
    compare(op, vec![(t.x, true), (t.dy, true)], dw, tolerance, by);
}

#[test]
fn matrices_written_out_match_the_reference() {
    for example in &examples() {
        check(example, (8, Some(32), Element::F32));
    }
}

/// A few of them: a CPU's compiler takes ten seconds over each specialisation.
#[test]
fn large_matrices_written_out_match_the_reference() {
    let examples = examples();
    for example in [&examples[0], &examples[3], &examples[8]] {
        check(example, (16, Some(32), Element::F16));
    }
}

/// Fewer subgroups than parts, which take rounds, and more of them.
#[test]
fn subgroups_of_any_size_match_the_reference() {
    let examples = examples();
    for example in [&examples[0], &examples[2]] {
        for lanes in [8, 64] {
            check(example, (8, Some(lanes), Element::F32));
        }
    }
}

/// Voxels enough for parts of the sum that begin within a column of steps.
fn several_parts() -> Example {
    (ConvAttributes::same([3, 3, 3]), [3, 5], [9, 10, 17])
}

#[test]
fn weight_gradients_written_out_match_the_reference() {
    for example in &weight_grad_examples() {
        check_weight_grad(example, (8, Some(32), Element::F32));
    }
    check_weight_grad(&several_parts(), (8, Some(32), Element::F32));
}

#[test]
fn weight_gradients_of_large_matrices_written_out_match_the_reference() {
    let examples = examples();
    for example in [&examples[0], &examples[3], &examples[8], &several_parts()] {
        check_weight_grad(example, (16, Some(32), Element::F16));
    }
}

#[test]
fn weight_gradients_by_subgroups_of_any_size_match_the_reference() {
    let examples = examples();
    for example in [&examples[2], &several_parts()] {
        for lanes in [8, 64] {
            check_weight_grad(example, (8, Some(lanes), Element::F32));
        }
    }
}

#[test]
fn cooperative_matrices_match_the_reference() {
    let gpu = gpu();
    let found = &gpu.profile().cooperative;
    for matrix in found {
        for example in &examples() {
            check(example, (matrix.edge, None, matrix.operands));
        }
        for example in &weight_grad_examples() {
            check_weight_grad(example, (matrix.edge, None, matrix.operands));
        }
        check_weight_grad(&several_parts(), (matrix.edge, None, matrix.operands));
    }
    if found.is_empty() {
        println!(
            "did not run: {} has no cooperative matrices",
            gpu.describe()
        );
    }
}

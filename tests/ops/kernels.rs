//! Every kernel in every specialisation in use: parsed, validated, reflected against the Rust side, and written for
//! Vulkan, Metal and DirectX, without a GPU.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use voxseg::gpu::{
    Access, AdapterClass, Constants, DeviceProfile, Gpu, GpuOptions, Kernel, Wanted,
    declared_writable,
};
use voxseg::graph::Program;
use voxseg::losses::LossConfig;
use voxseg::models::{PlainNet, UNetConfig, plain_unet, residual_encoder_unet};
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::{Element, Shape};
use voxseg::train::{TargetForm, training_step};

#[path = "../../benches/common/peak.rs"]
#[allow(dead_code, reason = "only the list of kernels is wanted here")]
mod peak;

/// Those of the library and those that measure the peak of an adapter.
fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [voxseg::ops::kernels(), peak::kernels()].concat()
}

/// What WebGPU promises on every device.
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;

/// What every adapter with cooperative matrices has; a kernel that needs more than WebGPU promises asks the device.
const MAX_COOPERATIVE_BYTES: u32 = 32 << 10;

/// Whether it is for adapters with cooperative matrices alone, which wgpu has by Vulkan and Metal, not by DirectX.
fn is_cooperative(kernel: &Kernel) -> bool {
    kernel.source.contains("enable wgpu_cooperative_matrix;")
}

/// Asserts that every dispatch of `program` runs a kernel in a specialisation that the checks below look at, but for the
/// number of classes: there may be any up to 64, of which some are looked at.
pub fn assert_listed(program: &Program) {
    static LISTED: OnceLock<BTreeSet<(&'static str, Constants)>> = OnceLock::new();
    let sorted = |constants: &Constants| {
        let mut constants = constants.clone();
        constants.retain(|(name, _)| *name != "CLASSES");
        constants.sort_unstable();
        constants
    };
    let listed = LISTED.get_or_init(|| {
        let of_all = voxseg::ops::kernels().into_iter();
        let pairs = of_all.flat_map(|(kernel, list)| list.into_iter().map(|c| (kernel.name, c)));
        pairs.map(|(name, c)| (name, sorted(&c))).collect()
    });
    for (kernel, constants) in program.kernels() {
        assert!(
            listed.contains(&(kernel.name, sorted(constants))),
            "{} is dispatched with {constants:?}, which kernels() of its family does not list",
            kernel.name
        );
    }
}

fn parse(kernel: &Kernel, source: &str) -> (naga::Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(source)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(source)));
    (module, info)
}

fn check_interface(kernel: &Kernel, module: &naga::Module) {
    let mut bindings: Vec<(u32, &naga::GlobalVariable)> = module
        .global_variables
        .iter()
        .filter_map(|(_, v)| v.binding.as_ref().map(|b| (b.binding, v)))
        .collect();
    bindings.sort_by_key(|(b, _)| *b);
    let name = kernel.name;
    assert_eq!(bindings.len(), kernel.access.len() + 1, "{name}: bindings");
    for (i, (binding, variable)) in bindings.iter().enumerate() {
        assert_eq!(
            *binding as usize, i,
            "{name}: bindings must count up from 0"
        );
        match (i, variable.space) {
            (0, naga::AddressSpace::Uniform) => check_params(kernel, module, variable),
            (_, naga::AddressSpace::Storage { access }) if i > 0 => {
                let writes = access.contains(naga::StorageAccess::STORE);
                let expected = kernel.access[i - 1] == Access::Write;
                assert_eq!(writes, expected, "{name}: access of binding {i}");
            }
            (_, space) => panic!("{name}: binding {i} lies in {space:?}"),
        }
    }
}

fn check_params(kernel: &Kernel, module: &naga::Module, variable: &naga::GlobalVariable) {
    let naga::TypeInner::Struct { members, .. } = &module.types[variable.ty].inner else {
        panic!("{}: binding 0 is no struct", kernel.name);
    };
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let found: Vec<(String, usize, usize)> = members
        .iter()
        .map(|m| {
            (
                m.name.clone().unwrap_or_default(),
                m.offset as usize,
                layouter[m.ty].size as usize,
            )
        })
        .collect();
    let expected: Vec<(String, usize, usize)> = kernel
        .params
        .iter()
        .map(|&(n, o, s)| (n.to_owned(), o, s))
        .collect();
    assert_eq!(found, expected, "{}: parameter block", kernel.name);
}

/// The workgroup that the grid is counted by: from the text, or from a constant of the specialisation. Kernels of `conv`
/// may have constants of their own there.
fn expected_workgroup(kernel: &Kernel, constants: &Constants) -> Option<[u32; 3]> {
    let constant = |name| {
        let found = constants.iter().find(|(other, _)| *other == name);
        found.map(|&(_, value)| value)
    };
    let row = |lanes| [lanes, 1, 1];
    let text = kernel.workgroup().map(|lanes| row(lanes as u32));
    text.or_else(|| constant("LANES").map(row))
        .or_else(|| constant("TILE").map(|edge| [edge, edge, 1]))
}

fn check_workgroup(kernel: &Kernel, constants: &Constants, module: &naga::Module) {
    let entry = &module.entry_points[0];
    assert_eq!(entry.name, "main", "{}", kernel.name);
    match expected_workgroup(kernel, constants) {
        Some(expected) => assert_eq!(entry.workgroup_size, expected, "{}", kernel.name),
        None => assert!(kernel.name.starts_with("conv/"), "{}", kernel.name),
    }
    let invocations: u32 = entry.workgroup_size.iter().product();
    assert!(invocations <= MAX_INVOCATIONS, "{}", kernel.name);
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let memory: u32 = module
        .global_variables
        .iter()
        .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
        .map(|(_, v)| layouter[v.ty].size)
        .sum();
    let limit = match is_cooperative(kernel) {
        true => MAX_COOPERATIVE_BYTES,
        false => MAX_WORKGROUP_BYTES,
    };
    assert!(memory <= limit, "{}: {memory}", kernel.name);
}

fn write_spirv(kernel: &Kernel, module: &naga::Module, info: &ModuleInfo) {
    let options = spv::Options {
        lang_version: (1, 3),
        ..Default::default()
    };
    spv::write_vec(module, info, &options, None)
        .unwrap_or_else(|e| panic!("{}: SPIR-V: {e}", kernel.name));
}

fn write_everywhere(kernel: &Kernel, module: &naga::Module, info: &ModuleInfo) {
    let name = kernel.name;
    write_spirv(kernel, module, info);
    let options = msl::Options {
        lang_version: (2, 4),
        fake_missing_bindings: true,
        ..Default::default()
    };
    msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .unwrap_or_else(|e| panic!("{name}: MSL: {e}"));
    if is_cooperative(kernel) {
        return;
    }
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let pipeline = hlsl::PipelineOptions::default();
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .unwrap_or_else(|e| panic!("{name}: HLSL: {e}"));
}

/// What no buffer of f16 is declared as: whole numbers, and words that pair f32 themselves.
const NEVER_HALVES: [&str; 3] = ["array<u32>;", "array<vec4<u64>>;", "array<Word>;"];

/// f16 in every buffer of numbers.
fn halves(kernel: &Kernel) -> Vec<Element> {
    let is_number = |binding: usize| {
        let head = format!("@group(0) @binding({binding}) ");
        let line = kernel.source.lines().find(|l| l.starts_with(&head));
        line.is_some_and(|l| !NEVER_HALVES.iter().any(|end| l.ends_with(end)))
    };
    (1..=kernel.access.len())
        .map(|binding| match is_number(binding) {
            true => Element::F16,
            false => Element::F32,
        })
        .collect()
}

#[test]
fn every_kernel_compiles_for_every_backend_and_matches_its_rust_side() {
    for (kernel, specialisations) in kernels() {
        parse(kernel, kernel.source);
        assert!(!specialisations.is_empty(), "{}", kernel.name);
        let first = kernel.specialise(&specialisations[0], &[], false).unwrap();
        let (module, info) = parse(kernel, &declared_writable(&first));
        write_everywhere(kernel, &module, &info);
        for constants in specialisations {
            // What is done to one buffer does not depend on the others, so that f16 in all of them covers every mixture.
            let mut storages = vec![vec![], halves(kernel)];
            if is_cooperative(kernel) && constants.contains(&("EDGE", 16)) {
                // No adapter multiplies matrices of 16 x 16 in f32.
                storages.remove(0);
            }
            for elements in storages {
                let source = kernel.specialise(&constants, &elements, false).unwrap();
                let (module, info) = parse(kernel, &source);
                check_interface(kernel, &module);
                check_workgroup(kernel, &constants, &module);
                write_everywhere(kernel, &module, &info);
                // For adapters that are a CPU, which are reached through Vulkan.
                let source = kernel.specialise(&constants, &elements, true).unwrap();
                parse(kernel, &declared_writable(&source));
                let (module, info) = parse(kernel, &source);
                check_interface(kernel, &module);
                write_spirv(kernel, &module, &info);
            }
        }
    }
}

#[test]
fn every_shader_file_belongs_to_a_kernel() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let known: Vec<String> = kernels().iter().map(|(k, _)| k.name.to_owned()).collect();
    for family in std::fs::read_dir(folder).unwrap() {
        let family = family.unwrap().path();
        for file in std::fs::read_dir(&family).unwrap() {
            let path = file.unwrap().path();
            let stem = |p: &std::path::Path| p.file_stem().unwrap().to_string_lossy().into_owned();
            let name = format!("{}/{}", stem(&family), stem(&path));
            assert!(
                known.contains(&name),
                "shaders/{name}.wgsl is used by no kernel"
            );
        }
    }
}

/// The text of a function of a shader, where it has one of that name.
fn function<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let (_, found) = source.split_once(&format!("\nfn {name}("))?;
    found.split_once("\n}\n").map(|(text, _)| text)
}

#[test]
fn an_activation_has_the_same_text_in_every_kernel_that_fuses_it() {
    let names = ["activate", "activate_gradient"];
    let parts = ["ramp", "sigmoid", "normal", "elu"];
    for name in names.into_iter().chain(parts) {
        let mut texts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (kernel, _) in kernels() {
            if let Some(text) = function(kernel.source, name) {
                texts.entry(text).or_default().insert(kernel.name);
            }
        }
        let found: Vec<_> = texts.values().collect();
        assert!(found.len() == 1 && found[0].len() > 1, "{name}: {found:?}");
    }
}

#[test]
fn an_unknown_constant_is_refused() {
    let (kernel, _) = voxseg::ops::kernels()[0].clone();
    assert!(
        kernel
            .specialise(&[("NO_SUCH_CONSTANT", 1)], &[], false)
            .is_err()
    );
}

/// A training step of each network that a plan can ask for, in 2D and 3D, small.
fn steps(device: &DeviceProfile) -> Vec<Program> {
    let net = |depth: usize| PlainNet {
        in_channels: 1,
        out_channels: 3,
        features: vec![8, 16, 32],
        kernels: vec![[depth.min(3), 3, 3]; 3],
        strides: vec![[1; 3], [depth.min(2), 2, 2], [depth.min(2), 2, 2]],
    };
    let networks: [fn(PlainNet) -> UNetConfig; 2] =
        [plain_unet, |net| residual_encoder_unet(net, vec![1, 2, 2])];
    let optimizers = [OptimizerConfig::default(), OptimizerConfig::adamw()];
    let mut found = Vec::new();
    for depth in [1, 8] {
        for (network, optimizer) in networks.iter().zip(&optimizers) {
            let patch = Shape::new(2, 1, depth, 16, 16);
            let network = network(net(depth));
            let (form, loss) = (TargetForm::CLASSES, LossConfig::default());
            let step =
                training_step(&network.into(), patch, form, &loss, optimizer, device).unwrap();
            found.push(step.program);
        }
    }
    found
}

#[test]
fn a_training_step_runs_listed_kernels_on_either_class_of_adapter() {
    for class in [AdapterClass::CpuLike, AdapterClass::Gpu] {
        let device = DeviceProfile {
            class,
            ..DeviceProfile::minimal_gpu()
        };
        for program in steps(&device) {
            assert!(program.dispatch_count() > 0);
            assert_listed(&program);
        }
    }
}

/// Reads beyond its input: a kernel that nobody has looked at.
static FOREIGN: Kernel = Kernel::new(
    "elementwise/binary",
    "struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main() { y[0] = x[params.count * 1000000u]; }",
    &[("count", 0, 4)],
    &[Access::Read, Access::Write],
);

#[test]
fn only_kernels_of_this_library_run_without_bounds_checks() {
    let open = |checked| {
        let options = GpuOptions {
            checked,
            ..GpuOptions::default()
        };
        pollster::block_on(Gpu::open(&options)).unwrap_or_else(|e| panic!("{e}"))
    };
    let gpu = open(false);
    let (ours, lists) = voxseg::ops::kernels()
        .into_iter()
        .find(|(kernel, _)| kernel.name == FOREIGN.name)
        .unwrap();
    let is_checked = |gpu: &Gpu, kernel: &'static Kernel, constants: &Constants| {
        let wanted = Wanted {
            kernel,
            constants,
            elements: &[],
            all_writable: false,
        };
        gpu.pipeline(wanted).unwrap().is_checked()
    };
    // Whichever comes first, and under one name: each is compiled as what it is.
    assert!(is_checked(&gpu, &FOREIGN, &vec![]));
    assert!(!is_checked(&gpu, ours, &lists[0]));
    assert!(is_checked(&gpu, &FOREIGN, &vec![]));
    assert!(is_checked(&open(true), ours, &lists[0]));
    assert!(ours.is_shipped() && !FOREIGN.is_shipped());
}

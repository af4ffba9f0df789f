//! `voxseg inspect`.

use serde_json::Value;

use crate::harness::{Folder, Run, voxseg};

fn inspect(arguments: &[&str]) -> Run {
    Run::of(voxseg().arg("inspect").args(arguments))
}

fn document(arguments: &[&str]) -> Value {
    inspect(&[arguments, &["--json"]].concat())
        .succeeded()
        .json()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn published_networks_have_their_published_parameters() {
    let published = [
        ("nnunet3d", "32,32,32", 31_195_594),
        ("nnunet2d", "1,128,128", 46_324_558),
        ("ronneberger2d", "1,188,188", 31_030_658),
    ];
    for (network, patch, parameters) in published {
        let document = document(&["--network", network, "--patch", patch]);
        assert_eq!(number(&document["parameters"]), parameters, "{network}");
        let layers = document["layers"].as_array().expect("a list");
        let sum: u64 = layers.iter().map(|l| number(&l["parameters"])).sum();
        assert_eq!(sum, parameters, "{network}: the layers add up");
    }
}

#[test]
fn no_row_of_a_table_is_without_a_name_and_no_line_ends_in_blanks() {
    for (network, patch) in [("dense_unet", "1,64,64"), ("lraspp", "1,64,64")] {
        let run = inspect(&["--network", network, "--patch", patch]).succeeded();
        assert!(run.stdout.contains("made again, not kept"), "{run:#?}");
        for line in run.stdout.lines() {
            assert_eq!(line.trim_end(), line, "{network}");
            // Of the first table alone all cells but the last may be empty, below the rule: its sums have a name too.
            assert!(!line.starts_with("   "), "{network}: `{line}`");
        }
    }
}

#[test]
fn memory_adds_up_and_training_needs_more_than_inference() {
    let network = [
        "--network",
        "nnunet3d",
        "--patch",
        "32,32,32",
        "--batch",
        "1",
    ];
    let training = document(&network);
    let inference = document(&[
        "--network",
        "nnunet3d",
        "--patch",
        "32,32,32",
        "--inference",
    ]);
    for document in [&training, &inference] {
        let memory = &document["memory"];
        let slots = document["slot_bytes"].as_array().expect("a list");
        assert_eq!(
            slots.iter().map(number).sum::<u64>(),
            number(&memory["slot_bytes"])
        );
        let alive = document["alive_at_peak"].as_array().expect("a list");
        let peak: u64 = alive.iter().map(|r| number(&r["bytes"])).sum();
        assert_eq!(peak, number(&memory["peak_bytes"]));
        assert!(peak <= number(&memory["slot_bytes"]));
        let all = number(&memory["slot_bytes"]) + number(&memory["persistent_bytes"]);
        assert_eq!(all, number(&memory["total_bytes"]));
    }
    let bytes = |document: &Value, key: &str| number(&document["memory"][key]);
    for key in ["slot_bytes", "peak_bytes", "persistent_bytes"] {
        assert!(bytes(&training, key) > bytes(&inference, key), "{key}");
    }
}

#[test]
fn multiply_adds_of_the_first_convolution_are_those_of_the_formula() {
    let document = document(&[
        "--network",
        "nnunet3d",
        "--patch",
        "32,32,32",
        "--inference",
    ]);
    let first = &document["layers"][0];
    assert_eq!(first["name"], "encoder.stages.0.0.convs.0.conv");
    assert_eq!(first["shape"], serde_json::json!([1, 32, 32, 32, 32]));
    assert_eq!(number(&first["parameters"]), 32 * 27 + 32);
    let madds = first["madds"].as_f64().expect("a number");
    assert!(
        (madds / f64::from(32 * 27 * 32 * 32 * 32) - 1.0).abs() < 0.05,
        "{madds}"
    );
}

#[test]
fn the_text_names_the_device_and_the_figures() {
    let text = inspect(&["--network", "nnunet3d", "--patch", "32,32,32"])
        .succeeded()
        .stdout;
    for word in [
        "planned for",
        "31,195,594",
        "slots",
        "alive at the peak",
        "training step",
    ] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

#[test]
fn what_depthwise_separable_convolutions_save_is_said() {
    let light = [
        "--network",
        "mobile_unet",
        "--patch",
        "32,32,32",
        "--inference",
    ];
    let text = inspect(&light).succeeded().stdout;
    for word in [
        "depthwise separable convolutions",
        "1/N + 1/k is",
        "instead of",
    ] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
    let saving = &document(&light)["separable"];
    let figure = |name: &str| saving[name].as_f64().expect("a number");
    assert!(10.0 * figure("madds") < figure("full_madds"), "{saving}");
    let full = [
        "--network",
        "nnunet3d",
        "--patch",
        "32,32,32",
        "--inference",
    ];
    assert!(document(&full)["separable"].is_null());
}

#[test]
fn a_network_too_large_says_the_figure_and_what_would_fit() {
    let patch = "1024,1024,1024";
    let run = inspect(&["--network", "nnunet3d", "--patch", patch]);
    let run = run.refused(&["needs 549755813888 bytes", "allows at most", "would fit"]);
    let error = run.stderr.lines().last().expect("a line");
    let fitting = error.split("would fit: --patch ").nth(1).expect("a patch");
    inspect(&["--network", "nnunet3d", "--patch", fitting]).succeeded();
    let beyond = [
        "--network",
        "nnunet3d",
        "--patch",
        "1048576,1048576,1048576",
    ];
    inspect(&beyond).refused(&["more than any device holds"]);
}

#[test]
fn what_is_no_network_is_refused() {
    inspect(&["--network", "unet9000"]).refused(&["unet9000", "voxseg models"]);
    inspect(&["--network", "nnunet"]).refused(&["is nnunet3d or nnunet2d meant?"]);
    inspect(&["--network", "nowhere.json"]).refused(&["nowhere.json"]);
    inspect(&["--network", "nnunet3d", "--patch", "100,96,96"]).refused(&["--patch 128,96,96"]);
    inspect(&["--network", "nnunet3d", "--patch", "0,96,96"]).refused(&["0,96,96", "D,H,W"]);
    inspect(&["--network", "nnunet3d", "--batch", "0"]).refused(&["--batch"]);
    inspect(&[]).refused(&["required"]);
    let folder = Folder::new();
    let empty = folder.path("pred").display().to_string();
    inspect(&[&empty]).refused(&["pred", "no plan.json", "voxseg train"]);
    inspect(&["nowhere"]).refused(&["nowhere", "no such folder", "voxseg train"]);
}

#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_a_minimal_device_is_planned_for() {
    let mut command = crate::harness::voxseg_without_adapter();
    command.args(["inspect", "--network", "nnunet3d", "--patch", "32,32,32"]);
    let text = Run::of(&mut command).succeeded().stdout;
    assert!(text.contains("a minimal WebGPU device"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_small_device_cannot_bind_is_a_warning() {
    let whole = |more: &[&str]| {
        let mut command = crate::harness::voxseg_without_adapter();
        command
            .args(["inspect", "--network", "nnunet3d"])
            .args(more);
        Run::of(&mut command).succeeded()
    };
    let run = whole(&[]);
    for word in ["31,195,594", "MAdds"] {
        assert!(run.stdout.contains(word), "no `{word}` in {}", run.stdout);
    }
    let line = run
        .stderr
        .lines()
        .find(|line| line.starts_with("warning: "));
    let patch = line.and_then(|line| line.split("would fit: --patch ").nth(1));
    let patch = patch.unwrap_or_else(|| panic!("no patch: {run:#?}"));
    let fitting = whole(&["--patch", patch]);
    assert!(!fitting.stderr.contains("warning"), "{fitting:#?}");
    assert!(whole(&["--json"]).json()["warning"].is_string());
}

#[test]
fn a_data_set_is_planned_in_memory() {
    let folder = crate::runs::folder_with(&crate::phantom::Phantom::balls(2));
    let data = folder.path("data").display().to_string();
    let run = inspect(&[&data]).succeeded();
    assert!(run.stderr.contains("planned in memory"), "{run:#?}");
    assert!(run.stdout.contains("10^6 MAdds"), "{run:#?}");
    assert_eq!(
        crate::runs::names_in(&folder, "data"),
        ["dataset.json", "imagesTr", "labelsTr"]
    );
}

#[test]
fn the_gradient_profile_of_a_data_set_is_printed_and_drawn() {
    let folder = crate::runs::folder_with(&crate::phantom::Phantom::balls(2));
    let data = folder.path("data").display().to_string();
    let picture = folder.path("gradients.svg");
    let file = picture.display().to_string();
    let few = ["--iterations", "2", "--patch", "16,16,16"];
    let profile = ["--gradient-profile", &file];
    let document = document(&[&[&*data][..], &profile, &few].concat());
    assert_eq!(number(&document["iterations"]), 2);
    let layers = document["layers"].as_array().expect("a list");
    let first = &layers[0];
    assert_eq!(first["layer"], "encoder.stages.0.0.convs.0.conv");
    let size = |layer: &Value| layer["mean_abs"].as_f64().expect("a number");
    assert!(layers.iter().all(|layer| size(layer) > 0.0), "{layers:?}");
    // Only the finest head is supervised, and is the last convolution.
    let heads = layers.iter().filter(|layer| {
        let name = layer["layer"].as_str().expect("a name");
        name.contains("seg_layers")
    });
    assert_eq!(heads.count(), 1);
    let svg = std::fs::read_to_string(&picture).expect("a picture");
    assert_eq!(svg.matches("<circle").count(), layers.len());
    assert_eq!(
        crate::runs::names_in(&folder, "data"),
        ["dataset.json", "imagesTr", "labelsTr"]
    );

    let nowhere = folder.path(".").display().to_string();
    inspect(&[&nowhere, "--gradient-profile", &file]).refused(&["no data set"]);
    inspect(&[&data, "--iterations", "3"]).refused(&["required"]);
}

#[test]
fn a_plane_has_a_patch_of_two_numbers() {
    let plane = document(&["--network", "nnunet2d", "--patch", "128,256"]);
    assert_eq!(plane["input"], serde_json::json!([2, 1, 1, 128, 256]));
    inspect(&["--network", "nnunet3d", "--patch", "128,128"]).refused(&["128,128", "D,H,W"]);
}

#[test]
fn a_budget_of_memory_is_met_by_making_values_again_or_refused_with_the_least() {
    let network = [
        "--network",
        "nnunet2d",
        "--patch",
        "1,256,256",
        "--batch",
        "2",
    ];
    let within = |budget: &str| inspect(&[&network[..], &["--memory-budget", budget]].concat());
    let free = document(&network);
    let (slots, total) = (
        number(&free["memory"]["slot_bytes"]),
        number(&free["memory"]["total_bytes"]),
    );
    let budget = total - slots / 16;
    let tight = document(&[&network[..], &["--memory-budget", &budget.to_string()]].concat());
    assert!(number(&tight["memory"]["total_bytes"]) <= budget);
    let madds = |d: &Value| d["recomputed_madds"].as_f64().expect("a number");
    assert!(madds(&tight) > madds(&free) && madds(&free) > 0.0);
    let text = within(&budget.to_string()).succeeded().stdout;
    assert!(text.contains("made again, not kept"), "{text}");

    within("1MiB").refused(&["needs at least", "--memory-budget"]);
    within("lots").refused(&["no size in bytes", "512MiB"]);
}

#[test]
fn a_run_is_inspected_within_its_own_budget() {
    let folder = crate::runs::folder_with(&crate::phantom::Phantom::balls(2));
    crate::runs::train(&folder, &["--config", "quick.toml"]).succeeded();
    let run = folder.path("run").display().to_string();
    let free = number(&document(&[&run])["memory"]["total_bytes"]);
    let config = folder.path("run/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("memory_budget = \"1KiB\"\n{text}")).unwrap();
    inspect(&[&run]).refused(&["needs at least", "--memory-budget"]);
    // That of one window knows no budget, and a flag wins.
    inspect(&[&run, "--inference"]).succeeded();
    let ample = document(&[&run, "--memory-budget", "1GiB"]);
    assert_eq!(number(&ample["memory"]["total_bytes"]), free);
}

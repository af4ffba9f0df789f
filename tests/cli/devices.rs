//! `voxseg devices`.

use serde_json::Value;

use crate::harness::{Run, voxseg};

#[test]
fn lists_an_adapter_as_text_and_as_json() {
    let json = Run::of(voxseg().args(["devices", "--json"]))
        .succeeded()
        .json();
    let adapters = json["adapters"].as_array().expect("a list");
    assert!(!adapters.is_empty());
    assert_eq!(adapters[0]["index"], 0);
    assert!(adapters[0]["max_binding_bytes"].as_u64() >= Some(128 << 20));
    let name = adapters[0]["name"].as_str().expect("a name");
    let text = Run::of(voxseg().arg("devices")).succeeded().stdout;
    assert!(text.contains(name), "{text}");
}

#[test]
fn marks_the_adapter_that_a_verb_would_use() {
    let list = |arguments: &[&str]| {
        let run = Run::of(voxseg().arg("devices").args(arguments));
        let is_there = !arguments.contains(&"no such");
        assert_eq!(run.code, Some(if is_there { 0 } else { 2 }), "{run:#?}");
        (run.stdout, run.stderr)
    };
    let chosen = |arguments: &[&str]| -> Vec<(u64, String)> {
        let document: Value = serde_json::from_str(&list(arguments).0).expect("a document");
        let adapters = document["adapters"].as_array().expect("a list").iter();
        let chosen = adapters.filter(|a| a["chosen"] == true);
        let key = |a: &Value| (a["index"].as_u64(), a["name"].as_str().map(str::to_owned));
        let both = |(index, name): (Option<_>, Option<_>)| Some((index?, name?));
        chosen.filter_map(|a| both(key(a))).collect()
    };
    let best = chosen(&["--json"]);
    assert_eq!(best.len(), 1);
    let used = Run::of(voxseg().args([
        "inspect",
        "--network",
        "nnunet3d",
        "--patch",
        "32,32,32",
        "--json",
    ]));
    let used = used.succeeded().json()["device"].to_string();
    assert!(used.contains(&best[0].1), "{used} is not {best:?}");
    let marked = list(&[]).0;
    let starred: Vec<&str> = marked.lines().filter(|l| l.starts_with('*')).collect();
    assert!(
        starred.len() == 1 && starred[0].contains(&best[0].1),
        "{marked}"
    );

    assert_eq!(chosen(&["--json", "--adapter", "0"])[0].0, 0);
    assert_eq!(chosen(&["--json", "--adapter", "no such"]), []);
    let (table, news) = list(&["--adapter", "no such"]);
    assert!(table.contains(&best[0].1), "{table}");
    assert!(news.contains("--adapter no such"), "{news}");
}

#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_it_says_what_to_install() {
    let run = Run::of(crate::harness::voxseg_without_adapter().arg("devices"));
    run.refused(&["no GPU adapter", "apt-get install mesa-vulkan-drivers"]);
}

//! `voxseg devices`.

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

#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_it_says_what_to_install() {
    let run = Run::of(crate::harness::voxseg_without_adapter().arg("devices"));
    run.refused(&["no GPU adapter", "apt-get install mesa-vulkan-drivers"]);
}

//! burn's side of `make bench-peers`: `burn-peer flex` on the CPU, `burn-peer wgpu` on its choice of GPU.

mod loss;
mod network;
mod operators;
#[path = "../../protocol.rs"]
mod protocol;

use burn::tensor::Device;
use serde_json::json;

use protocol::{Outcome, Prepared};

#[cfg(feature = "wgpu")]
fn wgpu() -> Outcome<Device> {
    Ok(Device::wgpu(Default::default()))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Outcome<Device> {
    Err("built without the feature wgpu".into())
}

fn prepare(device: &Device, case: &str, detail: &str) -> Outcome<Prepared> {
    match (case, detail) {
        ("train", edge) => network::training(device, edge.parse()?),
        ("infer", edge) => network::inference(device, edge.parse()?),
        (name, "forward") => operators::forward(device, name),
        (name, "both") => operators::both(device, name),
        _ => Err(format!("unknown case: {case} {detail}").into()),
    }
}

fn main() -> Outcome<()> {
    let backend = std::env::args().nth(1).unwrap_or_default();
    let device = match backend.as_str() {
        "flex" => Device::flex(),
        "wgpu" => wgpu()?,
        other => return Err(format!("which backend? flex or wgpu, not '{other}'").into()),
    };
    // Burn's version is the one that Cargo.toml pins.
    let about = json!({ "version": "burn 0.22.1", "device": format!("{backend}: {device:?}") });
    protocol::serve(about, |case, detail, _check| prepare(&device, case, detail))
}

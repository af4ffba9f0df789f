//! `voxseg devices`: the GPUs and what they can do.

use clap::Args;

use super::{CliError, Common, Output};
use crate::gpu::{AdapterSummary, list_adapters};
use crate::table::{Align, Table};

/// Arguments of `voxseg devices`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  voxseg devices
  voxseg devices --json

The one marked * is the one that a verb uses: the first discrete GPU, else integrated, virtual, software. \
--adapter or VOXSEG_ADAPTER chooses another, which is then marked.")]
pub struct DevicesArgs {}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn describe(adapters: &[AdapterSummary]) -> String {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("#", Align::Right),
        ("name", Align::Left),
        ("backend", Align::Left),
        ("kind", Align::Left),
        ("driver", Align::Left),
        ("binding", Align::Right),
        ("buffer", Align::Right),
        ("workgroup", Align::Right),
        ("subgroup", Align::Left),
        ("f16", Align::Left),
        ("timestamps", Align::Left),
        ("coop. matrices", Align::Left),
    ]);
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    for a in adapters {
        let matrices: Vec<String> = a
            .cooperative_matrices
            .iter()
            .map(|(m, n, k)| format!("{m}x{n}x{k}"))
            .collect();
        table.row([
            if a.chosen { "*" } else { "" }.to_owned(),
            a.index.to_string(),
            a.name.clone(),
            a.backend.clone(),
            a.kind.clone(),
            a.driver.clone(),
            mib(a.max_binding_bytes),
            mib(a.max_buffer_bytes),
            format!("{} KiB", a.max_workgroup_memory_bytes >> 10),
            a.subgroup
                .map_or("no".to_owned(), |(low, high)| format!("{low}-{high}")),
            yes(a.f16),
            yes(a.timestamps),
            if matrices.is_empty() {
                "no".to_owned()
            } else {
                matrices.join(" ")
            },
        ]);
    }
    table.to_string()
}

/// Runs the verb.
///
/// # Errors
/// [`crate::gpu::GpuError::NoAdapter`], which says what to install.
pub fn run(_args: &DevicesArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    let adapters = pollster::block_on(list_adapters(common.adapter.as_deref()))?;
    output.result(
        &describe(&adapters),
        &serde_json::json!({ "adapters": adapters }),
    )?;
    if let Some(wanted) = &common.adapter
        && !adapters.iter().any(|a| a.chosen)
    {
        return Err(CliError::Partial {
            message: format!("none of them matches --adapter {wanted}"),
            exit_code: 2,
        });
    }
    Ok(())
}

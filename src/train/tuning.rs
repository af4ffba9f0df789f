//! The device with the kernels that measuring chose for this run.

use std::sync::Arc;

use super::error::TrainError;
use super::session::Event;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::run::RunFolder;
use crate::tune::{KernelChoices, cache_file, measure, problems_of};

/// The device with measured kernels; `None` where those chosen by rule are to be used. A run that was tuned keeps its choices
/// when it is resumed on the same adapter; a graph to `tune` asks for the choices from the cache of the adapter, where what is
/// missing for it is measured first. It is that of a step without a budget of memory, by whose kernels parts are computed.
pub(crate) async fn tuned(
    gpu: &Arc<Gpu>,
    folder: &RunFolder,
    tune: Option<&Graph>,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<Option<Arc<Gpu>>, TrainError> {
    let kept = KernelChoices::read(&folder.kernels(), gpu)?;
    let choices = match (kept, tune) {
        (Some(choices), _) => choices,
        (None, None) => return Ok(None),
        (None, Some(graph)) => choose(gpu, graph, observe).await?,
    };
    choices.write(&folder.kernels())?;
    let preferring = gpu.preferring(choices.variants).await;
    Ok(Some(preferring.map_err(crate::graph::GraphError::from)?))
}

async fn choose(
    gpu: &Arc<Gpu>,
    graph: &Graph,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<KernelChoices, TrainError> {
    let cache = cache_file(gpu);
    let known = match &cache {
        Some(path) => KernelChoices::read(path, gpu)?,
        None => None,
    };
    let mut choices = known.unwrap_or_else(|| KernelChoices::none(gpu));
    let mut problems = problems_of(graph, gpu.profile());
    problems.retain(|problem, _| !choices.variants.contains_key(problem));
    let hear = |measured: &_, of| observe(Event::Measured(Clone::clone(measured), of));
    let measured = measure(graph, &problems, gpu, &hear).await?;
    choices.extend(&measured);
    if let Some(path) = cache.filter(|_| !measured.is_empty()) {
        choices.write(&path)?;
    }
    Ok(choices)
}

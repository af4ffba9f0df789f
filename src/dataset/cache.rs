//! A folder of prepared cases that are made once and made again when anything they depend on changes.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;

use super::cases::Case;
use super::error::DatasetError;
use super::labels::Labels;
use super::load::load_case;
use super::prepared::PreparedCase;
use super::preprocess::Preprocessing;
use crate::hash::Fnv;

/// Cases in memory at once: enough to keep a few cores busy with inflating, few enough for large CTs.
const CASES_AT_ONCE: usize = 4;

/// Prepares `cases` in the folder `cache`, or takes them from there, in the order given.
///
/// The name of a prepared file holds a hash of the preprocessing, the labels, the seed, and size and
/// time of change of the case's files. So a changed input is prepared again, and runs with other
/// plans can share the folder; what no run needs any more can be deleted at any time.
///
/// `progress` is called after each case with the number of cases done, from any thread.
///
/// # Errors
/// The [`DatasetError`] of the first case (in order) that has one.
pub fn prepare_cases(
    cases: &[Case],
    labels: &Labels,
    preprocessing: &Preprocessing,
    cache: &Path,
    seed: u64,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<PreparedCase>, DatasetError> {
    let done = AtomicUsize::new(0);
    let prepare = |case: &Case| {
        let prepared = prepare_case(case, labels, preprocessing, cache, seed);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        prepared
    };
    let mut prepared = Vec::with_capacity(cases.len());
    for group in cases.chunks(CASES_AT_ONCE) {
        let results: Vec<_> = group.par_iter().map(prepare).collect();
        for result in results {
            prepared.push(result?);
        }
    }
    Ok(prepared)
}

/// Prepares one case, see [`prepare_cases`].
///
/// # Errors
/// [`DatasetError`] of reading, checking or writing it, and where it has no label.
pub fn prepare_case(
    case: &Case,
    labels: &Labels,
    preprocessing: &Preprocessing,
    cache: &Path,
    seed: u64,
) -> Result<PreparedCase, DatasetError> {
    let key = cache_key(case, labels, preprocessing, seed)?;
    let path = cache.join(format!("{}-{key:016x}.case", case.id));
    match PreparedCase::open(&path) {
        Ok(prepared) => return Ok(prepared),
        Err(DatasetError::Prepared { .. }) => {}
        Err(DatasetError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let loaded = load_case(case, preprocessing.channels.len(), labels)?;
    let preprocessed = preprocessing.apply(loaded)?;
    PreparedCase::write(&path, &case.id, &preprocessed, labels, seed)
}

fn cache_key(
    case: &Case,
    labels: &Labels,
    preprocessing: &Preprocessing,
    seed: u64,
) -> Result<u64, DatasetError> {
    let mut hash = Fnv::new();
    let settings = serde_json::to_vec(&(labels, preprocessing, seed));
    hash.add(&settings.map_err(|e| DatasetError::json(Path::new(&case.id), &e))?);
    for path in case.images.iter().chain(&case.label) {
        let metadata = std::fs::metadata(path).map_err(|e| DatasetError::read(path, e))?;
        let modified = metadata
            .modified()
            .map_err(|e| DatasetError::read(path, e))?;
        // A time before 1970 is as good a mark as any, as long as it is always the same.
        let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        hash.add(path.as_os_str().as_encoded_bytes());
        hash.add(&metadata.len().to_le_bytes());
        hash.add(&age.as_nanos().to_le_bytes());
    }
    Ok(hash.finish())
}

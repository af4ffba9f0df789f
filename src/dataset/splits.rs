//! Which cases train and which are held out.

use std::collections::BTreeSet;
use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::error::DatasetError;
use crate::fsio::write_atomic;

/// Number of folds of a cross-validation.
pub const FOLDS: usize = 5;

/// Name of the file that holds the folds, beside dataset.json.
pub const SPLITS_FILE: &str = "splits_final.json";

/// One fold: names of the cases to train on and of those to validate on, each in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Cases to train on.
    pub train: Vec<String>,
    /// Cases that are held out.
    pub val: Vec<String>,
}

/// Deals the cases `ids` into [`FOLDS`] folds; each case is held out exactly once, and the folds
/// differ in size by one case at most. The same ids and seed give the same folds.
///
/// With fewer cases than folds there is one fold per case, which holds out that case. A single case
/// cannot be split: the result is empty, and only a run on all cases is possible.
pub fn make_splits(ids: &[String], seed: u64) -> Vec<Split> {
    let mut order: Vec<&String> = ids.iter().collect();
    order.sort_unstable();
    order.dedup();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let folds = if order.len() < 2 {
        0
    } else {
        order.len().min(FOLDS)
    };
    let pick = |wanted: &dyn Fn(usize) -> bool| {
        let chosen = order.iter().enumerate().filter(|(i, _)| wanted(*i));
        let mut chosen: Vec<String> = chosen.map(|(_, &id)| id.clone()).collect();
        chosen.sort_unstable();
        chosen
    };
    (0..folds)
        .map(|fold| Split {
            train: pick(&|i| i % folds != fold),
            val: pick(&|i| i % folds == fold),
        })
        .collect()
}

/// The folds of the data set in `dataset`: those of its splits_final.json, where the user (or
/// nnU-Net) left one, else [`make_splits`]. Writes nothing.
///
/// # Errors
/// [`DatasetError::Split`] where the file names a case that `ids` has not, a case on both sides, or
/// a fold without cases to train on; [`DatasetError::Json`]; [`DatasetError::Io`].
pub fn splits_of(dataset: &Path, ids: &[String], seed: u64) -> Result<Vec<Split>, DatasetError> {
    let path = dataset.join(SPLITS_FILE);
    if !path.exists() {
        return Ok(make_splits(ids, seed));
    }
    splits_in(&path, ids)
}

/// The folds in the file `path`, for the cases `ids`.
///
/// # Errors
/// As [`splits_of`].
pub fn splits_in(path: &Path, ids: &[String]) -> Result<Vec<Split>, DatasetError> {
    let splits = read_splits(path)?;
    check_splits(path, &splits, ids)?;
    Ok(splits)
}

/// The fold number `fold` of `splits`.
///
/// # Errors
/// [`DatasetError::Split`] where there is none; `at`, the file or the data set that the folds are of, is named in its message.
pub fn fold_of<'a>(at: &Path, splits: &'a [Split], fold: usize) -> Result<&'a Split, DatasetError> {
    splits.get(fold).ok_or_else(|| {
        let reason = match splits.len() {
            0 => "one case cannot be split; train on all cases (--fold all)".to_owned(),
            n => format!(
                "no fold {fold}, there are {n} (0 to {}); give one of them",
                n - 1
            ),
        };
        DatasetError::Split {
            path: at.to_owned(),
            reason,
        }
    })
}

/// Reads a list of folds in nnU-Net's form, `[{"train": [...], "val": [...]}, ...]`.
///
/// # Errors
/// [`DatasetError::Io`], [`DatasetError::Json`].
pub fn read_splits(path: &Path) -> Result<Vec<Split>, DatasetError> {
    let text = std::fs::read_to_string(path).map_err(|e| DatasetError::read(path, e))?;
    serde_json::from_str(&text).map_err(|e| DatasetError::json(path, &e))
}

/// Writes a list of folds in nnU-Net's form, whole or not at all.
///
/// # Errors
/// [`DatasetError::Io`].
pub fn write_splits(path: &Path, splits: &[Split]) -> Result<(), DatasetError> {
    write_json(path, &splits)
}

/// Writes `value` as indented JSON, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DatasetError> {
    write_atomic(path, |to| {
        serde_json::to_writer_pretty(&mut *to, value)?;
        to.write_all(b"\n")
    })
    .map_err(|e| DatasetError::written(path, e))
}

fn check_splits(path: &Path, splits: &[Split], ids: &[String]) -> Result<(), DatasetError> {
    let refuse = |reason: String| {
        Err(DatasetError::Split {
            path: path.to_owned(),
            reason,
        })
    };
    let known: BTreeSet<&String> = ids.iter().collect();
    for (fold, split) in splits.iter().enumerate() {
        if split.train.is_empty() {
            return refuse(format!("fold {fold} has no case to train on; add some"));
        }
        let mut named = split.train.iter().chain(&split.val);
        if let Some(id) = named.find(|id| !known.contains(id)) {
            return refuse(format!(
                "fold {fold} names case {id}, which is not in imagesTr; correct the file, add the case, or give the data set that the folds were made for"
            ));
        }
        if let Some(id) = split.val.iter().find(|id| split.train.contains(id)) {
            return refuse(format!(
                "fold {fold} has case {id} in both train and val; leave it in one"
            ));
        }
    }
    if splits.is_empty() {
        return refuse("holds no fold; delete the file to have five made".into());
    }
    Ok(())
}

//! Five folds.

use std::fs;
use std::path::Path;

use voxseg::dataset::{FOLDS, SPLITS_FILE, Split, fold_of, make_splits, splits_of, write_splits};

use crate::support::assert_blames;

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("case_{i:03}")).collect()
}

#[test]
fn every_case_is_held_out_once_and_folds_are_even() {
    for count in [5, 7, 24, 30] {
        let ids = ids(count);
        let splits = make_splits(&ids, 1);
        assert_eq!(splits.len(), FOLDS);
        let mut held_out: Vec<String> = splits.iter().flat_map(|s| s.val.clone()).collect();
        held_out.sort();
        assert_eq!(held_out, ids);
        for split in &splits {
            assert!((count / FOLDS..=count.div_ceil(FOLDS)).contains(&split.val.len()));
            let mut both = [split.train.clone(), split.val.clone()].concat();
            both.sort();
            assert_eq!(both, ids);
        }
    }
}

#[test]
fn the_seed_alone_decides() {
    let ids = ids(30);
    let mut reversed = ids.clone();
    reversed.reverse();
    assert_eq!(make_splits(&ids, 7), make_splits(&reversed, 7));
    assert_ne!(make_splits(&ids, 7), make_splits(&ids, 8));
}

#[test]
fn few_cases_are_held_out_one_by_one() {
    let splits = make_splits(&ids(3), 0);
    assert_eq!(splits.len(), 3);
    assert!(
        splits
            .iter()
            .all(|s| s.val.len() == 1 && s.train.len() == 2)
    );
    assert!(make_splits(&ids(1), 0).is_empty());
    let folder = Path::new("D");
    let error = fold_of(folder, &splits, 3).unwrap_err();
    assert_blames(&error, &["D", "no fold 3", "0 to 2"]);
    assert_blames(&fold_of(folder, &[], 0).unwrap_err(), &["all"]);
}

#[test]
fn the_users_file_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"[{"train": ["case_000", "case_002"], "val": ["case_001"]}]"#;
    fs::write(folder.path().join(SPLITS_FILE), text).unwrap();
    let splits = splits_of(folder.path(), &ids(3), 0).unwrap();
    assert_eq!(splits.len(), 1);
    assert_eq!(
        fold_of(folder.path(), &splits, 0).unwrap().val,
        ["case_001"]
    );
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let ids = ids(11);
    let splits = make_splits(&ids, 3);
    write_splits(&folder.path().join(SPLITS_FILE), &splits).unwrap();
    assert_eq!(splits_of(folder.path(), &ids, 99).unwrap(), splits);
}

#[test]
fn splits_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SPLITS_FILE);
    let split = |train: &[&str], val: &[&str]| Split {
        train: train.iter().map(|s| (*s).to_owned()).collect(),
        val: val.iter().map(|s| (*s).to_owned()).collect(),
    };
    let cases = [
        (vec![split(&["case_000", "x"], &[])], "case x"),
        (vec![split(&["case_000"], &["case_000"])], "both"),
        (vec![split(&[], &["case_000"])], "train"),
        (vec![], "no fold"),
    ];
    for (splits, word) in cases {
        write_splits(&path, &splits).unwrap();
        let error = splits_of(folder.path(), &ids(3), 0).unwrap_err();
        assert_blames(&error, &[SPLITS_FILE, word]);
    }
    fs::write(&path, "{}").unwrap();
    assert_blames(
        &splits_of(folder.path(), &ids(3), 0).unwrap_err(),
        &[SPLITS_FILE],
    );
}

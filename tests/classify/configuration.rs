//! The configuration of a classifier's training as a file.

use voxseg::classify::{CLASSIFY_EXAMPLE, ClassifyConfig};

#[test]
fn the_example_holds_the_defaults() {
    let example: ClassifyConfig = toml::from_str(CLASSIFY_EXAMPLE).unwrap();
    assert_eq!(example, ClassifyConfig::default());
    let widest = CLASSIFY_EXAMPLE.lines().map(str::len).max();
    assert!(widest < Some(100), "the help would wrap its lines");
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let uncommented: String = CLASSIFY_EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let read: ClassifyConfig = toml::from_str(&uncommented).unwrap();
    read.check().unwrap();
    let written = toml::Table::try_from(&read).unwrap();
    let given: toml::Table = toml::from_str(&uncommented).unwrap();
    let keys = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&given), keys(&written));
    // What is left as it is by default is not left out of the example.
    let ClassifyConfig {
        size,
        memory_budget,
        steps,
        batch,
        checkpoint_every,
        validate_every,
        validation,
        peak_learning_rate,
        learning_rate,
        supervision,
        ..
    } = read;
    assert!(size.is_some() && memory_budget.is_some() && validation.is_some());
    assert!(steps.is_some() && batch.is_some());
    assert!(checkpoint_every.is_some() && validate_every.is_some());
    assert!(peak_learning_rate.is_some() && learning_rate.is_some() && supervision.is_some());
}

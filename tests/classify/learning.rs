//! A small network tells shapes apart, and says how well.

use voxseg::classify::{Classifier, ClassifyConfig, ClassifyOptions, images_in};
use voxseg::infer::Weights;
use voxseg::train::TrainError;

use crate::shapes::{CLASSES, write_shapes};
use crate::{gpu, quick, run};

#[test]
fn shapes_are_learnt_and_told_in_new_images() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_shapes(&root.join("data"), 20, 1);
    let config = ClassifyConfig {
        peak_learning_rate: Some(1e-2),
        ..quick(80)
    };
    let report = run(root, "run", &config, ClassifyOptions::default()).unwrap();
    let scores = report.validation.unwrap();
    println!(
        "accuracy {} of {}, loss {:?}",
        scores.accuracy(),
        scores.images(),
        scores.loss()
    );
    assert_eq!(scores.images(), 12);
    assert!(scores.accuracy() >= 0.9, "{:?}", scores.confusion);

    let text = std::fs::read_to_string(root.join("run/validation.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["accuracy"], serde_json::json!(scores.accuracy()));
    assert_eq!(document["cases"].as_array().unwrap().len(), 12);
    assert_eq!(document["confusion"], serde_json::json!(scores.confusion));
    assert!(
        std::fs::read_to_string(root.join("run/progress.svg"))
            .unwrap()
            .contains("accuracy")
    );

    write_shapes(&root.join("new"), 10, 9000);
    let classifier = Classifier::load(&root.join("run"), Weights::Final, gpu()).unwrap();
    let mut hits = 0;
    for (class, name) in CLASSES.iter().enumerate() {
        let mut images = images_in(&root.join("new").join(name)).unwrap();
        images.push(root.join("missing.png"));
        let mut failed = 0;
        let mut hear = |_: &std::path::Path, said: Result<voxseg::classify::Classified, _>| {
            match said {
                Ok(said) => {
                    let total: f64 = said.probabilities.iter().sum();
                    assert!((total - 1.0).abs() < 1e-9);
                    hits += usize::from(said.class == class);
                }
                Err(_) => failed += 1,
            }
            true
        };
        pollster::block_on(classifier.classify(&images, &mut hear)).unwrap();
        assert_eq!(failed, 1);
    }
    println!("{hits} of 30 new images");
    assert!(hits >= 24, "{hits} of 30");
}

#[test]
fn a_transformer_is_trained_and_says_again_what_its_run_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_shapes(&root.join("data"), 3, 1);
    let config = ClassifyConfig {
        model: "vit_ti16".to_owned(),
        size: Some([32, 32]),
        batch: Some(2),
        ..quick(2)
    };
    let report = run(root, "run", &config, ClassifyOptions::default()).unwrap();
    assert_eq!(report.validation.map(|scores| scores.images()), Some(3));
    let text = std::fs::read_to_string(root.join("run/validation.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = document["cases"].as_array().unwrap();
    let classifier = Classifier::load(&root.join("run"), Weights::Final, gpu()).unwrap();
    for case in cases {
        let image = std::path::PathBuf::from(case["image"].as_str().unwrap());
        let mut hear = |_: &std::path::Path, said: Result<voxseg::classify::Classified, _>| {
            let said = said.unwrap();
            assert_eq!(case["predicted"], CLASSES[said.class]);
            let written = case["probability"].as_f64().unwrap();
            let found = said.probabilities[said.class];
            // The same sums in batches of another size.
            assert!((written - found).abs() < 1e-5, "{written}, {found}");
            true
        };
        pollster::block_on(classifier.classify(&[image], &mut hear)).unwrap();
    }
}

#[test]
fn a_learning_rate_that_ruins_the_weights_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    write_shapes(&folder.path().join("data"), 4, 1);
    let config = ClassifyConfig {
        learning_rate: Some(voxseg::optim::Schedule::Constant { initial: 1e30 }),
        ..quick(60)
    };
    let error = run(folder.path(), "run", &config, ClassifyOptions::default()).unwrap_err();
    let is_named = matches!(
        error,
        voxseg::classify::ClassifyError::Train(TrainError::NotFinite { .. })
    );
    assert!(is_named && error.is_users_fault(), "{error}");
    assert!(error.to_string().contains("--learning-rate"), "{error}");
}

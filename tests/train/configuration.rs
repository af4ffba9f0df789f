//! Configuration files: the documented example, what a run writes down, what is refused.

use voxseg::bytes::Bytes;
use voxseg::dataset::{Dataset, Plan};
use voxseg::gpu::AdapterClass;
use voxseg::losses::{LossConfig, Supervision};
use voxseg::models::plain_unet_of;
use voxseg::nn::{HeadStyle, Nonlinearity, Norm, TokenStyle};
use voxseg::ops::loss::PixelLoss;
use voxseg::optim::{OptimizerConfig, Schedule};
use voxseg::run::{RunFolder, blueprint_of};
use voxseg::tensor::Element;
use voxseg::train::{
    BatchConfig, CONFIG_EXAMPLE, Fold, Length, NetworkConfig, TrainConfig, TrainError,
};

use crate::phantom::{Phantom, quick};
use crate::{folder_with, gpu, run};

/// Every key with some value; a new field does not compile until it is here too.
fn full() -> TrainConfig {
    TrainConfig {
        seed: 1,
        fold: Fold::All,
        memory_budget: Some(Bytes(1 << 30)),
        precision: Element::F16,
        schedule: Length {
            steps: Some(1),
            checkpoint_every: Some(1),
            validate_every: Some(1),
            validation_cases: 1,
        },
        batch: BatchConfig {
            size: Some(1),
            patch: Some([8; 3]),
            spacing: Some([1.0; 3]),
            foreground: 0.5,
            mirror: false,
        },
        network: NetworkConfig {
            model: Some("nnunet3d".into()),
            base_features: Some(1),
            features: Some(vec![1; 2]),
            max_features: Some(1),
            max_stages: Some(2),
            residual: Some(true),
            planar: Some(true),
            kernels: Some(vec![[1; 3]; 2]),
            strides: Some(vec![[1; 3]; 2]),
            encoder_blocks: Some(vec![1; 2]),
            decoder_blocks: Some(vec![1]),
            heads: Some(vec![0]),
            head_style: Some(HeadStyle::Separate),
            attention_gates: Some(false),
            tokens: TokenStyle {
                blocks: Some(1),
                ..TokenStyle::default()
            },
            dropout: Some(0.5),
            norm: Some(Norm::None),
            activation: Some(Nonlinearity::Relu),
        },
        loss: LossConfig {
            class_weights: Some(vec![1.0]),
            ..LossConfig::default()
        },
        supervision: Some(Supervision::Halving),
        optimizer: Some(OptimizerConfig::default()),
        learning_rate: Some(Schedule::default()),
    }
}

/// `table.key` of every value; a choice such as `norm` counts as one key, as does an optional table.
fn keys(config: &toml::Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in config {
        match value.as_table().filter(|table| !table.contains_key("kind")) {
            None => keys.push(name.clone()),
            Some(table) => keys.extend(table.keys().map(|key| format!("{name}.{key}"))),
        }
    }
    keys.sort();
    keys
}

#[test]
fn the_example_holds_the_defaults() {
    let example: TrainConfig = toml::from_str(CONFIG_EXAMPLE).unwrap();
    assert_eq!(example, TrainConfig::default());
    let widest = CONFIG_EXAMPLE.lines().map(str::len).max();
    assert!(widest < Some(100), "the help would wrap its lines");
}

#[test]
fn a_table_takes_the_usual_values_for_what_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("partial.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        TrainConfig::read(&path).unwrap_or_else(|e| panic!("{e}"))
    };
    let partial = read(
        "[optimizer]\nkind = \"sgd\"\nmax_norm = 12.0\n[learning_rate]\nkind = \"poly\"\ninitial = 0.01\n\
         [loss]\nbatch_dice = true\n",
    );
    assert_eq!(partial.optimizer, Some(OptimizerConfig::default()));
    assert_eq!(partial.learning_rate, Some(Schedule::default()));
    let expected = LossConfig {
        batch_dice: true,
        ..LossConfig::default()
    };
    assert_eq!(partial.loss, expected);
    let adamw = read("[optimizer]\nkind = \"adamw\"\nmax_norm = 12.0\n");
    assert_eq!(adamw.optimizer, Some(OptimizerConfig::adamw()));
    let focal = read("[loss]\npixel = { kind = \"focal\" }\n");
    let gamma = PixelLoss::Focal { gamma: 2.0 };
    assert_eq!((focal.loss.pixel, focal.loss.region), (Some(gamma), None));
    std::fs::write(&path, "[batch]\nforeground = true\n").unwrap();
    let error = TrainConfig::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("expected a number") && !error.contains("f64"),
        "{error}"
    );
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let uncommented: String = CONFIG_EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let mut read: TrainConfig = toml::from_str(&uncommented).unwrap();
    // They stand for the two keys before them.
    read.network.features = None;
    read.validate().unwrap();
    let full = toml::Table::try_from(full()).unwrap();
    assert_eq!(keys(&toml::from_str(&uncommented).unwrap()), keys(&full));
}

#[test]
fn a_run_writes_down_every_choice_and_they_give_the_same_run_again() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(
        root,
        "run",
        "[schedule]\nsteps = 1\n[network]\nresidual = true\nbase_features = 4",
    )
    .unwrap();
    let first = RunFolder::new(root.join("run"));
    let text = std::fs::read_to_string(first.config()).unwrap();
    let mut expected = keys(&toml::Table::try_from(full()).unwrap());
    // There are none, which TOML can only say by silence; and the features follow from the first and the most.
    let silent = [
        "loss.class_weights",
        "memory_budget",
        "network.features",
        "network.tokens",
    ];
    expected.retain(|key| !silent.contains(&key.as_str()));
    assert_eq!(keys(&toml::from_str(&text).unwrap()), expected);

    run(root, "again", &text).unwrap();
    crate::assert_same(&root.join("run"), &root.join("again"));
}

#[test]
fn a_network_of_the_users_own_is_trained_loaded_and_made_again_from_its_folder() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    let own = "kernels = [[1, 3, 3], [3, 3, 3], [3, 1, 3]]\nstrides = [[1, 1, 1], [1, 2, 2], [2, 1, 2]]\n\
        encoder_blocks = [1, 2, 1]\ndecoder_blocks = [1, 2]\nheads = [0, 1]\n\
        head_style = \"summed\"\nattention_gates = true\ndropout = 0.25\nnorm = \"batch\"\nactivation = \"prelu\"\n";
    let config = format!("{}{own}", quick(4));
    run(root, "whole", &config).unwrap();
    let folder = RunFolder::new(root.join("whole"));
    let network = plain_unet_of(&blueprint_of(&Plan::read(&folder.plan()).unwrap()));
    assert_eq!(network.encoder_features, [vec![4], vec![8; 2], vec![8]]);
    assert_eq!(network.decoder_features, [vec![4], vec![8; 2]]);
    assert_eq!(network.kernels[2], [3, 1, 3]);
    assert_eq!(network.strides[2], [2, 1, 2]);
    assert_eq!((network.heads, network.dropout), (vec![0, 1], 0.25));
    assert_eq!(network.decoder.head_style, HeadStyle::Summed);
    assert!(network.decoder.attention_gates);
    assert_eq!(network.nonlinearity, Nonlinearity::Prelu);
    assert!(matches!(network.norm, Norm::Batch { .. }));
    voxseg::infer::Model::load(folder.root(), Default::default(), gpu()).unwrap();

    let killed = root.join("killed");
    std::fs::create_dir(&killed).unwrap();
    for file in [folder.config(), folder.plan()] {
        std::fs::copy(&file, killed.join(file.file_name().unwrap())).unwrap();
    }
    let resume = voxseg::train::TrainOptions {
        resume: true,
        ..Default::default()
    };
    crate::train_with(root, "killed", "", resume).unwrap();
    crate::assert_same(folder.root(), &killed);
}

#[test]
fn dropout_changes_what_is_learnt() {
    let folder = folder_with(&Phantom::balls(2));
    let losses = |name: &str, network: &str| -> Vec<Option<f64>> {
        let config = format!("fold = \"all\"\n{}{network}", quick(3));
        let report = run(folder.path(), name, &config).unwrap();
        report.log.iter().map(|line| line.record().loss).collect()
    };
    let without = losses("without", "");
    let with = losses("with", "dropout = 0.5\n");
    assert_eq!(losses("zero", "dropout = 0.0\n"), without);
    assert!(with.iter().zip(&without).all(|(a, b)| a != b), "{with:?}");
    assert!(with.iter().all(Option::is_some));
}

#[test]
fn the_norm_that_is_asked_for_is_trained() {
    let folder = folder_with(&Phantom::balls(2));
    let losses = |name: &str, norm: &str| -> Vec<Option<f64>> {
        let config = format!("fold = \"all\"\n{}norm = {norm}\n", quick(2));
        let report = run(folder.path(), name, &config).unwrap();
        report.log.iter().map(|line| line.record().loss).collect()
    };
    let groups = |groups| format!("{{ kind = \"group\", groups = {groups} }}");
    let instance = losses("instance", "\"instance\"");
    let [one, two] = [1, 2].map(|n| losses(&format!("groups{n}"), &groups(n)));
    for (a, b) in [(&instance, &one), (&instance, &two), (&one, &two)] {
        assert!(a.iter().zip(b).all(|(a, b)| a != b), "{a:?} {b:?}");
    }
    assert!(one.iter().chain(&two).all(Option::is_some));
}

#[test]
fn keys_of_the_network_that_make_no_sense_are_named() {
    let folder = folder_with(&Phantom::balls(2));
    for (line, words) in [
        ("dropout = 1.5", ["network.dropout", "below 1", "1.5"]),
        (
            "norm = { kind = \"batch\", eps = -1.0 }",
            ["network.norm.eps", "above 0", "-1"],
        ),
        (
            "model = \"vnet\"\nattention_gates = true",
            ["attention_gates", "not for `vnet`", "nnunet3d"],
        ),
        (
            "model = \"nnunet3d\"\nplanar = true",
            ["for volumes", "`network.planar` is true", "nnunet2d"],
        ),
        (
            "model = \"resenc2d\"\nplanar = false",
            ["for slices", "`network.planar` is false", "resenc3d"],
        ),
        (
            "kernels = [[2, 2, 2], [3, 3, 3]]",
            ["network.kernels", "odd", "[2, 2, 2]"],
        ),
        (
            "strides = [[1, 1, 1], [2, 2, 0]]",
            ["network.strides", "above 0", "0"],
        ),
        (
            "norm = { kind = \"group\", groups = 0 }",
            ["network.norm.groups", "at least 1", "0"],
        ),
        (
            "norm = { kind = \"group\", groups = 4 }\nbase_features = 6",
            ["network.norm.groups", "[6, 12", "found 4"],
        ),
        ("heads = [1]", ["network.heads", "from 0", "[1]"]),
        (
            "heads = [0, 7]",
            ["network.heads", "decoder stages", "found 7"],
        ),
        (
            "encoder_blocks = [1, 1]\ndecoder_blocks = [1, 1]",
            ["network.decoder_blocks", "a list of 1", "2 entries"],
        ),
        (
            "features = [4, 8]\nbase_features = 4",
            ["network.features", "base_features", "[4, 8]"],
        ),
        (
            "features = [4, 0]",
            ["network.features", "from 1", "[4, 0]"],
        ),
        (
            "tokens = { attention_heads = 0 }",
            ["network.tokens.attention_heads", "from 1", "0"],
        ),
        (
            "planar = true\nkernels = [[3, 3, 3], [3, 3, 3]]",
            ["network.kernels", "planar", "[3, 3, 3]"],
        ),
        (
            "base_features = 10000000000",
            ["network.base_features", "65536", "10000000000"],
        ),
    ] {
        let error = run(folder.path(), "run", &format!("[network]\n{line}\n")).unwrap_err();
        assert!(error.is_users_fault(), "{error}");
        let message = error.to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
        assert!(!folder.path().join("run").exists(), "{line}");
    }
}

#[test]
fn weights_of_heads_that_are_not_there_are_refused_before_preprocessing() {
    let folder = folder_with(&Phantom::balls(2));
    let config = format!(
        "supervision = {{ kind = \"fixed\", weights = [1.0, 0.5, 0.25] }}\n{}heads = [0]\n",
        quick(3)
    );
    let error = run(folder.path(), "run", &config).unwrap_err();
    assert!(matches!(error, TrainError::Supervision(_)), "{error}");
    assert!(!folder.path().join("run/prepared").exists());
}

#[test]
fn heads_are_weighed_as_their_network_says_unless_the_configuration_does() {
    let folder = folder_with(&Phantom::balls(2));
    let dataset = Dataset::open(folder.path().join("data")).unwrap();
    let chosen = |model: &str, more: &str| {
        let config = format!("{more}[network]\nmodel = \"{model}\"\nmax_stages = 3\n");
        let config: TrainConfig = toml::from_str(&config).unwrap();
        let planned = config.planned(&dataset, AdapterClass::CpuLike, |_| ());
        planned.unwrap().0.supervision.unwrap()
    };
    let fixed = |weights: &[f32]| Supervision::Fixed {
        weights: weights.to_vec(),
    };
    assert_eq!(chosen("nnunet3d", ""), Supervision::Halving);
    assert_eq!(chosen("c1_deepsup", ""), fixed(&[1.0, 0.4]));
    assert_eq!(chosen("unetpp", ""), fixed(&[1.0; 2]));
    let halving = "supervision = { kind = \"halving\" }\n";
    assert_eq!(chosen("c1_deepsup", halving), Supervision::Halving);
}

#[test]
fn more_classes_than_a_loss_takes_are_refused_before_preprocessing() {
    let mut labels = serde_json::Map::from_iter([("background".to_owned(), 0.into())]);
    labels.extend((1..=64).map(|label| (format!("organ{label}"), label.into())));
    let folder = folder_with(&Phantom {
        labels: labels.into(),
        ..Phantom::balls(2)
    });
    let error = run(folder.path(), "run", &quick(1)).unwrap_err();
    assert!(error.is_users_fault(), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("at most 64") && message.contains("has 65"),
        "{message}"
    );
    assert!(!folder.path().join("run").exists());
}

#[test]
fn numbers_of_loss_and_optimiser_that_make_no_sense_are_refused_before_preprocessing() {
    let folder = folder_with(&Phantom::balls(2));
    for (line, words) in [
        (
            "learning_rate = { kind = \"constant\", initial = nan }",
            ["learning_rate.initial", "above 0", "NaN"],
        ),
        (
            "optimizer = { kind = \"sgd\", momentum = 1.0, nesterov = true, weight_decay = 0.0 }",
            ["optimizer.momentum", "below 1", "1"],
        ),
        (
            "loss = { region = { kind = \"soft_dice\", smooth = -1.0 } }",
            ["loss.region.smooth", "from 0 on", "-1"],
        ),
        (
            "loss = { pixel = { kind = \"focal\", gamma = 0.5 } }",
            ["loss.pixel.gamma", "from 1 on", "0.5"],
        ),
        (
            "loss = { batch_dice = true }",
            ["loss.pixel", "loss.region", "neither"],
        ),
        (
            "loss = { pixel = { kind = \"cross_entropy\" }, class_weights = [1.0, 2.0, 3.0] }",
            ["loss.class_weights", "each class", "3 for background, ball"],
        ),
    ] {
        let error = run(folder.path(), "run", &format!("{line}\n{}", quick(1))).unwrap_err();
        assert!(error.is_users_fault(), "{error}");
        let message = error.to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
        assert!(!folder.path().join("run").exists(), "{line}");
    }
}

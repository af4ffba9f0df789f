//! Keys of `[network]`: each makes another network, or is refused with a network that does not follow it.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;
use voxseg::dataset::{Dataset, Plan};
use voxseg::gpu::AdapterClass;
use voxseg::graph::Graph;
use voxseg::models::{Key, MODELS, Model};
use voxseg::nn::Mode;
use voxseg::run::{RunFolder, network_of};
use voxseg::tensor::Shape;
use voxseg::train::{ConfigError, TrainConfig, TrainError, TrainOptions};

use crate::phantom::{Phantom, quick};
use crate::{folder_with, run, train_with};

/// Keys of `[network]` with their values.
type Lines = BTreeMap<&'static str, String>;

fn planned() -> impl Iterator<Item = &'static Model> {
    MODELS.iter().copied().filter(|m| m.of_blueprint.is_some())
}

/// Keys that every family follows, for small networks of three stages.
fn base(model: &Model) -> Lines {
    let name = format!("{:?}", model.name);
    [
        ("model", name.as_str()),
        ("base_features", "8"),
        ("max_stages", "3"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into()
}

/// What makes another network than [`base`] where the key is followed.
fn others(key: Key, planar: bool) -> Vec<String> {
    let along = |d: usize, h: usize, w: usize| {
        let d = if planar { 1 } else { d };
        format!("[{d}, {h}, {w}]")
    };
    let thrice = |entry: String| format!("[{}]", vec![entry; 3].join(", "));
    match key {
        Key::BaseFeatures => vec!["16".to_owned()],
        Key::MaxFeatures => vec!["16".to_owned()],
        Key::Features => vec!["[8, 16, 24]".to_owned()],
        Key::MaxStages => vec!["2".to_owned()],
        Key::Kernels => vec![thrice(along(3, 1, 3))],
        Key::KernelSizes => vec![thrice(along(5, 5, 5))],
        Key::Strides => {
            let [second, third] = [along(1, 2, 2), along(2, 1, 2)];
            vec![format!("[[1, 1, 1], {second}, {third}]")]
        }
        Key::EncoderBlocks => vec!["[2, 5, 2]".to_owned()],
        Key::DecoderBlocks => vec!["[3, 2]".to_owned()],
        Key::Heads => vec!["[0]".to_owned()],
        Key::HeadStyle => vec!["\"summed\"".to_owned()],
        Key::AttentionGates => vec!["true".to_owned()],
        Key::Tokens => {
            let parts = ["blocks = 5", "attention_heads = 4", "hidden = 24"];
            parts.map(|part| format!("{{ {part} }}")).to_vec()
        }
        Key::Dropout => vec!["0.25".to_owned()],
        Key::Norm => vec!["\"batch\"".to_owned()],
        Key::Activation => vec!["\"gelu\"".to_owned()],
    }
}

/// What makes the network that it is without the key, where there is such a value.
fn usual(key: Key) -> Option<&'static str> {
    match key {
        Key::HeadStyle => Some("\"separate\""),
        Key::AttentionGates => Some("false"),
        Key::Dropout => Some("0.0"),
        Key::Norm => Some("\"instance\""),
        Key::Activation => Some("\"leaky_relu\""),
        _ => None,
    }
}

/// A data set of volumes.
struct Data {
    _folder: TempDir,
    set: Dataset,
}

impl Data {
    fn new() -> Self {
        let folder = folder_with(&Phantom::balls(2));
        Self {
            set: Dataset::open(folder.path().join("data")).unwrap(),
            _folder: folder,
        }
    }

    /// The configuration of a new run with these `lines` on patches of volumes or of slices (`planar`), with every choice
    /// made, and its plan.
    fn plan(&self, planar: bool, lines: &Lines) -> Result<(TrainConfig, Plan), TrainError> {
        let patch = if planar { [1, 16, 16] } else { [16; 3] };
        let lines = lines
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"));
        let lines: String = lines.collect();
        let text = format!("[batch]\nsize = 1\npatch = {patch:?}\n[network]\n{lines}");
        let config: TrainConfig = toml::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        config.planned(&self.set, AdapterClass::CpuLike, |_| ())
    }
}

/// All of the network that a plan makes for training: its values, operators and connections.
fn built(plan: &Plan) -> String {
    let network = network_of(plan).unwrap();
    let mut graph = Graph::new();
    let shape = Shape::new(1, network.in_channels(), 1, 1, 1).with_spatial(plan.patch);
    let image = graph.input("image", shape).unwrap();
    let heads = network.build(&mut graph, image, Mode::Training).unwrap();
    format!("{:?} {graph:?}", heads.logits)
}

/// Whether `error` refuses the key, and names it.
fn refuses(error: &TrainError, name: &str, key: Key) -> bool {
    let message = error.to_string();
    let is_typed = match error {
        TrainError::Config(ConfigError::NotFollowed { keys, .. }) => keys.contains(&key.words()),
        // Of networks that have no decoder of that kind at all.
        TrainError::Config(ConfigError::Model(_)) => message.contains(&key.words()),
        _ => false,
    };
    is_typed && error.is_users_fault() && message.contains(name)
}

#[test]
fn every_key_makes_another_network_or_is_refused() {
    let data = Data::new();
    for model in planned() {
        let planar = model.planar() == Some(true);
        let lines = base(model);
        let plain = data.plan(planar, &lines);
        let (_, plain) = plain.unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let plain = built(&plain);
        let check = |key: Key, value: &str, changes: bool| {
            let name = key.name();
            let what = format!("{}: {name} = {value}", model.name);
            let mut lines = lines.clone();
            if name == "features" {
                lines.remove("base_features");
            }
            lines.insert(name, value.to_owned());
            match data.plan(planar, &lines) {
                Ok((_, plan)) => {
                    assert!(model.follows(key), "{what} is taken and not followed");
                    assert_eq!(built(&plan) != plain, changes, "{what}");
                }
                Err(error) => {
                    assert!(!model.follows(key), "{what}: {error}");
                    assert!(refuses(&error, model.name, key), "{what}: {error}");
                }
            }
        };
        for key in Key::ALL {
            for value in others(key, planar) {
                check(key, &value, true);
            }
            if let Some(value) = usual(key) {
                check(key, value, false);
            }
        }
    }
}

#[test]
fn slices_and_residual_blocks_are_asked_for_as_the_name_says() {
    let data = Data::new();
    let with = |model: &Model, key: &'static str, value: bool| {
        let mut lines = base(model);
        lines.insert(key, value.to_string());
        lines
    };
    for model in planned() {
        let residual = model.name.starts_with("resenc");
        let planar = model.planar() == Some(true);
        let error = data
            .plan(planar, &with(model, "residual", !residual))
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("network.residual") && message.contains(model.name),
            "{message}"
        );
        data.plan(planar, &with(model, "residual", residual))
            .unwrap();

        let slices = data.plan(true, &with(model, "planar", true));
        let volumes = data.plan(false, &with(model, "planar", false));
        match model.planar() {
            Some(true) => assert!(slices.is_ok() && volumes.is_err(), "{}", model.name),
            Some(false) => assert!(slices.is_err() && volumes.is_ok(), "{}", model.name),
            None => {
                let [slices, volumes] = [slices, volumes].map(|planned| built(&planned.unwrap().1));
                assert_ne!(slices, volumes, "{}", model.name);
            }
        }
    }
}

#[test]
fn what_is_written_down_is_what_the_network_follows() {
    let data = Data::new();
    for model in planned() {
        let planar = model.planar() == Some(true);
        let (config, plan) = data.plan(planar, &base(model)).unwrap();
        let text = toml::to_string(&config.network).unwrap();
        let written: toml::Table = toml::from_str(&text).unwrap();
        for key in Key::ALL {
            // They stand for one another, and those of the transformer are decided by the user alone.
            if ![Key::Features, Key::KernelSizes, Key::Tokens].contains(&key) {
                let is_written = written.contains_key(key.name());
                assert_eq!(is_written, model.follows(key), "{}: {key:?}", model.name);
            }
        }
        let again = config
            .planned(&data.set, AdapterClass::CpuLike, |_| ())
            .unwrap();
        assert_eq!(again, (config, plan), "{}", model.name);
    }
}

/// What earlier versions wrote of a run of `vnet_bn`, whether the network follows it or not.
const EARLIER: &str = r#"
model = "vnet_bn"
base_features = 4
max_features = 8
max_stages = 3
residual = false
planar = false
kernels = [[3, 3, 3], [3, 3, 3], [3, 3, 3]]
strides = [[1, 1, 1], [2, 2, 2], [1, 2, 2]]
encoder_blocks = [2, 2, 2]
decoder_blocks = [2, 2]
heads = [0, 1]
head_style = "separate"
attention_gates = false
dropout = 0.0
norm = { kind = "instance", eps = 1e-5 }
activation = { kind = "leaky_relu", slope = 0.01 }
"#;

/// The same as those versions hashed it into their checkpoints.
const EARLIER_JSON: &str = r#"{"model":"vnet_bn","base_features":4,"max_features":8,"max_stages":3,"residual":false,"planar":false,"kernels":[[3,3,3],[3,3,3],[3,3,3]],"strides":[[1,1,1],[2,2,2],[1,2,2]],"encoder_blocks":[2,2,2],"decoder_blocks":[2,2],"heads":[0,1],"head_style":"separate","attention_gates":false,"dropout":0.0,"norm":{"kind":"instance","eps":0.000009999999747378752},"activation":{"kind":"leaky_relu","slope":0.009999999776482582}}"#;

#[test]
fn runs_of_earlier_versions_go_on_under_the_configuration_that_they_wrote() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "new", &format!("{}model = \"vnet_bn\"\n", quick(2))).unwrap();
    let new = RunFolder::new(root.join("new"));

    let mut config = TrainConfig::read(&new.config()).unwrap();
    config.network = toml::from_str(EARLIER).unwrap();
    let hashed = serde_json::json!(config.network);
    let expected: serde_json::Value = serde_json::from_str(EARLIER_JSON).unwrap();
    assert_eq!(hashed, expected);

    let earlier = RunFolder::new(root.join("earlier"));
    std::fs::create_dir(earlier.root()).unwrap();
    config.write(&earlier.config()).unwrap();
    std::fs::copy(new.plan(), earlier.plan()).unwrap();
    let before = std::fs::read_to_string(earlier.config()).unwrap();
    let resume = TrainOptions {
        resume: true,
        ..Default::default()
    };
    train_with(root, "earlier", "", resume).unwrap();
    assert_eq!(std::fs::read_to_string(earlier.config()).unwrap(), before);
    // A new run under it would claim what its network has not.
    let error = run(root, "again", &before).unwrap_err();
    assert!(refuses(&error, "vnet_bn", Key::Norm), "{error}");
    assert!(!root.join("again").exists());
}

/// The second column of the table of networks in docs/models.md.
fn documented() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| network | refuses |"));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .flat_map(|cells| {
            let names = cells[1]
                .split(", ")
                .map(|name| name.trim_matches('`').to_owned());
            let refused = cells[2].to_owned();
            names
                .map(move |name| (name, refused.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_documentation_says_what_each_network_refuses() {
    let expected = planned().map(|model| {
        let idle = Key::ALL.into_iter().filter(|&key| !model.follows(key));
        let words: Vec<String> = idle.map(Key::words).collect();
        (model.name.to_owned(), words.join(", "))
    });
    assert_eq!(documented(), expected.collect());
}

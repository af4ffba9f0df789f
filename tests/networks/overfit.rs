//! Each segmentation network learns two small volumes by heart, and finds them again with the graph of inference: a
//! network whose gradients, running statistics or inference differ from what they should be does not.

use std::collections::BTreeSet;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, remove_dead_nodes};
use voxseg::losses::LossConfig;
use voxseg::models::{Blueprint, Form, MODELS, Network, planned_model};
use voxseg::nn::{DecoderStyle, LayerStyle, Mode, TokenStyle};
use voxseg::ops::ValueId;
use voxseg::ops::dropout::seed_bits;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::Shape;
use voxseg::train::{TargetForm, training_step};

use crate::gpu;

/// Volumes that are learnt.
const SAMPLES: usize = 2;

/// Mean Dice of the foreground that counts as learnt.
const LEARNT: f64 = 0.95;

/// Steps between two looks at what is learnt.
const INTERVAL: u64 = 10;

/// How a network learns.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// Voxels (D, H, W) of a volume.
    pub extent: [usize; 3],
    /// Background among them.
    pub classes: usize,
    /// AdamW's learning rate.
    pub rate: f64,
    /// Most steps.
    pub steps: u64,
    /// The loss at every head.
    pub loss: LossConfig,
}

impl Lesson {
    /// Volumes of 16 x 16 x 16 voxels and three classes, at most 200 steps at the rate 0.01, cross-entropy + Dice.
    pub fn volumes() -> Self {
        Self {
            extent: [16; 3],
            classes: 3,
            rate: 0.01,
            steps: 200,
            loss: LossConfig::default(),
        }
    }

    /// The same for slices of 32 x 32.
    pub fn slices() -> Self {
        Self {
            extent: [1, 32, 32],
            ..Self::volumes()
        }
    }

    fn shape(&self) -> Shape {
        Shape::new(SAMPLES, 1, 1, 1, 1).with_spatial(self.extent)
    }

    /// Three stages of few features, along all axes that have an extent, with a head at each decoder stage.
    fn blueprint(&self) -> Blueprint {
        let along = |n: usize| self.extent.map(|extent| if extent > 1 { n } else { 1 });
        Blueprint {
            form: Form {
                channels: 1,
                classes: self.classes,
                extent: self.extent,
            },
            features: vec![8, 16, 24],
            kernels: vec![along(3); 3],
            strides: vec![[1; 3], along(2), along(2)],
            encoder_blocks: vec![1, 2, 2],
            decoder_blocks: vec![1, 1],
            heads: vec![0, 1],
            layers: LayerStyle::default(),
            decoder: DecoderStyle::default(),
            tokens: TokenStyle::default(),
        }
    }

    /// A ball of each class, brighter from class to class, in noise: the images and the labels.
    fn volumes_and_labels(&self) -> [Vec<f32>; 2] {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut draw = |low: f64, high: f64| rng.random_range(low..high);
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        let [depth, height, width] = self.extent;
        for _ in 0..SAMPLES {
            let balls: Vec<([f64; 3], f64)> = (1..self.classes)
                .map(|class| {
                    // Side by side along W, so that each class is there in each volume.
                    let side = width as f64 / (self.classes - 1) as f64;
                    let centre = [depth, height].map(|n| n as f64 * draw(0.35, 0.65));
                    let at = (class as f64 - 1.0 + draw(0.4, 0.6)) * side;
                    ([centre[0], centre[1], at], side * draw(0.35, 0.6))
                })
                .collect();
            for voxel in 0..depth * height * width {
                let at = [
                    voxel / (height * width),
                    voxel / width % height,
                    voxel % width,
                ];
                let inside = |&(centre, radius): &([f64; 3], f64)| {
                    let along = |i: usize| match self.extent[i] {
                        1 => 0.0,
                        _ => at[i] as f64 + 0.5 - centre[i],
                    };
                    (0..3).map(|i| along(i) * along(i)).sum::<f64>() <= radius * radius
                };
                let class = balls.iter().rposition(inside).map_or(0, |ball| ball + 1);
                labels.push(class as f32);
                images.push((class as f64 + draw(-0.7, 0.7)) as f32);
            }
        }
        [images, labels]
    }
}

/// The mean Dice of all foreground classes of all samples; `logits` are (N, C, D, H, W), `labels` (N, 1, D, H, W).
fn foreground_dice(logits: &[f32], shape: Shape, labels: &[f32]) -> f64 {
    let (voxels, classes) = (shape.voxels(), shape.c());
    let found = |i: usize| {
        let first = i / voxels * classes * voxels + i % voxels;
        let logit = |class: &usize| logits[first + class * voxels];
        (0..classes).max_by(|a, b| logit(a).total_cmp(&logit(b)))
    };
    let mut counts = vec![[0usize; 2]; shape.n() * classes];
    for (i, &label) in labels.iter().enumerate() {
        let (found, label) = (found(i).unwrap(), label as usize);
        let sample = i / voxels * classes;
        counts[sample + found][0] += 1;
        counts[sample + label][0] += 1;
        counts[sample + label][1] += usize::from(found == label);
    }
    let foreground = (0..counts.len()).filter(|at| at % classes > 0);
    let scores: Vec<f64> = foreground
        .map(|at| 2.0 * counts[at][1] as f64 / counts[at][0] as f64)
        .collect();
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// The graph of inference on the parameters that training changes.
fn inference(network: &Network, shape: Shape, parameters: &mut Parameters) -> (Executor, ValueId) {
    let mut graph = Graph::new();
    let image = graph.input("image", shape).unwrap();
    let heads = network.build(&mut graph, image, Mode::Inference).unwrap();
    let outputs = [heads.logits[0]];
    remove_dead_nodes(&mut graph, &outputs);
    let options = ProgramOptions::default();
    let program = Program::compile(graph, &outputs, gpu().profile(), options).unwrap();
    (Executor::new(program, parameters).unwrap(), image)
}

/// Trains `network` on two volumes until inference finds their classes again.
pub fn learns(name: &str, network: &Network, lesson: &Lesson) {
    let began = Instant::now();
    let (shape, device) = (lesson.shape(), gpu());
    let optimizer = OptimizerConfig::adamw();
    let step = training_step(
        network,
        shape,
        TargetForm::CLASSES,
        &lesson.loss,
        &optimizer,
        device.profile(),
    )
    .unwrap();
    let mut parameters = Parameters::new(device, 3);
    let trainer = Executor::new(step.program, &mut parameters).unwrap();
    let (reader, input) = inference(network, shape, &mut parameters);
    let [images, labels] = lesson.volumes_and_labels();
    let weights = network.supervision().weights(step.heads, 0, 1).unwrap();
    let mut dice = 0.0;
    for at in 0..lesson.steps {
        let (hyper, seed) = (optimizer.hyper(lesson.rate, at), [seed_bits(at as u32)]);
        let mut feed: Vec<(ValueId, &[f32])> = vec![
            (step.feeds.image, &images),
            (step.feeds.target, &labels),
            (step.feeds.head_weights, &weights),
            (step.feeds.loss_scale, &[1.0]),
            (step.hyper, &hyper),
        ];
        feed.extend(step.feeds.dropout_seed.map(|id| (id, &seed[..])));
        let loss = pollster::block_on(async {
            trainer.run(&feed).await.unwrap();
            trainer.fetch().await.unwrap().unwrap()[0].data[0]
        });
        assert!(loss.is_finite(), "{name}: loss {loss} at step {at}");
        if (at + 1) % INTERVAL > 0 {
            continue;
        }
        let logits = pollster::block_on(async {
            reader.run(&[(input, &images)]).await.unwrap();
            reader.fetch().await.unwrap().unwrap().remove(0)
        });
        dice = foreground_dice(&logits.data, logits.shape, &labels);
        if dice >= LEARNT {
            let seconds = began.elapsed().as_secs_f64();
            println!(
                "{name}: Dice {dice:.3} after {} steps, {seconds:.1} s",
                at + 1
            );
            return;
        }
    }
    panic!("{name}: Dice {dice:.3} after {} steps", lesson.steps);
}

/// The network of that name as training makes it for a data set of such volumes.
fn planned(name: &str, lesson: &Lesson) -> Network {
    let make = planned_model(name).unwrap();
    Network::new(make(&lesson.blueprint()).unwrap())
}

macro_rules! overfit {
    ($($name:ident),* $(,)?) => {
        /// The models that have a test here.
        const TESTED: &[&str] = &[$(stringify!($name)),*];

        $(mod $name {
            use super::{Lesson, learns, planned};

            const NAME: &str = stringify!($name);

            #[test]
            fn volumes() {
                let lesson = Lesson::volumes();
                learns(NAME, &planned(NAME, &lesson), &lesson);
            }

            #[test]
            fn slices() {
                let lesson = Lesson::slices();
                learns(NAME, &planned(NAME, &lesson), &lesson);
            }
        })*
    };
}

overfit! {
    nnunet3d,
    resenc3d,
    attention_unet,
    monai_attention_unet,
    dense_unet,
    kayalibay3d,
    isensee3d,
    unetpp,
    vnet,
    vnet_bn,
    vnet_elu,
    mobile_unet,
    unetr,
}

/// Models without such a test: some have an entry for volumes and one for slices, which follow plans alike, and those that
/// decide at a quarter or an eighth of the resolution are shown larger volumes below.
const OTHERS: &[&str] = &[
    "nnunet2d",
    "resenc2d",
    "kayalibay2d",
    "isensee2d",
    "lraspp",
    "c1_deepsup",
];

#[test]
fn every_model_that_follows_a_plan_is_tested() {
    let planned = MODELS.iter().filter(|m| m.of_blueprint.is_some());
    let planned: BTreeSet<&str> = planned.map(|m| m.name).collect();
    assert_eq!(planned, TESTED.iter().chain(OTHERS).copied().collect());
}

/// A network that decides at a part of the resolution is shown volumes and slices twice as large.
macro_rules! overfit_coarse {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use super::{Lesson, learns, planned};

            const NAME: &str = stringify!($name);

            #[test]
            fn volumes() {
                let lesson = Lesson {
                    extent: [32; 3],
                    ..Lesson::volumes()
                };
                learns(NAME, &planned(NAME, &lesson), &lesson);
            }

            #[test]
            fn slices() {
                let lesson = Lesson {
                    extent: [1, 64, 64],
                    ..Lesson::slices()
                };
                learns(NAME, &planned(NAME, &lesson), &lesson);
            }
        }
    )*};
}

overfit_coarse! {
    c1_deepsup,
    lraspp,
}

//! The least memory that a training step can be planned in.

use voxseg::gpu::DeviceProfile;
use voxseg::graph::{GraphError, Program};
use voxseg::models::ModelError;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::Shape;
use voxseg::train::{TargetForm, training_step};

use crate::gpu;
use crate::half::peers_network;

fn planned(edge: usize, memory_budget: Option<u64>) -> Result<Program, ModelError> {
    let device = DeviceProfile {
        memory_budget,
        ..gpu().profile().clone()
    };
    let step = training_step(
        &peers_network().into(),
        Shape::new(1, 1, edge, edge, edge),
        TargetForm::CLASSES,
        &Default::default(),
        &OptimizerConfig::default(),
        &device,
    );
    step.map(|step| step.program)
}

#[test]
fn the_least_is_below_four_of_the_largest_maps_beside_the_gradients_of_parameters() {
    for edge in [64, 96] {
        let free = planned(edge, None).unwrap();
        let Err(ModelError::Graph(GraphError::Budget { least, .. })) = planned(edge, Some(1))
        else {
            panic!("no step fits one byte");
        };
        let tight = planned(edge, Some(least)).unwrap();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{edge}^3: {:.1} MiB, of which {:.1} are parameters, states and inputs; at the least {:.1}, of which {:.1} \
             are alive at once, {:.0} % more multiply-adds",
            mib(free.total_bytes()),
            mib(free.persistent_bytes()),
            mib(least),
            mib(tight.peak_bytes()),
            100.0 * tight.recomputed_madds() / free.summary().madds,
        );
        assert!(tight.total_bytes() <= least);
        // In one slot hardly a byte is lost, and gradients of parameters stay until their norm is known.
        let slots = tight.memory_plan();
        assert!(64 * slots.total_bytes() <= 65 * tight.peak_bytes() && slots.slots.len() == 1);
        let map = Shape::new(1, 16, edge, edge, edge).bytes();
        let gradients = tight.summary().parameter_bytes;
        assert!(tight.peak_bytes() < 4 * map + gradients, "{edge}");
    }
}

//! Parameters and states on the device, by name; shared by the graphs of training, validation and inference.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Graph, GraphError, Role};
use crate::gpu::{Gpu, GpuBuffer};
use crate::hash::Fnv;
use crate::tensor::{HostTensor, Shape};

/// One tensor of the store.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Extent.
    pub shape: Shape,
    /// Its buffer.
    pub buffer: GpuBuffer,
}

/// Named tensors that live from run to run.
#[derive(Debug)]
pub struct Parameters {
    gpu: Arc<Gpu>,
    seed: u64,
    tensors: BTreeMap<String, StoredTensor>,
}

impl Parameters {
    /// An empty store; `seed` decides the first values of what graphs add to it.
    pub fn new(gpu: Arc<Gpu>, seed: u64) -> Self {
        Self {
            gpu,
            seed,
            tensors: BTreeMap::new(),
        }
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Makes sure that every parameter and state of `graph` is there; new ones start as their [`super::Init`] says, from
    /// a random stream of their own, so that adding a layer does not change the start of the others.
    ///
    /// # Errors
    /// [`GraphError::StoredShape`] where one is there with another shape; the device's errors.
    pub fn ensure(&mut self, graph: &Graph) -> Result<(), GraphError> {
        for (_, value) in graph.values() {
            let (Role::Parameter(init) | Role::State(init)) = &value.role else {
                continue;
            };
            match self.tensors.get(&value.name) {
                Some(found) if found.shape == value.shape => {}
                Some(found) => {
                    return Err(GraphError::StoredShape {
                        name: value.name.clone(),
                        expected: value.shape,
                        found: found.shape,
                    });
                }
                None => {
                    let data = init.fill(value.shape, &mut stream(self.seed, &value.name));
                    self.insert(&value.name, value.shape, &data)?;
                }
            }
        }
        Ok(())
    }

    /// Sets a tensor, making it where it is new.
    ///
    /// # Errors
    /// [`GraphError::DataSize`] or [`GraphError::StoredShape`] where the sizes differ; the device's errors.
    pub fn insert(&mut self, name: &str, shape: Shape, data: &[f32]) -> Result<(), GraphError> {
        if data.len() != shape.len() {
            return Err(GraphError::DataSize {
                name: name.to_owned(),
                expected: shape,
                found: data.len(),
            });
        }
        let buffer = match self.tensors.get(name) {
            Some(t) if t.shape == shape => t.buffer.clone(),
            Some(t) => {
                return Err(GraphError::StoredShape {
                    name: name.to_owned(),
                    expected: t.shape,
                    found: shape,
                });
            }
            None => self.gpu.create_storage(name, 4 * shape.len() as u64)?,
        };
        self.gpu.write(&buffer, bytemuck::cast_slice(data));
        let tensor = StoredTensor { shape, buffer };
        self.tensors.insert(name.to_owned(), tensor);
        Ok(())
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// All names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Reads one tensor back.
    ///
    /// # Errors
    /// [`GraphError::UnknownName`]; the device's errors.
    pub async fn read(&self, name: &str) -> Result<HostTensor, GraphError> {
        let tensor = self.get(name).ok_or_else(|| GraphError::UnknownName {
            what: "parameter",
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })?;
        let bytes = self
            .gpu
            .read(&tensor.buffer, 4 * tensor.shape.len() as u64)
            .await?;
        Ok(HostTensor {
            shape: tensor.shape,
            data: bytemuck::pod_collect_to_vec(&bytes),
        })
    }
}

/// A random stream that depends on the seed and the name alone.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(Fnv::of(name.as_bytes()));
    rng
}

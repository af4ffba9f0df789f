//! Operators against the f64 reference, on the device.

mod activation;
mod attention;
mod border;
mod conv;
mod conv_coop;
mod conv_lattices;
mod conv_pytorch;
mod conv_streamed;
mod conv_weight_grad;
mod dropout;
mod elementwise;
#[path = "../fixtures/loader.rs"]
mod fixtures;
mod gram;
mod harness;
mod kernels;
mod layer_norm;
mod layout;
mod loss;
mod matmul;
mod norm;
mod norm_layers;
mod norm_style;
mod optim;
mod parts;
mod parts_conv;
mod pool;
mod resample;
mod softmax;

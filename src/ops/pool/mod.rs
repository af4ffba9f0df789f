//! Pooling: largest value or mean of a window, mean of a channel.

mod average;
mod global;
mod max;
mod window;

pub use average::{AvgPool, AvgPoolBackward, avg_pool};
pub use global::{GlobalAvgPool, GlobalAvgPoolBackward, global_avg_pool};
pub use max::{MaxPool, MaxPoolBackward, max_pool};
pub use window::Window;

use crate::gpu::{Constants, DeviceProfile, Kernel};
use crate::ops::Operand;
use crate::param_block;

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [max::kernels(), average::kernels(), global::kernels()].concat()
}

param_block!(
    /// Of any window: the operand on the side of the input and the one on the side of the windows.
    WindowParams {
        in_offset: u32,
        in_batch: u32,
        out_offset: u32,
        out_batch: u32,
        per_sample: u32,
        in_d: u32,
        in_h: u32,
        in_w: u32,
        out_d: u32,
        out_h: u32,
        out_w: u32,
        kernel_d: u32,
        kernel_h: u32,
        kernel_w: u32,
        stride_d: u32,
        stride_h: u32,
        stride_w: u32,
        padding_d: u32,
        padding_h: u32,
        padding_w: u32,
    }
);

impl WindowParams {
    /// `elements` a sample are computed, one an invocation.
    fn new(window: &Window, x: &Operand, y: &Operand, elements: usize) -> Self {
        let [in_d, in_h, in_w] = x.shape.spatial().map(|v| v as u32);
        let [out_d, out_h, out_w] = y.shape.spatial().map(|v| v as u32);
        let [kernel_d, kernel_h, kernel_w] = window.kernel.map(|v| v as u32);
        let [stride_d, stride_h, stride_w] = window.stride.map(|v| v as u32);
        let [padding_d, padding_h, padding_w] = window.padding.map(|v| v as u32);
        Self {
            in_offset: x.offset,
            in_batch: x.batch_stride,
            out_offset: y.offset,
            out_batch: y.batch_stride,
            per_sample: elements as u32,
            in_d,
            in_h,
            in_w,
            out_d,
            out_h,
            out_w,
            kernel_d,
            kernel_h,
            kernel_w,
            stride_d,
            stride_h,
            stride_w,
            padding_d,
            padding_h,
            padding_w,
        }
    }
}

param_block!(
    /// Of windows of 2 side by side; everything but `rows` counts vectors of four.
    PairsParams {
        in_offset: u32,
        in_batch: u32,
        out_offset: u32,
        out_batch: u32,
        per_sample: u32,
        rows: u32,
        columns: u32,
    }
);

impl PairsParams {
    fn new(x: &Operand, y: &Operand) -> Self {
        let [_, rows, width] = y.shape.spatial();
        Self {
            in_offset: x.offset / 4,
            in_batch: x.batch_stride / 4,
            out_offset: y.offset / 4,
            out_batch: y.batch_stride / 4,
            per_sample: (y.shape.per_sample() / 4) as u32,
            rows: rows as u32,
            columns: (width / 4) as u32,
        }
    }
}

/// The variants that can be forced: the kernels for any window, which keeps those for windows of 2 away.
pub const VARIANTS: [&str; 1] = [ANY_WINDOW];
const ANY_WINDOW: &str = "generic";

/// Whether the kernels for windows of 2 run.
/// `operands` begins with the one on the side of the input.
fn use_pairs(device: &DeviceProfile, window: &Window, operands: &[&Operand]) -> bool {
    device.forced("pool") != Some(ANY_WINDOW) && window.fits_pairs(operands)
}

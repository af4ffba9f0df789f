//! Cooperative matrices: which products of them an adapter has, and their extents in the text of a kernel.
//!
//! wgpu has them by Vulkan's `VK_KHR_cooperative_matrix` and by Metal's simdgroup matrices, as an experimental feature. WGSL
//! has types for squares of 8 and 16 alone, so other shapes that a driver offers (16x8x16 of NVIDIA, 8x16x16 of Intel)
//! cannot be written.

use crate::tensor::Element;

/// A product of square matrices that the invocations of a subgroup compute together, summed in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CooperativeMatrix {
    /// Rows and columns of each matrix, 8 or 16.
    pub edge: u32,
    /// What is multiplied.
    pub operands: Element,
}

/// The edges that WGSL can write.
const EDGES: [u32; 2] = [8, 16];

impl CooperativeMatrix {
    /// The product behind `found`, if kernels can use it.
    fn of(found: &wgpu::CooperativeMatrixProperties) -> Option<Self> {
        use wgpu::CooperativeScalarType as Scalar;
        let operands = match (found.ab_type, found.cr_type) {
            (Scalar::F32, Scalar::F32) => Element::F32,
            (Scalar::F16, Scalar::F32) => Element::F16,
            _ => return None,
        };
        let edge = found.m_size;
        let is_square = (found.n_size, found.k_size) == (edge, edge);
        (is_square && EDGES.contains(&edge)).then_some(Self { edge, operands })
    }
}

/// The products that kernels may use on `adapter`: f16 among them only where kernels may use f16 at all.
pub(super) fn usable(adapter: &wgpu::Adapter) -> Vec<CooperativeMatrix> {
    let features = adapter.features();
    if !features
        .contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP)
    {
        return Vec::new();
    }
    let listed = adapter.cooperative_matrix_properties();
    let mut found: Vec<_> = listed.iter().filter_map(CooperativeMatrix::of).collect();
    found.retain(|m| m.operands == Element::F32 || features.contains(wgpu::Features::SHADER_F16));
    found.sort_unstable();
    found.dedup();
    found
}

/// wgpu's token for its experimental features.
#[allow(unsafe_code)]
pub(super) fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: asks us to know that they may have bugs. Of these features only cooperative matrices are requested, and only
    // kernels that name them in their text are touched by them.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// The text with every cooperative matrix of the extents that its `const EDGE: u32 = …;` says: WGSL has them in the name of
/// the type, where no constant can stand. Kernels are written with 8 x 8.
pub(super) fn sized(source: &str) -> String {
    let edge = source
        .lines()
        .find_map(|line| line.strip_prefix("const EDGE: u32 = ")?.strip_suffix("u;"));
    match edge {
        Some(edge) => source.replace("coop_mat8x8<", &format!("coop_mat{edge}x{edge}<")),
        None => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use wgpu::CooperativeScalarType::{F16, F32, I32};

    use super::*;

    #[test]
    fn squares_summed_in_f32_are_usable() {
        let of = |(m_size, n_size, k_size), ab_type, cr_type| {
            CooperativeMatrix::of(&wgpu::CooperativeMatrixProperties {
                m_size,
                n_size,
                k_size,
                ab_type,
                cr_type,
                saturating_accumulation: false,
            })
        };
        let product = |edge, operands| Some(CooperativeMatrix { edge, operands });
        assert_eq!(of((8, 8, 8), F32, F32), product(8, Element::F32));
        assert_eq!(of((16, 16, 16), F16, F32), product(16, Element::F16));
        assert_eq!(of((16, 16, 16), F16, F16), None);
        assert_eq!(of((16, 8, 16), F16, F32), None);
        assert_eq!(of((8, 8, 8), I32, I32), None);
    }

    #[test]
    fn the_edge_of_the_specialisation_is_that_of_the_types() {
        let text = "const EDGE: u32 = 16u;\nalias A = coop_mat8x8<f32, A>;\n";
        assert!(sized(text).ends_with("alias A = coop_mat16x16<f32, A>;\n"));
        let other = "const SIDE: u32 = 16u;\nalias A = coop_mat8x8<f32, A>;\n";
        assert_eq!(sized(other), other);
    }
}

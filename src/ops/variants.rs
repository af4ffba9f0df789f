//! Which variants of kernels can be forced, and by which name.

use super::{attention, conv, loss, matmul, norm, pool};

/// The families whose kernels come in variants, with the names that [`crate::gpu::DeviceProfile::forced`] may hold.
pub const VARIANTS: [(&str, &[&str]); 6] = [
    ("attention", &attention::VARIANTS),
    ("conv", &conv::VARIANTS),
    ("loss", &loss::VARIANTS),
    ("matmul", &matmul::VARIANTS),
    ("norm", &norm::VARIANTS),
    ("pool", &pool::VARIANTS),
];

/// A family that has no variants, or not this one.
#[derive(Debug, thiserror::Error)]
#[error("no kernels are called {family}={variant}; known: {}", known())]
pub struct UnknownVariant {
    family: String,
    variant: String,
}

fn known() -> String {
    let families = VARIANTS.map(|(family, names)| format!("{family}={}", names.join("|")));
    families.join(", ")
}

/// Whether `variant` of `family` can be forced.
///
/// # Errors
/// [`UnknownVariant`], which lists those that can.
pub fn check_variant(family: &str, variant: &str) -> Result<(), UnknownVariant> {
    let names = VARIANTS.iter().find(|(name, _)| *name == family);
    if names.is_some_and(|(_, names)| names.contains(&variant)) {
        return Ok(());
    }
    Err(UnknownVariant {
        family: family.to_owned(),
        variant: variant.to_owned(),
    })
}

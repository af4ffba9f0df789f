//! What can go wrong with a device.

/// An error of the device layer. Each says what was expected, what was found and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter at all.
    #[error(
        "no GPU adapter found through Vulkan, Metal or DX12. Install a driver for your GPU; for software rendering on Debian or Ubuntu run `apt-get install mesa-vulkan-drivers`"
    )]
    NoAdapter,
    /// The adapter that was asked for is not there.
    #[error(
        "no adapter matches `{wanted}`. Found: {found}. Choose one with --adapter NAME|INDEX or VOXSEG_ADAPTER"
    )]
    NoSuchAdapter {
        /// The name or index that was asked for.
        wanted: String,
        /// The adapters there are.
        found: String,
    },
    /// The adapter refused to open.
    #[error(
        "adapter `{adapter}` could not be opened: {reason}. Close other programs that use it, choose another with --adapter, or update its driver"
    )]
    Open {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// A kernel was refused by naga or by the driver.
    #[error("kernel `{kernel}` does not compile: {reason}")]
    Shader {
        /// The kernel's name.
        kernel: String,
        /// The compiler's message.
        reason: String,
    },
    /// A kernel was given a constant that it does not declare.
    #[error("kernel `{kernel}` declares no `const {name}: u32`")]
    UnknownConstant {
        /// The kernel's name.
        kernel: &'static str,
        /// The constant's name.
        name: &'static str,
    },
    /// A buffer is larger than the device can bind.
    #[error(
        "`{what}` needs {bytes} bytes in one buffer, the limit of this device is {limit}. Use a smaller patch, a smaller batch or fewer features"
    )]
    BufferTooLarge {
        /// The tensor or scratch space.
        what: String,
        /// The bytes it needs.
        bytes: u64,
        /// The largest binding of the device, in bytes.
        limit: u64,
    },
    /// The device has no memory left.
    #[error(
        "out of device memory while allocating {bytes} bytes for `{what}`. Close other programs that use this device, choose another with --adapter, train within a --memory-budget, or use a smaller patch, a smaller batch or fewer features"
    )]
    OutOfMemory {
        /// What was allocated.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// The device has no memory left for what it needs itself to run commands.
    #[error(
        "out of device memory while running: {0}. Close other programs that use this device, choose another with --adapter, or use a smaller patch, a smaller batch or fewer features; a training goes on from its last checkpoint with --resume"
    )]
    OutOfMemoryRunning(String),
    /// The device went away.
    #[error(
        "the device was lost: {0}. Run the command again, a training with --resume, which goes on from its last checkpoint; where it happens again, update the driver, choose another device with --adapter, or train on a smaller patch"
    )]
    Lost(String),
    /// The adapter cannot say how long a dispatch took.
    #[error(
        "this adapter cannot time dispatches (it has no timestamp queries inside passes). Leave out --profile, or choose another with --adapter"
    )]
    NoTimestamps,
    /// wgpu's validation found a mistake of ours.
    #[error("the device refused a command (a mistake in voxseg; please report it): {0}")]
    Validation(String),
}

impl GpuError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        matches!(
            self,
            Self::NoAdapter
                | Self::NoSuchAdapter { .. }
                | Self::Open { .. }
                | Self::BufferTooLarge { .. }
                | Self::OutOfMemory { .. }
                | Self::OutOfMemoryRunning(_)
                | Self::NoTimestamps
        )
    }

    /// [`GpuError::Open`]; some of wgpu's sentences end with a full stop, others do not.
    pub(super) fn open(adapter: &str, reason: &str) -> Self {
        Self::Open {
            adapter: adapter.to_owned(),
            reason: reason.trim_end_matches('.').to_owned(),
        }
    }

    /// An error of wgpu that no call waited for.
    pub(super) fn stray(error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { source } => Self::OutOfMemoryRunning(source.to_string()),
            wgpu::Error::Validation { description, .. } => Self::Validation(description),
            wgpu::Error::Internal { description, .. } => Self::Lost(description),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Box<dyn std::error::Error + Send + Sync> {
        "the driver's words".into()
    }

    #[test]
    fn an_adapter_that_does_not_open_is_the_users_to_mend() {
        for words in ["Not enough memory left", "Not enough memory left."] {
            let error = GpuError::open("llvmpipe", words);
            assert!(error.is_users_fault());
            let message = error.to_string();
            assert!(message.contains("memory left. Close"), "{message}");
        }
    }

    #[test]
    fn stray_errors_keep_their_kind_and_say_what_to_do() {
        let description = || "the driver's words".to_owned();
        let memory = GpuError::stray(wgpu::Error::OutOfMemory { source: source() });
        assert!(matches!(memory, GpuError::OutOfMemoryRunning(_)));
        assert!(memory.is_users_fault());
        assert!(memory.to_string().contains("smaller patch"), "{memory}");
        let lost = GpuError::stray(wgpu::Error::Internal {
            source: source(),
            description: description(),
        });
        assert!(matches!(lost, GpuError::Lost(_)));
        assert!(!lost.is_users_fault());
        assert!(lost.to_string().contains("--resume"), "{lost}");
        let ours = GpuError::stray(wgpu::Error::Validation {
            source: source(),
            description: description(),
        });
        assert!(matches!(ours, GpuError::Validation(_)));
        assert!(!ours.is_users_fault());
        assert!(ours.to_string().contains("report"), "{ours}");
        for error in [memory, lost, ours] {
            assert!(error.to_string().contains("the driver's words"), "{error}");
        }
    }
}

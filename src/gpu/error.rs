//! What can go wrong with a device.

/// An error of the device layer. Each says what was expected, what was found and what to do.
#[derive(Debug, thiserror::Error)]
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
        "adapter `{adapter}` could not be opened: {reason}. Choose another with --adapter, or update its driver"
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
        "out of device memory while allocating {bytes} bytes for `{what}`. Use a smaller patch, a smaller batch or fewer features"
    )]
    OutOfMemory {
        /// What was allocated.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// The device went away.
    #[error(
        "the device was lost: {0}. Resume from the last checkpoint with --resume; where it happens again, lower the patch size"
    )]
    Lost(String),
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
                | Self::BufferTooLarge { .. }
                | Self::OutOfMemory { .. }
        )
    }
}

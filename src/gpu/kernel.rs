//! A kernel: its WGSL text, what it binds, and the specialisation of its constants.

use super::GpuError;
use super::matrices::sized;
use super::stored::store_as;
use super::unroll::unroll;
use crate::tensor::Element;

/// How a kernel uses a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// One field of a parameter block: (name, byte offset, bytes).
pub type Field = (&'static str, usize, usize);

/// A kernel as it lies in `shaders/`, with the Rust side's view of its interface.
///
/// Binding 0 of group 0 is the uniform block `params`; the storage buffers follow from binding 1 in the
/// order of `access`. The entry point is `main`. A test reflects each file with naga and compares.
///
/// The kernels of this library are compiled without the bounds checks that wgpu adds; one made by [`Kernel::new`] keeps
/// them.
#[derive(Debug)]
pub struct Kernel {
    /// Family and file, `"activation/forward"` for `shaders/activation/forward.wgsl`.
    pub name: &'static str,
    /// The WGSL text.
    pub source: &'static str,
    /// The layout of the parameter block.
    pub params: &'static [Field],
    /// The storage buffers from binding 1 on.
    pub access: &'static [Access],
    workgroup: Option<usize>,
    /// Whether it is a file of `shaders/`; neither public nor copied, so that nobody outside can say so of his own text.
    shipped: bool,
}

/// A kernel of this library, from the file of `shaders/` that has its name.
macro_rules! shipped_kernel {
    { name: $name:literal, params: $params:expr, access: $access:expr $(,)? } => {
        $crate::gpu::Kernel::shipped(
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
            $params,
            $access,
        )
    };
}
pub(crate) use shipped_kernel;

/// A specialisation: values for named `const NAME: u32 = default;` lines, and components for `alias NAME = f32;` lines
/// (4 makes it `vec4<f32>`), so that a kernel and its vec4 twin are one file.
pub type Constants = Vec<(&'static str, u32)>;

impl Kernel {
    /// A kernel from outside this library: its loads, stores and loops are checked when it runs.
    pub const fn new(
        name: &'static str,
        source: &'static str,
        params: &'static [Field],
        access: &'static [Access],
    ) -> Self {
        Self {
            name,
            source,
            params,
            access,
            workgroup: workgroup_of(source),
            shipped: false,
        }
    }

    /// Invocations of a workgroup, as the text says; `None` where a constant of the specialisation does.
    pub const fn workgroup(&self) -> Option<usize> {
        self.workgroup
    }

    /// For [`shipped_kernel`] alone, which takes nothing but files of `shaders/`.
    pub(crate) const fn shipped(
        name: &'static str,
        source: &'static str,
        params: &'static [Field],
        access: &'static [Access],
    ) -> Self {
        Self {
            shipped: true,
            ..Self::new(name, source, params, access)
        }
    }

    /// Whether it is one of this library's own.
    pub fn is_shipped(&self) -> bool {
        self.shipped
    }

    /// The WGSL text with `constants` in place of the defaults, storage buffers that hold `elements` (from binding 1 on;
    /// those beyond the list hold f32) and marked loops unrolled; where `wide`, with every vec4 of a storage buffer
    /// moved in words of 64 bits, for adapters that pay by the access.
    ///
    /// # Errors
    /// [`GpuError::UnknownConstant`] where the file has no `const NAME: u32 = …;` or `alias NAME = f32;` line;
    /// [`GpuError::Shader`] where a loop marked `// unroll` cannot be unrolled, or a buffer cannot be stored so.
    pub fn specialise(
        &self,
        constants: &[(&'static str, u32)],
        elements: &[Element],
        wide: bool,
    ) -> Result<String, GpuError> {
        let mut lines: Vec<String> = self.source.lines().map(str::to_owned).collect();
        for &(name, value) in constants {
            let (constant, alias) = (format!("const {name}: u32 = "), format!("alias {name} = "));
            let line = lines
                .iter_mut()
                .find(|l| l.starts_with(&constant) || **l == format!("{alias}f32;"))
                .ok_or(GpuError::UnknownConstant {
                    kernel: self.name,
                    name,
                })?;
            *line = match (line.starts_with(&constant), value) {
                (true, _) => format!("{constant}{value}u;"),
                (false, 1) => format!("{alias}f32;"),
                (false, _) => format!("{alias}vec{value}<f32>;"),
            };
        }
        let text = sized(&(lines.join("\n") + "\n"));
        let text = store_as(self.name, &text, elements, wide)?;
        unroll(self.name, &text)
    }
}

/// The number in `@workgroup_size(number)`, which is written there alone.
const fn workgroup_of(source: &str) -> Option<usize> {
    const MARK: &[u8] = b"@workgroup_size(";
    let text = source.as_bytes();
    let mut start = 0;
    while start + MARK.len() < text.len() {
        let mut same = 0;
        while same < MARK.len() && text[start + same] == MARK[same] {
            same += 1;
        }
        if same == MARK.len() {
            return number_before_bracket(text, start + same);
        }
        start += 1;
    }
    None
}

const fn number_before_bracket(text: &[u8], start: usize) -> Option<usize> {
    let (mut number, mut at) = (0, start);
    while at < text.len() && text[at].is_ascii_digit() {
        number = 10 * number + (text[at] - b'0') as usize;
        at += 1;
    }
    match number > 0 && at < text.len() && text[at] == b')' {
        true => Some(number),
        false => None,
    }
}

/// A parameter block whose byte layout can be compared with the WGSL struct.
pub trait ParamBlock: bytemuck::Pod {
    /// Its fields in order.
    const FIELDS: &'static [Field];
}

/// Declares the Rust twin of a kernel's `struct Params` (scalars of 4 bytes only).
#[macro_export]
macro_rules! param_block {
    ($(#[$meta:meta])* $vis:vis $name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($field: $ty),* }
        impl $crate::gpu::ParamBlock for $name {
            const FIELDS: &'static [$crate::gpu::Field] = &[
                $((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$ty>())),*
            ];
        }
    };
}

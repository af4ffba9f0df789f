//! The activation functions, as an attribute of the operators that apply one.

/// A function applied element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// max(z, 0).
    Relu,
    /// z where z > 0, else slope * z.
    LeakyRelu {
        /// Negative slope.
        slope: f32,
    },
    /// min(max(z, 0), 6).
    Relu6,
    /// z * min(max(z + 3, 0), 6) / 6 (Howard et al. 2019, MobileNetV3).
    HardSwish,
    /// Leaky ReLU with a trained slope for each channel (He et al. 2015); takes the slopes as an input of C values.
    Prelu,
    /// min(max(z + 3, 0), 6) / 6.
    HardSigmoid,
    /// 1 / (1 + exp(-z)).
    Sigmoid,
    /// z * Phi(z), Phi the distribution of the normal numbers (Hendrycks and Gimpel 2016); PyTorch's `gelu`.
    Gelu,
    /// z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 z^3))): PyTorch's `gelu` with `approximate="tanh"`.
    GeluTanh,
    /// z where z > 0, else exp(z) - 1 (Clevert et al. 2016, with alpha = 1).
    Elu,
}

impl Activation {
    /// One of each, for the lists of specialisations.
    pub const ALL: [Self; 10] = [
        Self::Relu,
        Self::LeakyRelu { slope: 0.01 },
        Self::Relu6,
        Self::HardSwish,
        Self::Prelu,
        Self::HardSigmoid,
        Self::Sigmoid,
        Self::Gelu,
        Self::GeluTanh,
        Self::Elu,
    ];

    /// The constant `KIND` of the kernels; 0 is no activation.
    pub const fn kind(self) -> u32 {
        match self {
            Self::Relu => 1,
            Self::LeakyRelu { .. } => 2,
            Self::Relu6 => 3,
            Self::HardSwish => 4,
            Self::Prelu => 5,
            Self::HardSigmoid => 6,
            Self::Sigmoid => 7,
            Self::Gelu => 8,
            Self::GeluTanh => 9,
            Self::Elu => 10,
        }
    }

    /// The fixed negative slope; 0 where there is none.
    pub const fn slope(self) -> f32 {
        match self {
            Self::LeakyRelu { slope } => slope,
            _ => 0.0,
        }
    }

    /// Whether it takes the slopes as an input.
    pub const fn takes_slope(self) -> bool {
        matches!(self, Self::Prelu)
    }
}

//! One random body: which tissue lies at a point.
//!
//! Positions are in mm with the origin in the middle of the body, x to its right, y to its front, z
//! to its head; the body is made for a field of view of [`FIELD_OF_VIEW_MM`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::smooth::{SmoothField, Vector, random_direction};
use super::solid::{Ellipsoid, Rotation, Solid, bezier};

/// Edge of the cube that the anatomy is designed for, in mm.
pub(super) const FIELD_OF_VIEW_MM: f64 = 96.0;

/// What a point is made of. Several tissues share an intensity, so that intensity alone does not
/// tell the organs from what surrounds them.
#[derive(Clone, Copy)]
pub(super) enum Tissue {
    Air,
    Fat,
    Muscle,
    Viscera,
    Bone,
    /// Loops that look like liver.
    Bowel,
    /// Nodes that look like the cortex of a kidney.
    Node,
    /// Cysts that look like a vessel cut across.
    Cyst,
    Liver,
    Cortex,
    Medulla,
    Blood,
}

impl Tissue {
    pub const COUNT: usize = 12;

    /// Every tissue, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Air,
        Self::Fat,
        Self::Muscle,
        Self::Viscera,
        Self::Bone,
        Self::Bowel,
        Self::Node,
        Self::Cyst,
        Self::Liver,
        Self::Cortex,
        Self::Medulla,
        Self::Blood,
    ];

    /// The class that the tissue belongs to; 0 is background.
    pub fn label(self) -> u32 {
        match self {
            Self::Liver => 1,
            Self::Cortex | Self::Medulla => 2,
            Self::Blood => 3,
            _ => 0,
        }
    }

    /// Mean signal in a body without bias field, in scanner units.
    pub fn signal(self) -> f64 {
        match self {
            Self::Air => 0.0,
            Self::Fat => 45.0,
            Self::Viscera => 78.0,
            Self::Muscle => 96.0,
            Self::Liver | Self::Bowel | Self::Medulla => 108.0,
            Self::Cortex | Self::Node => 138.0,
            Self::Bone => 150.0,
            Self::Blood | Self::Cyst => 165.0,
        }
    }
}

/// Parts in the order in which they are painted: a later one covers an earlier one.
pub(super) struct Anatomy {
    parts: Vec<(Tissue, Solid)>,
    warp: [SmoothField; 3],
    attitude: Rotation,
    centre: Vector,
    scale: f64,
}

/// How far the pose of the body strays.
const BODY_TILT: f64 = 0.14;
const BODY_SHIFT_MM: f64 = 4.0;
/// Standard deviation of the deformation along each axis.
const WARP_MM: f64 = 1.8;

impl Anatomy {
    /// Draws a body whose pose, proportions and clutter are random. `scale` is its size relative to
    /// the designed one.
    pub fn random(rng: &mut ChaCha8Rng, scale: f64) -> Self {
        let mut parts = torso(rng);
        let organs = organs(rng);
        parts.extend(clutter(rng, &organs));
        parts.extend(organs);
        Self {
            parts,
            warp: std::array::from_fn(|_| SmoothField::random(rng, 6, 45.0..100.0, WARP_MM)),
            attitude: tilt(rng, BODY_TILT),
            centre: jitter(rng, [0.0; 3], BODY_SHIFT_MM),
            scale: scale * rng.random_range(0.92..1.06),
        }
    }

    /// How far the deformation moves what lies around `position`.
    pub fn displacement(&self, position: Vector) -> Vector {
        let at = position.map(|x| x / self.scale);
        std::array::from_fn(|axis| self.warp[axis].at(at))
    }

    /// The tissue at `position`, given the displacement there, which varies so slowly that one
    /// serves a whole voxel.
    pub fn tissue(&self, position: Vector, displacement: Vector) -> Tissue {
        let centred: Vector = std::array::from_fn(|axis| position[axis] - self.centre[axis]);
        let upright = self.attitude.undo(centred);
        let point = std::array::from_fn(|axis| upright[axis] / self.scale + displacement[axis]);
        let mut from_the_top = self.parts.iter().rev();
        from_the_top
            .find(|(_, solid)| solid.contains(point))
            .map_or(Tissue::Air, |(tissue, _)| *tissue)
    }
}

fn jitter(rng: &mut ChaCha8Rng, centre: Vector, by: f64) -> Vector {
    centre.map(|x| x + rng.random_range(-by..by))
}

fn tilt(rng: &mut ChaCha8Rng, by: f64) -> Rotation {
    Rotation::from_angles(jitter(rng, [0.0; 3], by))
}

/// Half axes that vary by a sixth, each by itself.
fn grow(rng: &mut ChaCha8Rng, radii: Vector) -> Vector {
    radii.map(|r| r * rng.random_range(0.86..1.16))
}

/// Skin fat, the muscle of the wall, the cavity, the spine and the muscles beside it.
fn torso(rng: &mut ChaCha8Rng) -> Vec<(Tissue, Solid)> {
    let wall = rng.random_range(3.0..5.0);
    let fat = rng.random_range(2.5..5.0);
    let column = |less: f64| Solid::Column {
        centre: [0.0, 0.0],
        radii: [46.0 - less, 41.0 - less],
    };
    let round = |x: f64, y: f64, radii: [f64; 2]| Solid::Column {
        centre: [x, y],
        radii,
    };
    let spine = rng.random_range(-28.0..-25.0);
    vec![
        (Tissue::Fat, column(0.0)),
        (Tissue::Muscle, column(fat)),
        (Tissue::Viscera, column(fat + wall)),
        (Tissue::Muscle, round(12.0, spine - 3.0, [8.0, 6.0])),
        (Tissue::Muscle, round(-12.0, spine - 3.0, [8.0, 6.0])),
        (Tissue::Bone, round(0.0, spine, [7.5, 6.0])),
    ]
}

/// The labelled organs.
fn organs(rng: &mut ChaCha8Rng) -> Vec<(Tissue, Solid)> {
    let mut parts = vec![(Tissue::Liver, liver(rng))];
    for side in [1.0, -1.0] {
        parts.extend(kidney(rng, side));
    }
    parts.push((Tissue::Blood, vessel(rng)));
    parts
}

/// A large ellipsoid on the right with a deep hollow below and towards the middle, and a notch.
fn liver(rng: &mut ChaCha8Rng) -> Solid {
    let whole = Ellipsoid {
        centre: jitter(rng, [15.0, 7.0, 7.0], 3.0),
        radii: grow(rng, [22.0, 20.0, 29.0]),
        attitude: tilt(rng, 0.25),
    };
    let hollow = Ellipsoid {
        centre: whole.point(jitter(rng, [-0.55, -0.5, -0.6], 0.12)),
        radii: grow(rng, [16.0, 15.0, 18.0]),
        attitude: tilt(rng, 0.4),
    };
    let notch = Ellipsoid {
        centre: whole.point(jitter(rng, [-0.25, 0.95, -0.2], 0.12)),
        radii: grow(rng, [4.5, 11.0, 16.0]),
        attitude: tilt(rng, 0.4),
    };
    Solid::Carved {
        whole,
        bites: vec![hollow, notch],
    }
}

/// A bean: cortex around medulla, the hilum facing the spine. `side` is +1 on the right.
fn kidney(rng: &mut ChaCha8Rng, side: f64) -> [(Tissue, Solid); 2] {
    let lean = jitter(rng, [0.2, 0.15 * side, -0.3 * side], 0.15);
    let whole = Ellipsoid {
        centre: jitter(rng, [22.0 * side, -17.5, -11.0 - 2.0 * side], 2.5),
        radii: grow(rng, [10.5, 9.5, 17.0]),
        attitude: Rotation::from_angles(lean),
    };
    let hilum = Ellipsoid::ball(whole.point([-side, 0.1, 0.0]), 5.5);
    let carved = |whole: Ellipsoid| Solid::Carved {
        whole,
        bites: vec![hilum],
    };
    [
        (Tissue::Cortex, carved(whole)),
        (Tissue::Medulla, carved(whole.scaled(0.55))),
    ]
}

/// A bent tube that climbs in front of the spine and turns to the left front.
fn vessel(rng: &mut ChaCha8Rng) -> Solid {
    let bends = [
        jitter(rng, [2.0, -9.0, -64.0], 2.0),
        jitter(rng, [-6.0, -14.0, -18.0], 4.0),
        jitter(rng, [10.0, -7.0, 44.0], 4.0),
        jitter(rng, [-24.0, 13.0, 28.0], 4.0),
    ];
    Solid::Tube {
        points: bezier(bends, 14),
        radius: rng.random_range(5.2..6.4),
    }
}

/// Things that share the intensity of an organ, put where no organ is.
fn clutter(rng: &mut ChaCha8Rng, organs: &[(Tissue, Solid)]) -> Vec<(Tissue, Solid)> {
    let kinds = [
        (Tissue::Bowel, 14, [6.0, 10.0]),
        (Tissue::Node, 9, [4.5, 6.5]),
        (Tissue::Cyst, 9, [3.5, 5.5]),
    ];
    let mut parts = Vec::new();
    for (tissue, count, [smallest, largest]) in kinds {
        for _ in 0..count {
            let size = rng.random_range(smallest..largest);
            let blob = Ellipsoid {
                centre: place_in_cavity(rng),
                radii: grow(rng, [size; 3]),
                attitude: tilt(rng, 1.5),
            };
            if keeps_clear(rng, &blob, organs) {
                let bites = Vec::new();
                parts.push((tissue, Solid::Carved { whole: blob, bites }));
            }
        }
    }
    parts
}

fn place_in_cavity(rng: &mut ChaCha8Rng) -> Vector {
    let angle = rng.random_range(0.0..std::f64::consts::TAU);
    let share = rng.random::<f64>().sqrt();
    let height = FIELD_OF_VIEW_MM / 2.0;
    [
        33.0 * share * angle.cos(),
        28.0 * share * angle.sin() + 1.0,
        rng.random_range(-height..height),
    ]
}

/// Whether a blob leaves every organ free, by a shell of points around it.
fn keeps_clear(rng: &mut ChaCha8Rng, blob: &Ellipsoid, organs: &[(Tissue, Solid)]) -> bool {
    let around = blob.scaled(1.2);
    let shell = (0..60).map(|_| around.point(random_direction(rng, 1.0)));
    let points: Vec<Vector> = shell.chain([blob.centre]).collect();
    let touches = |(_, organ): &(Tissue, Solid)| points.iter().any(|&p| organ.contains(p));
    !organs.iter().any(touches)
}

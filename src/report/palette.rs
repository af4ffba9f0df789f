//! Colours that stay apart for colour-blind readers.

/// Red, green, blue, 0 to 255.
pub type Colour = [u8; 3];

/// The qualitative palette of Okabe and Ito (Color Universal Design, 2008) without its black.
const OKABE_ITO: [Colour; 7] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
];

/// Colour of class number `class`; the seven colours repeat.
pub fn class_colour(class: usize) -> Colour {
    OKABE_ITO[class % OKABE_ITO.len()]
}

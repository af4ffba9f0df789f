use image::{Rgb, RgbImage};
use voxseg::metrics::{Class, Grid};
use voxseg::report::picture::{PictureCase, PictureError, picture_of_cases, write_picture};

use crate::shapes::{cuboid, grid, labels};

const ORANGE: Rgb<u8> = Rgb([230, 159, 0]);
const SKY: Rgb<u8> = Rgb([86, 180, 233]);

/// 4 slices of 20 x 40 voxels of 2 x 1 mm; class 1 in slice 2 and, smaller, in slice 3.
struct Example {
    grid: Grid,
    image: Vec<f32>,
    truth: Vec<u16>,
    prediction: Vec<u16>,
}

impl Example {
    fn new() -> Self {
        let shape = [4, 20, 40];
        let large = labels(&cuboid(shape, [2, 5, 10], [3, 15, 30]), 1);
        let small = labels(&cuboid(shape, [3, 5, 10], [4, 7, 12]), 1);
        Self {
            grid: grid(shape, [5.0, 2.0, 1.0]),
            image: (0..4 * 20 * 40).map(|i| (i % 40) as f32).collect(),
            truth: large.iter().zip(&small).map(|(a, b)| a | b).collect(),
            prediction: labels(&cuboid(shape, [2, 0, 0], [3, 4, 40]), 2),
        }
    }

    fn case(&self) -> PictureCase<'_, u16> {
        PictureCase {
            name: "case_7",
            image: &self.image,
            truth: &self.truth,
            prediction: Some(&self.prediction),
            grid: self.grid,
            dice: Some(0.5),
            rows_upwards: false,
        }
    }
}

fn classes() -> [Class; 2] {
    [Class::new("organ", [1]), Class::new("tumour", [2])]
}

/// Pixels of a colour inside a box, as (count, smallest x, largest x, smallest y, largest y).
fn extent(picture: &RgbImage, x: std::ops::Range<u32>, ink: Rgb<u8>) -> [u32; 5] {
    let legend = picture.height() - 22;
    let hits = picture.enumerate_pixels();
    let hits = hits.filter(|(px, py, p)| x.contains(px) && *py < legend && **p == ink);
    hits.fold(
        [0, u32::MAX, 0, u32::MAX, 0],
        |[n, x0, x1, y0, y1], (x, y, _)| [n + 1, x0.min(x), x1.max(x), y0.min(y), y1.max(y)],
    )
}

/// Panels are 288 x 288 pixels (40 x 1 mm by 20 x 2 mm), 8 apart, below two lines of text of 22.
const PANEL: u32 = 288;
const TOP: u32 = 8 + 22 + 22;

fn column(i: u32) -> std::ops::Range<u32> {
    let left = 8 + i * (PANEL + 8);
    left..left + PANEL
}

#[test]
fn the_overlay_lies_where_the_labels_are() {
    let example = Example::new();
    let picture = picture_of_cases(&[example.case()], &classes()).unwrap();
    assert_eq!(extent(&picture, column(0), ORANGE)[0], 0);
    // Rows 5..15 of 20 and columns 10..30 of 40 of the slice with the most truth.
    let [count, x0, x1, y0, y1] = extent(&picture, column(1), ORANGE);
    assert!(count > 4 * 140);
    let left = column(1).start;
    assert_eq!([x0 - left, x1 - left], [PANEL / 4, PANEL * 3 / 4 - 1]);
    assert_eq!([y0 - TOP, y1 - TOP], [PANEL / 4, PANEL * 3 / 4 - 1]);
    assert_eq!(extent(&picture, column(1), SKY)[0], 0);
    // The prediction has the second class in rows 0..4, over the whole width.
    assert_eq!(extent(&picture, column(2), ORANGE)[0], 0);
    let [_, x0, x1, _, y1] = extent(&picture, column(2), SKY);
    assert_eq!([x0, x1], [column(2).start, column(2).end - 1]);
    assert_eq!(y1 - TOP, PANEL.div_ceil(5) - 1);
}

#[test]
fn inside_the_contour_the_image_shows_through() {
    let example = Example::new();
    let picture = picture_of_cases(&[example.case()], &classes()).unwrap();
    let middle = |i: u32| *picture.get_pixel(column(i).start + PANEL / 2, TOP + PANEL / 2);
    let (grey, tinted) = (middle(0), middle(1));
    assert_eq!((grey[0], grey[0]), (grey[1], grey[2]));
    assert!(
        (100..156).contains(&grey[0]),
        "half way along a ramp, {grey:?}"
    );
    assert_ne!(tinted, grey);
    assert_ne!(tinted, ORANGE);
}

#[test]
fn rows_upwards_turns_image_and_overlay_over_together() {
    let example = Example::new();
    let case = PictureCase {
        rows_upwards: true,
        ..example.case()
    };
    let picture = picture_of_cases(&[case], &classes()).unwrap();
    let [_, _, _, y0, y1] = extent(&picture, column(2), SKY);
    assert_eq!([y0 - TOP, y1 - TOP], [PANEL - PANEL.div_ceil(5), PANEL - 1]);
}

#[test]
fn images_without_numbers_foreground_or_prediction_still_show() {
    let example = Example::new();
    let nothing = vec![0u16; example.truth.len()];
    let odd = vec![f32::NAN; example.truth.len()];
    let case = PictureCase {
        image: &odd,
        truth: &nothing,
        prediction: None,
        dice: None,
        ..example.case()
    };
    let picture = picture_of_cases(&[case, example.case()], &classes()).unwrap();
    assert_eq!(
        *picture.get_pixel(column(0).start + 5, TOP + 5),
        Rgb([0; 3])
    );
}

#[test]
fn bad_input_is_refused_with_the_name_of_the_case() {
    let none: [PictureCase<'_, u16>; 0] = [];
    assert!(matches!(
        picture_of_cases(&none, &classes()),
        Err(PictureError::NoCase)
    ));
    let example = Example::new();
    let case = PictureCase {
        image: &example.image[1..],
        ..example.case()
    };
    let refused = picture_of_cases(&[case], &classes())
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "case 'case_7': image: 3199 voxels where shape [4, 20, 40] has 3200"
    );
}

#[test]
fn the_file_is_a_png_of_the_picture() {
    let example = Example::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/cases.png");
    write_picture(&path, &[example.case()], &classes()).unwrap();
    let read = image::open(&path).unwrap().to_rgb8();
    assert_eq!(
        read,
        picture_of_cases(&[example.case()], &classes()).unwrap()
    );
}

use voxseg::postprocess::{Connectivity, fill_holes, keep_largest};

/// Rows of digits as labels of one slice.
fn slice(rows: &[&str]) -> (Vec<u32>, [usize; 3]) {
    let digits = rows.iter().flat_map(|row| row.chars());
    let labels = digits.map(|digit| digit.to_digit(10).unwrap()).collect();
    (labels, [1, rows.len(), rows[0].len()])
}

#[test]
fn only_the_largest_component_stays_and_other_labels_with_it() {
    let (mut labels, shape) = slice(&["1102", "1001", "0001"]);
    let removed = keep_largest(&mut labels, shape, &[1], Connectivity::Faces).unwrap();
    assert_eq!(removed, 2);
    assert_eq!(labels, slice(&["1102", "1000", "0000"]).0);
}

#[test]
fn labels_that_belong_together_are_one_component() {
    let (mut labels, shape) = slice(&["1102", "1002", "0001"]);
    let removed = keep_largest(&mut labels, shape, &[1, 2], Connectivity::Faces).unwrap();
    assert_eq!(removed, 3, "the first of two equals stays");
    let (mut joined, shape) = slice(&["1122", "1002", "0001"]);
    assert_eq!(
        keep_largest(&mut joined, shape, &[1, 2], Connectivity::Faces),
        Ok(0)
    );
}

#[test]
fn nothing_to_keep_is_nothing_to_do() {
    let (mut labels, shape) = slice(&["20", "02"]);
    assert_eq!(
        keep_largest(&mut labels, shape, &[1], Connectivity::Corners),
        Ok(0)
    );
    assert_eq!(labels, [2, 0, 0, 2]);
}

#[test]
fn a_hole_is_background_enclosed_by_one_label() {
    let (mut labels, shape) = slice(&[
        "0000000", //
        "0111100", //
        "0100100", //
        "0110100", //
        "0111110", //
        "0000000",
    ]);
    assert_eq!(fill_holes(&mut labels, shape, 1), Ok(3));
    let filled = [
        "0000000", "0111100", "0111100", "0111100", "0111110", "0000000",
    ];
    assert_eq!(labels, slice(&filled).0);
}

#[test]
fn what_is_open_or_shared_or_labelled_is_no_hole() {
    for unchanged in [
        ["11111", "10111", "10111", "10111"],
        ["11111", "11211", "12021", "11211"],
        ["11111", "11021", "11111", "11111"],
        ["11111", "13331", "13331", "11111"],
    ] {
        let (mut labels, shape) = slice(&unchanged);
        assert_eq!(fill_holes(&mut labels, shape, 1), Ok(0), "{unchanged:?}");
        assert_eq!(labels, slice(&unchanged).0);
    }
}

/// A ring closed in its slice is open along the depth axis of a 3D image.
#[test]
fn a_tunnel_is_no_hole_but_a_cavity_is() {
    let ring = slice(&["1111", "1001", "1111"]).0;
    let lid = vec![1; 12];
    let mut tunnel = ring.repeat(3);
    assert_eq!(fill_holes(&mut tunnel, [3, 3, 4], 1), Ok(0));
    let mut cavity = [lid.clone(), ring, lid].concat();
    assert_eq!(fill_holes(&mut cavity, [3, 3, 4], 1), Ok(2));
    assert_eq!(cavity, [1; 36]);
}

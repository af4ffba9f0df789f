//! Images are resized as PyTorch does, bilinear with antialiasing.

use voxseg::dataset::antialiased;

#[test]
fn rows_shrink_and_grow_as_in_pytorch() {
    let row = [0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 36.0];
    // torch.nn.functional.interpolate(x, mode="bilinear", antialias=True).
    let expected: [&[f32]; 3] = [
        &[1.28571, 9.94118, 27.0],
        &[0.61905, 4.8, 15.84, 30.33333],
        &[
            0.0, 0.55, 1.75, 3.85, 7.25, 11.45, 16.45, 22.75, 29.95, 36.0,
        ],
    ];
    for wanted in expected {
        let along_w = antialiased(&row, [1, 1, 7], [1, 1, wanted.len()]);
        let along_h = antialiased(&row, [1, 7, 1], [1, wanted.len(), 1]);
        for found in [along_w, along_h] {
            let near = |(f, w): (&f32, &f32)| (f - w).abs() < 2e-5;
            assert!(found.iter().zip(wanted).all(near), "{found:?}, {wanted:?}");
        }
    }
    let both = antialiased(&[1.0, 3.0, 5.0, 7.0], [1, 2, 2], [1, 1, 1]);
    assert_eq!(both, [4.0]);
}

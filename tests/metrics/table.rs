use voxseg::table::{Align, Table};

#[test]
fn columns_align_whatever_the_cells_hold() {
    let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
    table
        .row(["µm", "1000"])
        .rule()
        .row(["a\nb", "2", "dropped"])
        .row(["short"]);
    assert_eq!(
        table.to_string(),
        "name      n\n-----  ----\nµm     1000\n-----  ----\na b       2\nshort\n"
    );
}

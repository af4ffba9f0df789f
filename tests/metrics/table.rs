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

#[test]
fn a_column_without_a_name_has_no_rule_and_one_without_cells_leaves_no_blanks() {
    let columns = [("", Align::Left), ("n", Align::Right), ("", Align::Left)];
    let mut table = Table::new(&columns);
    table.row(["*", "1"]).rule().row(["", "22"]);
    assert_eq!(table.to_string(), "    n\n   --\n*   1\n   --\n   22\n");
    table.row(["", "3", "why"]);
    assert_eq!(
        table.to_string(),
        "    n\n   --\n*   1\n   --\n   22\n    3  why\n"
    );
}

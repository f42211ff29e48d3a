//! Columns that line up.

/// Returns rows as lines, each cell as wide as the widest of its column.
pub(super) fn table(rows: &[impl AsRef<[String]>]) -> String {
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let width = |column: usize| {
        rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .as_ref()
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Returns a figure as people read it.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e9 {
        format!("{value:.0}")
    } else if (1e-3..1e6).contains(&size) {
        let digits = 4 - (size.log10().floor() as i32).clamp(-3, 4);
        format!("{value:.*}", digits.unsigned_abs() as usize)
    } else {
        format!("{value:.4e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bc", "d"], ["efg", "h", ""]].map(|row| row.map(str::to_owned));

        assert_eq!(table(&rows), "a    bc  d\nefg  h\n");
    }

    #[test]
    fn figures_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (12.0, "12"),
            (26.123_456, "26.123"),
            (0.012_345_678, "0.012346"),
            (123_456.789, "123457"),
            (1.5e-9, "1.5000e-9"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}

//! Shares with their confidence intervals, one row for each group, as SVG.

use std::fmt::Write;

use super::page::{escape, open_svg};

const WIDTH: f64 = 400.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const ROW: f64 = 20.0;
const BOTTOM: f64 = 38.0;

/// A share of the events of one group.
#[derive(Clone, Debug)]
pub(crate) struct IntervalRow {
    /// What the group is called.
    pub(crate) name: String,
    /// The share, and the ends of its interval.
    pub(crate) share: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Shares of groups beside the share that they should have.
#[derive(Clone, Debug)]
pub(crate) struct IntervalChart {
    /// What the shares are.
    pub(crate) x_label: String,
    /// The share that every group should have.
    pub(crate) expected: f64,
    /// The groups, from the top.
    pub(crate) rows: Vec<IntervalRow>,
}

impl IntervalChart {
    /// Draws the chart.
    pub(crate) fn to_svg(&self) -> String {
        let bottom = TOP + ROW * self.rows.len() as f64;
        let mut svg = open_svg(WIDTH, bottom + BOTTOM);
        for tick in 0..=4 {
            let share = f64::from(tick) / 4.0;
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{share}</text>",
                bottom + 15.0,
                x = x(share),
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"line reference dashed\" d=\"M{:.1} {TOP}V{bottom}\"/>",
            x(self.expected)
        );
        for (index, row) in self.rows.iter().enumerate() {
            let y = TOP + ROW * (index as f64 + 0.5);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <path class=\"line estimate\" d=\"M{:.1} {y:.1}H{:.1}\"/>\
                 <circle class=\"fill-estimate\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\"/>",
                LEFT - 8.0,
                y + 4.0,
                escape(&row.name),
                x(row.low),
                x(row.high),
                x(row.share)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></svg>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            bottom + BOTTOM - 7.0,
            escape(&self.x_label)
        );
        svg
    }
}

fn x(share: f64) -> f64 {
    LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_stands_between_its_ends() {
        let row = IntervalRow { name: "a & b".to_owned(), share: 0.5, low: 0.25, high: 1.0 };
        let chart = IntervalChart { x_label: "share".to_owned(), expected: 0.9, rows: vec![row] };

        let svg = chart.to_svg();

        // Of 276 units from 110 on: a quarter is at 179, half at 248, all at 386.
        assert!(svg.contains("M179.0 20.0H386.0"), "{svg}");
        assert!(svg.contains("cx=\"248.0\" cy=\"20.0\""), "{svg}");
        assert!(svg.contains("a &amp; b"), "{svg}");
    }
}

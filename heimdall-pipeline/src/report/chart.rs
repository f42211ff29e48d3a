//! Charts as SVG: lines over two axes.

use std::fmt::Write;

use super::page::{escape, open_svg};

// On a phone a unit is about a pixel, so that text is as large as around the chart.
const WIDTH: f64 = 400.0;
const PLOT_HEIGHT: f64 = 200.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 42.0;
/// Height of a row of the legend.
const LEGEND_ROW: f64 = 17.0;
/// Names side by side in the legend.
const LEGEND_COLUMNS: usize = 2;

/// One line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What the line shows, for the legend.
    pub(crate) name: String,
    /// Class of the page's style that colors it, such as `estimate` or `reference dashed`.
    pub(crate) class: &'static str,
    /// Points from left to right, in the units of the axes.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over two linear axes that start at zero.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// Quantity and unit of the horizontal axis.
    pub(crate) x_label: String,
    /// Quantity and unit of the vertical axis.
    pub(crate) y_label: String,
    /// Right end of the horizontal axis; what lies beyond is cut off.
    pub(crate) x_max: f64,
    /// Upper end of the vertical axis.
    pub(crate) y_max: f64,
    /// The lines.
    pub(crate) series: Vec<Series>,
}

impl Chart {
    /// Draws the chart.
    pub(crate) fn to_svg(&self) -> String {
        let mut svg = open_svg(WIDTH, self.height());
        self.draw_axes(&mut svg);
        for series in &self.series {
            let _ = writeln!(
                svg,
                "<polyline class=\"line {}\" points=\"{}\"/>",
                series.class,
                self.path(&series.points)
            );
        }
        self.draw_legend(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    /// Upper end of the plot: the legend stands above it.
    fn top(&self) -> f64 {
        14.0 + LEGEND_ROW * self.series.len().div_ceil(LEGEND_COLUMNS) as f64
    }

    fn height(&self) -> f64 {
        self.top() + PLOT_HEIGHT + BOTTOM
    }

    fn draw_axes(&self, svg: &mut String) {
        let (top, bottom, right) = (self.top(), self.top() + PLOT_HEIGHT, WIDTH - RIGHT);
        for tick in ticks(self.x_max) {
            let x = self.x(tick);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>");
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                label(tick)
            );
        }
        for tick in ticks(self.y_max) {
            let y = self.y(tick);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                label(tick)
            );
        }
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {top}V{bottom}H{right}\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            self.height() - 8.0,
            escape(&self.x_label)
        );
        let middle = f64::midpoint(top, bottom);
        let _ = writeln!(
            svg,
            "<text transform=\"translate(13 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(&self.y_label)
        );
    }

    fn draw_legend(&self, svg: &mut String) {
        let step = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
        for (index, series) in self.series.iter().enumerate() {
            let x = LEFT + step * (index % LEGEND_COLUMNS) as f64;
            let y = 16.0 + LEGEND_ROW * (index / LEGEND_COLUMNS) as f64;
            let _ = writeln!(
                svg,
                "<path class=\"line {}\" d=\"M{x:.1} {:.1}h18\"/><text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                series.class,
                y - 4.0,
                x + 24.0,
                escape(&series.name)
            );
        }
    }

    /// The points as SVG writes them; the line ends where it leaves the chart on the right.
    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        let mut previous: Option<(f64, f64)> = None;
        for &(x, y) in points {
            let (x, y) = match previous {
                Some((x0, y0)) if x > self.x_max && x > x0 => {
                    let share = ((self.x_max - x0) / (x - x0)).max(0.0);
                    (self.x_max, y0 + share * (y - y0))
                }
                _ => (x, y),
            };
            let _ = write!(path, "{:.1},{:.1} ", self.x(x), self.y(y));
            if x >= self.x_max {
                break;
            }
            previous = Some((x, y));
        }
        path
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value / self.x_max).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top() + PLOT_HEIGHT * (1.0 - (value / self.y_max).clamp(0.0, 1.0))
    }
}

/// Round values from zero to `max`, four to ten of them.
pub(crate) fn ticks(max: f64) -> Vec<f64> {
    let step = round_step(max / 4.0);
    // Half a step of slack keeps the last one despite rounding; the count is at most ten.
    let count = (max / step + 1e-9).floor() as usize;
    (0..=count).map(|index| index as f64 * step).collect()
}

/// The largest of 1, 2 and 5 times a power of ten that is not above `step`.
pub(crate) fn round_step(step: f64) -> f64 {
    let magnitude = 10_f64.powf(step.log10().floor());
    let digit = [5.0, 2.0, 1.0].into_iter().find(|digit| digit * magnitude <= step * 1.000_001);
    digit.unwrap_or(1.0) * magnitude
}

/// A tick's number without trailing zeros.
fn label(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        assert_eq!(
            ticks(1.0).iter().map(|&t| label(t)).collect::<Vec<_>>(),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            ticks(90.0).iter().map(|&t| label(t)).collect::<Vec<_>>(),
            ["0", "20", "40", "60", "80"]
        );
    }

    /// Half of the way from 50 to 150 lies at 100, where the axis ends: half of the way up, too.
    #[test]
    fn line_ends_where_it_leaves_the_chart() {
        let chart = Chart {
            x_label: String::new(),
            y_label: String::new(),
            x_max: 100.0,
            y_max: 1.0,
            series: Vec::new(),
        };

        let path = chart.path(&[(0.0, 0.0), (50.0, 0.0), (150.0, 1.0), (200.0, 1.0)]);

        let points: Vec<&str> = path.split_whitespace().collect();
        assert_eq!(points.len(), 3);
        assert_eq!(points[2], format!("{:.1},{:.1}", WIDTH - RIGHT, chart.y(0.5)));
    }
}

//! A map of the local plane as SVG: receivers, truths, estimates and ellipses.

use std::fmt::Write;

use heimdall_geo::LocalPosition;

use super::chart::round_step;
use super::page::{escape, open_svg};

// On a phone a unit is about a pixel, as in charts.
const WIDTH: f64 = 400.0;
const MARGIN: f64 = 20.0;

/// What is drawn where; north is up, and a kilometer is as long to the east as to the north.
#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    /// Places with a name.
    pub(crate) receivers: Vec<(String, LocalPosition)>,
    /// True positions.
    pub(crate) truths: Vec<LocalPosition>,
    /// True positions that are drawn faintly, without an estimate.
    pub(crate) faint_truths: Vec<LocalPosition>,
    /// Estimated positions.
    pub(crate) estimates: Vec<LocalPosition>,
    /// Outlines of regions.
    pub(crate) ellipses: Vec<Vec<LocalPosition>>,
    /// Places that are not drawn, but must lie on the map.
    pub(crate) shown: Vec<LocalPosition>,
    /// Lines from a truth to its estimate.
    pub(crate) errors: Vec<(LocalPosition, LocalPosition)>,
}

/// Where the name of a receiver stands.
struct Label {
    x: f64,
    y: f64,
    width: f64,
}

/// The corners of what is shown, and the scale.
struct View {
    west_km: f64,
    north_km: f64,
    pixels_per_km: f64,
    height: f64,
}

impl View {
    fn x(&self, place: &LocalPosition) -> f64 {
        MARGIN + (place.east_km - self.west_km) * self.pixels_per_km
    }

    fn y(&self, place: &LocalPosition) -> f64 {
        MARGIN + (self.north_km - place.north_km) * self.pixels_per_km
    }
}

impl Map {
    /// Draws the map.
    pub(crate) fn to_svg(&self) -> String {
        let view = self.view();
        let mut svg = open_svg(WIDTH, view.height);
        for outline in &self.ellipses {
            let points: String = outline
                .iter()
                .map(|place| format!("{:.1},{:.1} ", view.x(place), view.y(place)))
                .collect();
            let _ = writeln!(svg, "<polygon class=\"thin ellipse\" points=\"{points}\"/>");
        }
        for (truth, estimate) in &self.errors {
            let _ = writeln!(
                svg,
                "<path class=\"thin reference\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
                view.x(truth),
                view.y(truth),
                view.x(estimate),
                view.y(estimate)
            );
        }
        for (places, radius, opacity, class) in [
            (&self.faint_truths, 1.5, 0.35, "fill-truth"),
            (&self.truths, 3.0, 1.0, "fill-truth"),
            (&self.estimates, 2.5, 1.0, "fill-estimate"),
        ] {
            for place in places {
                let _ = writeln!(
                    svg,
                    "<circle class=\"{class}\" opacity=\"{opacity}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"/>",
                    view.x(place),
                    view.y(place)
                );
            }
        }
        self.draw_receivers(&view, &mut svg);
        draw_scale(&view, &mut svg);
        svg.push_str("</svg>");
        svg
    }

    fn draw_receivers(&self, view: &View, svg: &mut String) {
        let mut labels: Vec<Label> = Vec::new();
        for (name, place) in &self.receivers {
            let (x, y) = (view.x(place), view.y(place));
            let _ = writeln!(
                svg,
                "<path class=\"fill-receiver\" d=\"M{x:.1} {:.1}l6 10h-12z\"/>",
                y - 6.0
            );
            // Letters are about half as wide as they are high.
            let width = 6.0 * name.chars().count() as f64;
            let start_x =
                if x + 9.0 + width < WIDTH { x + 9.0 } else { (x - 9.0 - width).max(0.0) };
            // Neighbors would write over each other: the later one moves down, or up at the border.
            let steps = (0..100).map(|step| y + 4.0 + 12.0 * f64::from(step));
            let steps = steps.take_while(|label_y| *label_y < view.height - 14.0);
            let upwards = (1..100).map(|step| y + 4.0 - 12.0 * f64::from(step));
            let is_free = |label_y: &f64| {
                labels.iter().all(|other: &Label| {
                    (other.y - label_y).abs() >= 12.0
                        || other.x + other.width < start_x
                        || start_x + width < other.x
                })
            };
            let label_y = steps.chain(upwards).find(is_free).unwrap_or(y + 4.0);
            labels.push(Label { x: start_x, y: label_y, width });
            let _ = writeln!(
                svg,
                "<text class=\"name\" x=\"{start_x:.1}\" y=\"{label_y:.1}\">{}</text>",
                escape(name)
            );
        }
    }

    /// Everything but the ellipses decides what is shown: a huge region is cut at the border.
    fn view(&self) -> View {
        let places = || {
            let receivers = self.receivers.iter().map(|(_, place)| place);
            let dots = self.truths.iter().chain(&self.faint_truths).chain(&self.estimates);
            receivers.chain(dots).chain(&self.shown)
        };
        let bounds = |coordinate: fn(&LocalPosition) -> f64| {
            let low = places().map(coordinate).fold(f64::INFINITY, f64::min);
            let high = places().map(coordinate).fold(f64::NEG_INFINITY, f64::max);
            if low <= high { (low, high) } else { (0.0, 0.0) }
        };
        let (west_km, east_km) = bounds(|place| place.east_km);
        let (south_km, north_km) = bounds(|place| place.north_km);
        // A single point still gets a kilometer around it; a thin map at least a third of a width.
        let width_km = (east_km - west_km).max(1.0);
        let height_km = (north_km - south_km).max(width_km / 3.0);
        let pixels_per_km = (WIDTH - 2.0 * MARGIN) / width_km;
        View {
            west_km,
            north_km: f64::midpoint(north_km, south_km) + height_km / 2.0,
            pixels_per_km,
            height: height_km * pixels_per_km + 2.0 * MARGIN,
        }
    }
}

fn draw_scale(view: &View, svg: &mut String) {
    let length_km = round_step(90.0 / view.pixels_per_km);
    let (y, end) = (view.height - 10.0, WIDTH - MARGIN);
    let start = end - length_km * view.pixels_per_km;
    let _ = writeln!(
        svg,
        "<path class=\"axis\" d=\"M{start:.1} {y:.1}H{end:.1}\"/>\
         <text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{length_km} km</text>",
        start - 6.0,
        y + 4.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 km of width fill 360 units; a point in the middle of it stands in the middle.
    #[test]
    fn north_is_up_and_scales_are_equal() {
        let place = |east_km, north_km| LocalPosition { east_km, north_km };
        let map = Map {
            truths: vec![place(0.0, 0.0), place(100.0, 50.0), place(50.0, 25.0)],
            ..Map::default()
        };

        let view = map.view();

        assert!((view.x(&place(50.0, 25.0)) - WIDTH / 2.0).abs() < 1e-9);
        assert!((view.y(&place(50.0, 25.0)) - view.height / 2.0).abs() < 1e-9);
        assert!(view.y(&place(0.0, 50.0)) < view.y(&place(0.0, 0.0)));
        assert!((view.height - (180.0 + 2.0 * MARGIN)).abs() < 1e-9);
    }
}

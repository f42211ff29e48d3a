//! The likelihood on a grid over the region, and the places on it where a search should start.

use std::f64::consts::TAU;

use super::DelaySolverConfig;
use super::model::DelayModel;
use crate::GeoError;
use crate::LocalFrame;
use crate::LocalPosition;
use crate::Position;
use crate::Region;
use crate::WGS84_SEMI_MAJOR_AXIS_KM;

/// Points of the grid from each side of the region to the other, at least.
const POINTS_MIN: f64 = 32.0;
/// Points of the grid, at most.
const POINTS_MAX: f64 = 1e6;
/// Searches that start on each of the two maps of the likelihood, at most.
const STARTS_MAX: usize = 32;

/// Circles around each receiver on which a search starts.
const CIRCLES: i32 = 8;
/// Points that are compared on each of them.
const CIRCLE_POINTS: usize = 12;

/// Finds the points of a grid over the region from which the position should be searched.
///
/// They are the best local minima of χ² on two maps. On the first one, a grid step of travel time
/// is added to the timing errors: valleys are then wider than the grid, and none is overlooked. The
/// second one is the true χ²: it shows two valleys apart that the first one has merged.
///
/// Travel times have a kink at each receiver, around which valleys are as narrow as the transmitter
/// is near. So the best points of circles around the receivers are added, from the distance of two
/// grid points inwards by halves.
pub(super) fn starts(
    model: &DelayModel,
    region: &Region,
    config: &DelaySolverConfig,
) -> Result<Vec<Position>, GeoError> {
    let grid = Grid::over(region, config.grid_km)?;
    let blur_s = grid.step_km / 2.0 / model.speed_km_s;
    let blurred_model = model.with_timing_floor(model.timing_floor_s.hypot(blur_s));

    let points = grid.rows * grid.columns;
    let (mut blurred, mut sharp) = (Vec::with_capacity(points), Vec::with_capacity(points));
    for point in 0..points {
        let travel_s = model.travel_s(&grid.position(region, point));
        blurred.push(blurred_model.chi_squared(&travel_s));
        sharp.push(model.chi_squared(&travel_s));
    }

    let mut starts = valleys(&blurred, grid.columns);
    starts.extend(valleys(&sharp, grid.columns));
    starts.sort_unstable();
    starts.dedup();
    let mut starts: Vec<Position> =
        starts.into_iter().map(|point| grid.position(region, point)).collect();
    for &receiver in model.receivers() {
        starts.extend((0..CIRCLES).filter_map(|halvings| {
            let radius_km = grid.step_km * 0.5_f64.powi(halvings);
            best_of_circle(model, region, receiver, radius_km)
        }));
    }
    Ok(starts)
}

/// Finds the point with the smallest χ² on the part of a circle that lies in the region.
fn best_of_circle(
    model: &DelayModel,
    region: &Region,
    center: Position,
    radius_km: f64,
) -> Option<Position> {
    let frame = LocalFrame { origin: center };
    let points = (0..CIRCLE_POINTS).filter_map(|point| {
        let (sin, cos) = (TAU * point as f64 / CIRCLE_POINTS as f64).sin_cos();
        let local = LocalPosition { east_km: radius_km * sin, north_km: radius_km * cos };
        // A circle of a coarse grid may leave the hemisphere.
        let position = frame.to_position(&local).ok()?;
        region
            .contains(&position)
            .then(|| (position, model.chi_squared(&model.travel_s(&position))))
    });
    points.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(position, _)| position)
}

/// Points at the centers of equal cells of a region, row by row from the south-west.
struct Grid {
    rows: usize,
    columns: usize,
    /// Largest side of a cell, in km.
    step_km: f64,
}

impl Grid {
    /// Lays a grid with cells of at most `grid_km` over the region.
    fn over(region: &Region, grid_km: f64) -> Result<Self, GeoError> {
        let degree_km = WGS84_SEMI_MAJOR_AXIS_KM.to_radians();
        let (south_deg, north_deg) =
            (region.south_west.latitude_deg(), region.north_east.latitude_deg());
        // The widest parallel is the one nearest to the equator.
        let widest_deg = 0_f64.clamp(south_deg, north_deg);
        let height_km = degree_km * region.height_deg();
        let width_km = degree_km * region.width_deg() * widest_deg.to_radians().cos();

        let rows = (height_km / grid_km).ceil().max(POINTS_MIN);
        let columns = (width_km / grid_km).ceil().max(POINTS_MIN);
        if rows * columns > POINTS_MAX {
            return Err(GeoError::InvalidConfig {
                field: "grid_km",
                expected: "coarse enough for at most a million points in the region",
                actual: grid_km,
            });
        }
        let step_km = (height_km / rows).max(width_km / columns);
        // Both are whole numbers below a million.
        Ok(Self { rows: rows as usize, columns: columns as usize, step_km })
    }

    /// The position of a point.
    fn position(&self, region: &Region, point: usize) -> Position {
        let (row, column) = (point / self.columns, point % self.columns);
        region
            .at((row as f64 + 0.5) / self.rows as f64, (column as f64 + 0.5) / self.columns as f64)
    }
}

/// Finds the points of a map that are not above any of their eight neighbors: the lowest ones of
/// them, if they are many.
fn valleys(map: &[f64], columns: usize) -> Vec<usize> {
    let rows = map.len() / columns;
    let is_valley = |&point: &usize| {
        let (row, column) = (point / columns, point % columns);
        let near_rows = row.saturating_sub(1)..=(row + 1).min(rows - 1);
        let mut neighbors = near_rows.flat_map(|near_row| {
            let near_columns = column.saturating_sub(1)..=(column + 1).min(columns - 1);
            near_columns.map(move |near_column| near_row * columns + near_column)
        });
        neighbors.all(|neighbor| map[point] <= map[neighbor])
    };
    let mut valleys: Vec<usize> = (0..map.len()).filter(is_valley).collect();
    valleys.sort_by(|&a, &b| map[a].total_cmp(&map[b]));
    valleys.truncate(STARTS_MAX);
    valleys
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two valleys, the second one at the border and lower.
    #[test]
    fn valleys_are_found_lowest_first() {
        #[rustfmt::skip]
        let map = [
            4.0, 5.0, 6.0, 7.0,
            5.0, 3.0, 5.0, 6.0,
            6.0, 5.0, 6.0, 4.0,
            7.0, 6.0, 4.0, 1.0,
        ];

        assert_eq!(valleys(&map, 4), [15, 5]);
    }

    #[test]
    fn grid_covers_the_region_evenly() {
        let corner = |latitude, longitude| Position::new(latitude, longitude).unwrap();
        let region = Region::new(corner(45.0, 0.0), corner(55.0, 16.0)).unwrap();

        let grid = Grid::over(&region, 20.0).unwrap();

        // 10° of latitude are 1113 km, 16° of longitude at 45° are 1259 km.
        assert_eq!((grid.rows, grid.columns), (56, 63));
        assert!(grid.step_km <= 20.0 && grid.step_km > 19.5, "{} km", grid.step_km);
        let last = grid.position(&region, 56 * 63 - 1);
        assert!((last.latitude_deg() - (55.0 - 5.0 / 56.0)).abs() < 1e-9, "{last:?}");
        assert!((last.longitude_deg() - (16.0 - 8.0 / 63.0)).abs() < 1e-9, "{last:?}");
    }

    #[test]
    fn grid_without_end_is_refused() {
        let corner = |latitude, longitude| Position::new(latitude, longitude).unwrap();
        let earth = Region::new(corner(-90.0, -180.0), corner(90.0, 180.0)).unwrap();

        let error = Grid::over(&earth, 1.0).err().unwrap();

        assert!(error.to_string().starts_with("`grid_km` must be coarse enough"), "{error}");
    }
}

//! A grid of cells in the plane, and a probability over it.

use serde::{Deserialize, Serialize};

use crate::Ambiguity;
use crate::Covariance;
use crate::Estimate;
use crate::GeoError;
use crate::LocalPosition;
use crate::Location;
use crate::NoFix;

/// Cells of a grid, at most.
const CELLS_MAX: f64 = 4e6;

/// The probability within the region by which a posterior is judged.
pub(crate) const REGION_PROBABILITY: f64 = 0.9;

/// Square cells that cover a rectangle of the plane, row by row from the south-west.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaneGrid {
    south_west: LocalPosition,
    cell_km: f64,
    rows: usize,
    columns: usize,
}

impl PlaneGrid {
    /// Covers the rectangle between two corners with cells of this side.
    ///
    /// The last row and column may reach beyond the north-east corner.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] if the north-east corner is not north-east of the other, or if
    /// the side of a cell is not positive or makes more than four million cells.
    pub fn new(
        south_west: LocalPosition,
        north_east: LocalPosition,
        cell_km: f64,
    ) -> Result<Self, GeoError> {
        let (width_km, height_km) =
            (north_east.east_km - south_west.east_km, north_east.north_km - south_west.north_km);
        for (field, actual) in
            [("width_km", width_km), ("height_km", height_km), ("cell_km", cell_km)]
        {
            if !(actual > 0.0 && actual.is_finite()) {
                return Err(GeoError::InvalidConfig {
                    field,
                    expected: "a positive number",
                    actual,
                });
            }
        }
        let (columns, rows) =
            ((width_km / cell_km).ceil().max(1.0), (height_km / cell_km).ceil().max(1.0));
        if rows * columns > CELLS_MAX {
            return Err(GeoError::InvalidConfig {
                field: "cell_km",
                expected: "coarse enough for at most four million cells",
                actual: cell_km,
            });
        }
        // Both are whole numbers below four million.
        Ok(Self { south_west, cell_km, rows: rows as usize, columns: columns as usize })
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.rows * self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Side of a cell, in km.
    pub fn cell_km(&self) -> f64 {
        self.cell_km
    }

    /// The center of a cell.
    pub fn center(&self, cell: usize) -> LocalPosition {
        let (row, column) = (cell / self.columns, cell % self.columns);
        LocalPosition {
            east_km: self.south_west.east_km + (column as f64 + 0.5) * self.cell_km,
            north_km: self.south_west.north_km + (row as f64 + 0.5) * self.cell_km,
        }
    }

    /// Whether a place lies in one of the cells.
    pub fn contains(&self, place: &LocalPosition) -> bool {
        self.contains_by(place, 0.0)
    }

    /// Whether a place lies in one of the cells, at least so many km from the border.
    pub(crate) fn contains_by(&self, place: &LocalPosition, margin_km: f64) -> bool {
        let within = |offset_km: f64, cells: usize| {
            (margin_km..=cells as f64 * self.cell_km - margin_km).contains(&offset_km)
        };
        within(place.east_km - self.south_west.east_km, self.columns)
            && within(place.north_km - self.south_west.north_km, self.rows)
    }

    /// The cell in which a place lies; none outside of all.
    pub(crate) fn cell_of(&self, place: &LocalPosition) -> Option<usize> {
        // Within the cells, where the grid contains the place; its outer border belongs to the last ones.
        let index =
            |offset_km: f64, cells: usize| ((offset_km / self.cell_km) as usize).min(cells - 1);
        self.contains(place).then(|| {
            let row = index(place.north_km - self.south_west.north_km, self.rows);
            let column = index(place.east_km - self.south_west.east_km, self.columns);
            row * self.columns + column
        })
    }

    /// The grid over some cells and one more on each side, with this many cells along its longer
    /// side.
    pub(crate) fn around(&self, cells: &[usize], count: f64) -> Self {
        let row = |cell: &usize| cell / self.columns;
        let column = |cell: &usize| cell % self.columns;
        let range = |of: &dyn Fn(&usize) -> usize| {
            let (low, high) = cells
                .iter()
                .map(of)
                .fold((usize::MAX, 0), |(low, high), index| (low.min(index), high.max(index)));
            (low as f64 - 1.0, high as f64 + 2.0)
        };
        let ((south, north), (west, east)) = (range(&row), range(&column));
        let cell_km = self.cell_km * (north - south).max(east - west) / count;
        // Counts of cells, at most a few thousand.
        let cells_of =
            |low: f64, high: f64| ((high - low) * self.cell_km / cell_km).ceil() as usize;
        Self {
            south_west: LocalPosition {
                east_km: self.south_west.east_km + west * self.cell_km,
                north_km: self.south_west.north_km + south * self.cell_km,
            },
            cell_km,
            rows: cells_of(south, north).max(1),
            columns: cells_of(west, east).max(1),
        }
    }

    /// Interpolates values of the cells at a place, linearly in both directions; beyond the centers
    /// of the outermost cells they are constant.
    pub(crate) fn interpolate(&self, values: &[f64], place: &LocalPosition) -> f64 {
        let at = |offset_km: f64, cells: usize| {
            let index = (offset_km / self.cell_km - 0.5).clamp(0.0, (cells - 1) as f64);
            // Within the cells, because of the clamp.
            let low = index as usize;
            (low, (low + 1).min(cells - 1), index - low as f64)
        };
        let (south, north, up) = at(place.north_km - self.south_west.north_km, self.rows);
        let (west, east, right) = at(place.east_km - self.south_west.east_km, self.columns);
        let row = |row: usize| {
            let (a, b) = (values[row * self.columns + west], values[row * self.columns + east]);
            between(a, b, right)
        };
        between(row(south), row(north), up)
    }

    /// The cells that touch a cell, diagonally too.
    pub(crate) fn neighbors(&self, cell: usize) -> impl Iterator<Item = usize> + use<> {
        let (rows, columns) = (self.rows, self.columns);
        let (row, column) = (cell / columns, cell % columns);
        let near_rows = row.saturating_sub(1)..=(row + 1).min(rows - 1);
        near_rows.flat_map(move |near_row| {
            let near_columns = column.saturating_sub(1)..=(column + 1).min(columns - 1);
            near_columns.map(move |near_column| near_row * columns + near_column)
        })
    }

    /// Groups the marked cells into those that touch each other.
    pub(crate) fn groups(&self, marked: &[bool]) -> Vec<Vec<usize>> {
        let mut open = marked.to_vec();
        let mut groups = Vec::new();
        for start in 0..open.len() {
            if !std::mem::take(&mut open[start]) {
                continue;
            }
            let mut group = vec![start];
            let mut next = 0;
            while let Some(&cell) = group.get(next) {
                next += 1;
                for neighbor in self.neighbors(cell) {
                    if std::mem::take(&mut open[neighbor]) {
                        group.push(neighbor);
                    }
                }
            }
            groups.push(group);
        }
        groups
    }
}

/// The value at a share of the way from one to another; minus infinity only where it has a part.
fn between(a: f64, b: f64, share: f64) -> f64 {
    if share <= 0.0 { a } else { (1.0 - share) * a + share * b }
}

/// The probability that a transmitter is in each cell of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct GridPosterior {
    grid: PlaneGrid,
    probability: Vec<f64>,
}

impl GridPosterior {
    /// Makes probabilities of logarithms of likelihoods, which may lack a common term.
    ///
    /// There is none if no likelihood is above zero, or one is not a number.
    ///
    /// # Shapes
    ///
    /// - `log_likelihood`: `[cells]`, in nats
    ///
    /// # Panics
    ///
    /// If the grid has another number of cells.
    pub fn from_log_likelihood(grid: PlaneGrid, mut log_likelihood: Vec<f64>) -> Option<Self> {
        assert_eq!(grid.cells(), log_likelihood.len(), "one likelihood belongs to each cell");
        let largest = log_likelihood.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !largest.is_finite() {
            return None;
        }
        let mut sum = 0.0;
        for value in &mut log_likelihood {
            *value = (*value - largest).exp();
            sum += *value;
        }
        // NaN is lost in the maximum, but not in the sum.
        if !sum.is_finite() {
            return None;
        }
        for value in &mut log_likelihood {
            *value /= sum;
        }
        Some(Self { grid, probability: log_likelihood })
    }

    /// The cells.
    pub fn grid(&self) -> &PlaneGrid {
        &self.grid
    }

    /// The probability of each cell; they add up to 1.
    pub fn probability(&self) -> &[f64] {
        &self.probability
    }

    /// Computes mean and covariance over some cells, taken as evenly filled squares.
    pub(crate) fn moments_of(&self, cells: impl Iterator<Item = usize> + Clone) -> Estimate {
        let mass: f64 = cells.clone().map(|cell| self.probability[cell]).sum();
        let mut mean = LocalPosition::default();
        for cell in cells.clone() {
            let (center, share) = (self.grid.center(cell), self.probability[cell] / mass);
            mean.east_km += share * center.east_km;
            mean.north_km += share * center.north_km;
        }
        let within_km2 = self.grid.cell_km.powi(2) / 12.0;
        let mut covariance =
            Covariance { east_km2: within_km2, east_north_km2: 0.0, north_km2: within_km2 };
        for cell in cells {
            let (center, share) = (self.grid.center(cell), self.probability[cell] / mass);
            let (east_km, north_km) =
                (center.east_km - mean.east_km, center.north_km - mean.north_km);
            covariance.east_km2 += share * east_km * east_km;
            covariance.east_north_km2 += share * east_km * north_km;
            covariance.north_km2 += share * north_km * north_km;
        }
        Estimate { position: mean, covariance }
    }

    /// Computes the mean, which minimizes the expected squared error, and the covariance.
    pub fn moments(&self) -> Estimate {
        self.moments_of(0..self.probability.len())
    }

    /// Marks the fewest cells that hold a probability together.
    pub fn smallest_region(&self, probability: f64) -> Vec<bool> {
        let mut order: Vec<usize> = (0..self.probability.len()).collect();
        order.sort_unstable_by(|&a, &b| self.probability[b].total_cmp(&self.probability[a]));
        let mut marked = vec![false; order.len()];
        let mut held = 0.0;
        for cell in order {
            if held >= probability {
                break;
            }
            held += self.probability[cell];
            marked[cell] = true;
        }
        marked
    }

    /// Judges the probability by the smallest region that holds 90 % of it.
    ///
    /// - If the region takes more than `share_max` of the grid, there is no fix.
    /// - If it falls apart, and another part holds at least `peak_ratio_min` of the probability of
    ///   the heaviest one, the answer is ambiguous: each such part is an alternative.
    /// - Else mean and covariance of the whole are the fix.
    pub fn location(&self, share_max: f64, peak_ratio_min: f64) -> Location {
        let region = self.smallest_region(REGION_PROBABILITY);
        if let Err(reason) = check_share(&region, share_max) {
            return Location::NoFix(reason);
        }
        let mass = |part: &Vec<usize>| part.iter().map(|&cell| self.probability[cell]).sum::<f64>();
        let mut parts: Vec<(f64, Vec<usize>)> =
            self.grid.groups(&region).into_iter().map(|part| (mass(&part), part)).collect();
        parts.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        parts.retain({
            let mass_min = peak_ratio_min * parts[0].0;
            move |(mass, _)| *mass >= mass_min
        });
        if parts.len() == 1 {
            return Location::Fix(self.moments());
        }
        let places = parts.iter().map(|(_, part)| self.moments_of(part.iter().copied()));
        Location::of(places.collect(), Ambiguity::Peaks, NoFix::Unexplained)
    }
}

/// Refuses a region that takes more than this share of the cells.
pub(crate) fn check_share(region: &[bool], share_max: f64) -> Result<(), NoFix> {
    let cells = region.iter().filter(|marked| **marked).count();
    let share = cells as f64 / region.len() as f64;
    if share > share_max { Err(NoFix::TooUncertain { share, share_max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(east_km: f64, north_km: f64) -> LocalPosition {
        LocalPosition { east_km, north_km }
    }

    /// 20 × 10 cells of 1 km from (100, −50).
    fn grid() -> PlaneGrid {
        PlaneGrid::new(local(100.0, -50.0), local(120.0, -40.0), 1.0).unwrap()
    }

    fn posterior(probability: impl Fn(LocalPosition) -> f64) -> GridPosterior {
        let grid = grid();
        let nats = (0..grid.cells()).map(|cell| probability(grid.center(cell)).ln()).collect();
        GridPosterior::from_log_likelihood(grid, nats).unwrap()
    }

    /// A Gaussian at a place, with these standard deviations.
    fn hill(place: LocalPosition, east_km: f64, north_km: f64) -> impl Fn(LocalPosition) -> f64 {
        move |at| {
            let east = (at.east_km - place.east_km) / east_km;
            let north = (at.north_km - place.north_km) / north_km;
            (-0.5 * (east * east + north * north)).exp()
        }
    }

    #[test]
    fn cells_are_counted_from_the_south_west() {
        let grid = grid();

        assert_eq!((grid.rows(), grid.columns(), grid.cells()), (10, 20, 200));
        assert!(grid.center(0).distance_km(&local(100.5, -49.5)) < 1e-12);
        assert!(grid.center(199).distance_km(&local(119.5, -40.5)) < 1e-12);
        assert!(grid.contains(&local(100.0, -40.0)) && !grid.contains(&local(99.9, -45.0)));
    }

    #[test]
    fn senseless_grid_is_refused_by_field() {
        let corner = local(0.0, 0.0);
        for (north_east, cell_km, field) in [
            (local(0.0, 1.0), 1.0, "width_km"),
            (local(1.0, -1.0), 1.0, "height_km"),
            (local(1.0, 1.0), 0.0, "cell_km"),
            (local(1.0, 1.0), 1e-4, "cell_km"),
            (local(f64::NAN, 1.0), 1.0, "width_km"),
        ] {
            let error = PlaneGrid::new(corner, north_east, cell_km).unwrap_err();

            assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
        }
    }

    /// Sums over cells of a Gaussian that is wider than they are equal the integrals, and squares of
    /// 1 km add 1 / 12 km².
    #[test]
    fn moments_of_a_hill_are_its_own() {
        let posterior = posterior(hill(local(108.3, -45.2), 1.5, 1.0));

        let estimate = posterior.moments();

        assert!(estimate.position.distance_km(&local(108.3, -45.2)) < 0.01, "{estimate:?}");
        let [east_km2, north_km2] = [1.5 * 1.5 + 1.0 / 12.0, 1.0 + 1.0 / 12.0];
        assert!((estimate.covariance.east_km2 - east_km2).abs() < 0.02, "{estimate:?}");
        assert!((estimate.covariance.north_km2 - north_km2).abs() < 0.02, "{estimate:?}");
    }

    #[test]
    fn two_hills_are_ambiguous_and_the_heavier_one_is_best() {
        let (west, east) =
            (hill(local(104.0, -45.0), 1.0, 1.0), hill(local(116.0, -44.0), 1.0, 1.0));
        let posterior = posterior(|at| 0.4 * west(at) + 0.6 * east(at));

        let Location::Ambiguous { best, alternatives, reason } = posterior.location(0.75, 0.25)
        else {
            panic!("{posterior:?}")
        };

        assert_eq!((alternatives.len(), reason), (1, Ambiguity::Peaks));
        assert!(best.position.distance_km(&local(116.0, -44.0)) < 0.1, "{best:?}");
        assert!(alternatives[0].position.distance_km(&local(104.0, -45.0)) < 0.1);
        assert_eq!(posterior.location(0.75, 0.9).status(), "fix");
    }

    #[test]
    fn even_probability_is_no_fix() {
        let location = posterior(|_| 1.0).location(0.75, 0.25);

        let Location::NoFix(NoFix::TooUncertain { share, .. }) = location else {
            panic!("{location:?}")
        };
        assert!((share - 0.9).abs() < 0.01, "{share}");
    }

    #[test]
    fn impossible_likelihoods_have_no_posterior() {
        let all = |value: f64| GridPosterior::from_log_likelihood(grid(), vec![value; 200]);

        assert!(all(f64::NEG_INFINITY).is_none());
        assert!(all(f64::NAN).is_none());
        assert!(all(-1e6).is_some());
    }

    #[test]
    fn smallest_region_holds_what_it_should() {
        let posterior = posterior(hill(local(110.0, -45.0), 1.5, 1.5));

        let region = posterior.smallest_region(0.9);

        let marked = || region.iter().zip(posterior.probability()).filter(|(marked, _)| **marked);
        let held: f64 = marked().map(|(_, probability)| probability).sum();
        assert!((0.9..0.92).contains(&held), "{held}");
        // The circle of 90 % has π · 4.605 · 1.5² = 32.6 km².
        assert!((30..37).contains(&marked().count()), "{}", marked().count());
    }

    #[test]
    fn plane_is_interpolated_exactly_and_held_at_the_border() {
        let grid = grid();
        let plane = |place: LocalPosition| 2.0 * place.east_km - place.north_km;
        let values: Vec<f64> = (0..grid.cells()).map(|cell| plane(grid.center(cell))).collect();

        for place in [local(103.21, -47.9), local(100.5, -40.5), local(119.5, -49.5)] {
            assert!((grid.interpolate(&values, &place) - plane(place)).abs() < 1e-9, "{place:?}");
        }
        let beyond = grid.interpolate(&values, &local(90.0, -45.5));
        assert!((beyond - plane(local(100.5, -45.5))).abs() < 1e-9, "{beyond}");
    }

    #[test]
    fn finer_grid_covers_its_cells_and_one_more() {
        let finer = grid().around(&[25, 26, 48], 10.0);

        // Columns 5 to 8 and rows 1 to 2, so columns 4 to 9 and rows 0 to 3 with the margin.
        assert!((finer.cell_km() - 0.6).abs() < 1e-12, "{finer:?}");
        assert!(finer.contains(&local(104.0, -50.0)) && finer.contains(&local(110.0, -46.0)));
        assert!(!finer.contains(&local(103.9, -49.0)) && !finer.contains(&local(110.1, -49.0)));
    }
}

//! Means and deviations of the training split, which the network holds and applies itself.

use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::config::invalid;

/// Means and deviations of levels and positions over the training split.
///
/// Levels go in as they are, positions come out in km: nobody outside of the network has to know
/// these numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardization {
    /// Mean level of each receiver, in dB; one for all of them where the backbone treats them alike.
    pub level_mean_db: Vec<f32>,
    /// Standard deviation of the level of each receiver, in dB, or one for all of them.
    pub level_deviation_db: Vec<f32>,
    /// Mean of the positions: east and north of the frame's origin, in km.
    pub position_mean_km: [f32; 2],
    /// Standard deviation of the positions to the east and to the north, in km.
    pub position_deviation_km: [f32; 2],
}

impl Standardization {
    /// Makes the standardization that changes nothing, for as many receivers as given.
    pub fn identity(receivers: usize) -> Self {
        Self {
            level_mean_db: vec![0.0; receivers],
            level_deviation_db: vec![1.0; receivers],
            position_mean_km: [0.0; 2],
            position_deviation_km: [1.0; 2],
        }
    }

    /// Checks the numbers of a network with so many rows of them.
    pub(crate) fn validate(&self, rows: usize) -> Result<(), ModelError> {
        let Self { level_mean_db, level_deviation_db, position_mean_km, position_deviation_km } =
            self;
        check_length("standardization.level_mean_db", level_mean_db, rows)?;
        check_length("standardization.level_deviation_db", level_deviation_db, rows)?;
        check_finite("standardization.level_mean_db", level_mean_db)?;
        check_finite("standardization.position_mean_km", position_mean_km)?;
        check_positive("standardization.level_deviation_db", level_deviation_db)?;
        check_positive("standardization.position_deviation_km", position_deviation_km)
    }
}

/// What a network must know of the inputs beside the levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideInputConfig {
    /// Where the receivers of the training split stand: east and north, in km.
    pub receivers_km: Vec<[f32; 2]>,
    /// Mean of each number of each receiver; one row for all where the backbone treats them alike.
    pub scalar_mean: Vec<Vec<f32>>,
    /// Standard deviation of each number of each receiver, or one row for all.
    pub scalar_deviation: Vec<Vec<f32>>,
}

impl SideInputConfig {
    /// Makes side inputs that are not scaled: so many receivers, all at the origin, with so many
    /// numbers each.
    pub fn identity(receivers: usize, scalars: usize) -> Self {
        Self {
            receivers_km: vec![[0.0; 2]; receivers],
            scalar_mean: vec![vec![0.0; scalars]; receivers],
            scalar_deviation: vec![vec![1.0; scalars]; receivers],
        }
    }

    /// Numbers of each receiver.
    pub fn scalars(&self) -> usize {
        self.scalar_mean.first().map_or(0, Vec::len)
    }

    /// Checks the numbers of a network of so many receivers, with so many rows of numbers.
    pub(crate) fn validate(&self, receivers: usize, rows: usize) -> Result<(), ModelError> {
        check_length("side_inputs.receivers_km", &self.receivers_km, receivers)?;
        for position_km in &self.receivers_km {
            check_finite("side_inputs.receivers_km", position_km)?;
        }
        let scalars = self.scalars();
        if scalars == 0 {
            return invalid("side_inputs.scalar_mean", "at least 1 number per receiver", scalars);
        }
        for (field, table) in [
            ("side_inputs.scalar_mean", &self.scalar_mean),
            ("side_inputs.scalar_deviation", &self.scalar_deviation),
        ] {
            check_length(field, table, rows)?;
            if let Some(row) = table.iter().find(|row| row.len() != scalars) {
                let expected = format!("{scalars} numbers for each receiver");
                return invalid(field, &expected, format!("{} for one", row.len()));
            }
        }
        for (mean, deviation) in self.scalar_mean.iter().zip(&self.scalar_deviation) {
            check_finite("side_inputs.scalar_mean", mean)?;
            check_positive("side_inputs.scalar_deviation", deviation)?;
        }
        Ok(())
    }
}

fn check_length<T>(field: &'static str, values: &[T], length: usize) -> Result<(), ModelError> {
    if values.len() == length {
        return Ok(());
    }
    let expected = match length {
        1 => "1 value".to_owned(),
        _ => format!("{length} values, one per input channel"),
    };
    invalid(field, &expected, format!("{} values", values.len()))
}

fn check_finite(field: &'static str, values: &[f32]) -> Result<(), ModelError> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => invalid(field, "finite", value),
        None => Ok(()),
    }
}

fn check_positive(field: &'static str, values: &[f32]) -> Result<(), ModelError> {
    match values.iter().find(|value| !value.is_normal() || **value < 0.0) {
        Some(value) => invalid(field, "finite and above zero", value),
        None => Ok(()),
    }
}

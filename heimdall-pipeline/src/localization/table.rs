//! The positions, as a table.

use heimdall_data::MeasuredEvent;
use heimdall_geo::Location;

use super::network::Network;
use crate::PipelineError;
use crate::output::OutputPlace;

/// Columns of the table.
const HEADER: [&str; 8] = [
    "event",
    "status",
    "latitude",
    "longitude",
    "var_east_km2",
    "cov_east_north_km2",
    "var_north_km2",
    "radius_90",
];

/// Probability that the circle of the last column holds.
const CIRCLE_PROBABILITY: f64 = 0.9;

/// Writes a line for each event: an empty one but for its status where there is no fix.
///
/// A file that is there is written over only when the new one is complete.
pub(super) fn write(
    place: &OutputPlace,
    network: &Network,
    events: &[MeasuredEvent],
    locations: &[Location],
) -> Result<(), PipelineError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let in_memory = "memory takes everything that is written";
    writer.write_record(HEADER).expect(in_memory);
    for (event, location) in events.iter().zip(locations) {
        let mut record = vec![event.id.clone(), location.status().to_owned()];
        match location.best() {
            None => record.resize(HEADER.len(), String::new()),
            Some(best) => {
                let (position, covariance) =
                    network.frame.carry(&best.position, &best.covariance)?;
                // A micrometer, and seven digits.
                let degrees = [position.latitude_deg(), position.longitude_deg()];
                record.extend(degrees.map(|degrees| format!("{degrees:.8}")));
                let variances = [
                    covariance.east_km2,
                    covariance.east_north_km2,
                    covariance.north_km2,
                    covariance.circle_radius_km(CIRCLE_PROBABILITY),
                ];
                record.extend(variances.map(|value| format!("{value:.6e}")));
            }
        }
        writer.write_record(&record).expect(in_memory);
    }
    place.write(&writer.into_inner().expect(in_memory))
}

//! A network of receivers, for the tests of this crate.

use crate::Position;

/// Seven receivers on 2 m in north-west Italy, 5 to 160 km apart, with their altitudes in m.
pub(crate) fn north_west_italy() -> Vec<(Position, f64)> {
    [
        (45.02, 7.29, 600.0),
        (45.234, 7.857, 300.0),
        (45.044, 7.672, 250.0),
        (45.03, 7.27, 700.0),
        (44.561, 8.956, 480.0),
        (44.395, 8.956, 100.0),
        (45.478, 9.123, 120.0),
    ]
    .into_iter()
    .map(|(latitude, longitude, altitude_m)| {
        (Position::new(latitude, longitude).unwrap(), altitude_m)
    })
    .collect()
}

//! A fixed receiver of the network.

use serde::{Deserialize, Serialize};

use crate::Position;

/// A receiver, and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Name, unique in its network.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// Height above the ellipsoid of WGS 84, in m; that above the sea differs by up to 100 m.
    pub altitude_m: f64,
    /// Effective height of the antenna above the surroundings that matter, in m.
    pub antenna_height_m: f64,
}

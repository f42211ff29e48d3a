//! Positions, local planes, uncertainty ellipses and classical localization.

mod centroid;
mod covariance;
mod ellipse;
mod error;
mod position;
mod receiver;
mod region;

pub use centroid::weighted_centroid;
pub use covariance::{Covariance, mahalanobis_squared_at};
pub use ellipse::Ellipse;
pub use error::GeoError;
pub use position::{
    LocalFrame, LocalPosition, Position, WGS84_ECCENTRICITY_SQUARED, WGS84_SEMI_MAJOR_AXIS_KM,
};
pub use receiver::Receiver;
pub use region::Region;

//! What can go wrong between measurements and positions.

use thiserror::Error;

/// An error of this crate.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum GeoError {
    /// A position is not one.
    #[error(
        "a position has a latitude within ±90° and a longitude within ±180°, but this one is at \
         {latitude_deg}, {longitude_deg}"
    )]
    OffTheEarth {
        /// Degrees north.
        latitude_deg: f64,
        /// Degrees east.
        longitude_deg: f64,
    },

    /// A point of the plane lies over no point of the Earth.
    #[error("no point of the Earth lies {east_km} km east and {north_km} km north of the origin")]
    BeyondHorizon {
        /// East of the origin, in km.
        east_km: f64,
        /// North of the origin, in km.
        north_km: f64,
    },

    /// An area cannot be drawn in longitudes and latitudes, because a pole lies in it.
    #[error(
        "the area around latitude {latitude_deg} holds a pole, and has no border of longitudes"
    )]
    EnclosesPole {
        /// Latitude of its center.
        latitude_deg: f64,
    },

    /// A frame was asked for around nothing.
    #[error("a local frame takes at least one position, but there are none")]
    NoPositions,

    /// The corners of a region enclose nothing.
    #[error(
        "a region's south-west corner lies south of its north-east corner and on another meridian, \
         but these are at {south_deg}, {west_deg} and {north_deg}, {east_deg}"
    )]
    EmptyRegion {
        /// Latitude of the south-west corner.
        south_deg: f64,
        /// Longitude of the south-west corner.
        west_deg: f64,
        /// Latitude of the north-east corner.
        north_deg: f64,
        /// Longitude of the north-east corner.
        east_deg: f64,
    },

    /// A field of a configuration has a value that nothing could be computed with.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidConfig {
        /// Name of the field, as the user wrote it.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that was given.
        actual: f64,
    },

    /// A matrix is not the covariance of anything that varies in two directions.
    #[error(
        "a covariance is positive definite, but this one is [{east_km2}, {east_north_km2}; \
         {east_north_km2}, {north_km2}] km²"
    )]
    NotPositiveDefinite {
        /// Variance to the east, in km².
        east_km2: f64,
        /// Covariance of east and north, in km².
        east_north_km2: f64,
        /// Variance to the north, in km².
        north_km2: f64,
    },

    /// A probability for which no ellipse exists.
    #[error("an ellipse takes a probability above 0 and below 1, but this one is {probability}")]
    InvalidProbability {
        /// The value that was given.
        probability: f64,
    },

    /// A delay names a receiver that is not there.
    #[error("delay {delay} names receiver {receiver}, but there are {receivers} receivers")]
    UnknownReceiver {
        /// Index of the delay.
        delay: usize,
        /// The index that it names.
        receiver: usize,
        /// Number of receivers.
        receivers: usize,
    },

    /// A delay is between a receiver and itself.
    #[error("delay {delay} is between receiver {receiver} and itself")]
    DelayToItself {
        /// Index of the delay.
        delay: usize,
        /// Index of the receiver.
        receiver: usize,
    },

    /// A delay, or its standard deviation, is not a usable number.
    #[error(
        "a delay is a finite number with a positive standard deviation, but delay {delay} is \
         {delay_s} s ± {sigma_s} s"
    )]
    InvalidDelay {
        /// Index of the delay.
        delay: usize,
        /// Its value, in seconds.
        delay_s: f64,
        /// Its standard deviation, in seconds.
        sigma_s: f64,
    },

    /// An arrival time is not usable.
    #[error(
        "an arrival is the only one of its receiver, and a finite time with a positive standard \
         deviation, but arrival {arrival} at receiver {receiver} is at {time_s} s ± {sigma_s} s"
    )]
    InvalidArrival {
        /// Index of the arrival.
        arrival: usize,
        /// Index of the receiver that it names.
        receiver: usize,
        /// The time, in seconds.
        time_s: f64,
        /// Its standard deviation, in seconds.
        sigma_s: f64,
    },

    /// A bound was asked for where it does not exist.
    #[error("the transmitter stands at receiver {receiver}, where no direction leads to it")]
    TransmitterAtReceiver {
        /// Index of the receiver.
        receiver: usize,
    },

    /// The measurements leave a direction open at the place that fits them best.
    #[error(
        "the position is not determined: seen from where the measurements fit best, the receivers \
         leave one direction open"
    )]
    Undetermined,
}

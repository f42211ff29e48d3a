//! How far a signal travels from a place in the plane to a receiver.

use nalgebra::Vector3;

use crate::GeoError;
use crate::LocalFrame;
use crate::LocalPosition;
use crate::Position;
use crate::WGS84_ECCENTRICITY_SQUARED;
use crate::WGS84_SEMI_MAJOR_AXIS_KM;

/// A point of the ellipsoid in space, and the vertical there.
#[derive(Clone, Copy, Debug)]
pub(super) struct SurfacePoint {
    /// Earth-centered coordinates, in km.
    place_km: Vector3<f64>,
    /// Unit vector that points upwards.
    up: Vector3<f64>,
}

impl SurfacePoint {
    pub(super) fn of(position: &Position) -> Self {
        let (sin, cos) = position.latitude_deg().to_radians().sin_cos();
        let (sin_longitude, cos_longitude) = position.longitude_deg().to_radians().sin_cos();
        let up = Vector3::new(cos * cos_longitude, cos * sin_longitude, sin);
        let radius_km =
            WGS84_SEMI_MAJOR_AXIS_KM / (1.0 - WGS84_ECCENTRICITY_SQUARED * sin * sin).sqrt();
        let polar = 1.0 - WGS84_ECCENTRICITY_SQUARED;
        Self { place_km: radius_km * Vector3::new(up.x, up.y, polar * up.z), up }
    }

    /// The point at this height above it.
    fn raised_km(&self, height_km: f64) -> Vector3<f64> {
        self.place_km + height_km * self.up
    }
}

/// A receiver in space.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpaceReceiver {
    surface: SurfacePoint,
    antenna_km: Vector3<f64>,
    /// Mean radius of curvature of the ellipsoid there, in km.
    radius_km: f64,
}

impl SpaceReceiver {
    pub(super) fn new(position: &Position, altitude_m: f64) -> Self {
        let surface = SurfacePoint::of(position);
        let sin = position.latitude_deg().to_radians().sin();
        let flattened = 1.0 - WGS84_ECCENTRICITY_SQUARED * sin * sin;
        let radius_km =
            WGS84_SEMI_MAJOR_AXIS_KM * (1.0 - WGS84_ECCENTRICITY_SQUARED).sqrt() / flattened;
        Self { antenna_km: surface.raised_km(altitude_m / 1000.0), surface, radius_km }
    }

    /// Distance in a straight line from a transmitter at a known altitude, and the unit vector from
    /// the receiver to it; without one, distance along the surface, and how it grows.
    ///
    /// The way along the surface is the arc over the chord, on a sphere with the radius of the
    /// ellipsoid at the receiver: within 0.1 m of the geodesic up to 200 km, and 10 m up to 1000 km.
    fn range_km(&self, point: &SurfacePoint, altitude_km: Option<f64>) -> (f64, Vector3<f64>) {
        if let Some(altitude_km) = altitude_km {
            let way_km = point.raised_km(altitude_km) - self.antenna_km;
            let range_km = way_km.norm();
            return (range_km, way_km / range_km.max(f64::MIN_POSITIVE));
        }
        let way_km = point.place_km - self.surface.place_km;
        let chord_km = way_km.norm();
        let half_angle_sin = (chord_km / (2.0 * self.radius_km)).min(1.0);
        let arc_km = 2.0 * self.radius_km * half_angle_sin.asin();
        let growth = (1.0 - half_angle_sin * half_angle_sin).sqrt().max(0.1).recip();
        (arc_km, growth * way_km / chord_km.max(f64::MIN_POSITIVE))
    }

    pub(super) fn distance_km(&self, point: &SurfacePoint, altitude_km: Option<f64>) -> f64 {
        self.range_km(point, altitude_km).0
    }
}

/// The plane of a frame in space.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpacePlane {
    frame: LocalFrame,
    east: Vector3<f64>,
    north: Vector3<f64>,
    up: Vector3<f64>,
}

impl SpacePlane {
    pub(super) fn new(frame: LocalFrame) -> Self {
        let (sin, cos) = frame.origin.latitude_deg().to_radians().sin_cos();
        let (sin_longitude, cos_longitude) = frame.origin.longitude_deg().to_radians().sin_cos();
        Self {
            frame,
            east: Vector3::new(-sin_longitude, cos_longitude, 0.0),
            north: Vector3::new(-sin * cos_longitude, -sin * sin_longitude, cos),
            up: Vector3::new(cos * cos_longitude, cos * sin_longitude, sin),
        }
    }

    /// The point of the ellipsoid above or below a place of the plane.
    pub(super) fn lift(&self, place: &LocalPosition) -> Result<SurfacePoint, GeoError> {
        Ok(SurfacePoint::of(&self.frame.to_position(place)?))
    }

    /// Computes the range from a lifted place, and by how much it grows per km in the plane to the
    /// east and to the north.
    pub(super) fn range_km(
        &self,
        point: &SurfacePoint,
        altitude_km: Option<f64>,
        receiver: &SpaceReceiver,
    ) -> (f64, [f64; 2]) {
        let (range_km, toward) = receiver.range_km(point, altitude_km);
        // A step in the plane is one on the ellipsoid, whose tangent is tilted against the plane;
        // higher up it is longer.
        let raised = 1.0 + altitude_km.unwrap_or(0.0) / receiver.radius_km;
        let step = |axis: &Vector3<f64>| {
            raised * (axis - self.up * (point.up.dot(axis) / point.up.dot(&self.up)))
        };
        (range_km, [toward.dot(&step(&self.east)), toward.dot(&step(&self.north))])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(latitude_deg: f64, longitude_deg: f64) -> Position {
        Position::new(latitude_deg, longitude_deg).unwrap()
    }

    /// Straight above a receiver, the range is the difference of the altitudes.
    #[test]
    fn range_to_the_zenith_is_the_height() {
        let place = position(47.4, 8.6);
        let receiver = SpaceReceiver::new(&place, 430.0);

        let range_km = receiver.distance_km(&SurfacePoint::of(&place), Some(10.43));

        assert!((range_km - 10.0).abs() < 1e-9, "{range_km}");
    }

    proptest! {
        /// The oracle is the geodesic of the ellipsoid.
        #[test]
        fn way_along_the_surface_is_the_geodesic(
            latitude_deg in -70_f64..70.0,
            longitude_deg in -180_f64..180.0,
            east_km in -700_f64..700.0,
            north_km in -700_f64..700.0,
        ) {
            let origin = position(latitude_deg, longitude_deg);
            let other =
                LocalFrame { origin }.to_position(&LocalPosition { east_km, north_km }).unwrap();

            let way_km =
                SpaceReceiver::new(&origin, 0.0).distance_km(&SurfacePoint::of(&other), None);

            let geodesic_km = origin.distance_km(&other);
            let tolerance_km = 0.010 * (geodesic_km / 1000.0).powi(3).max(1e-6);
            prop_assert!((way_km - geodesic_km).abs() < tolerance_km, "{way_km}, {geodesic_km}");
        }

        /// The oracle is the difference of two ranges.
        #[test]
        fn slope_of_the_range_is_its_difference(
            latitude_deg in -70_f64..70.0,
            east_km in -500_f64..500.0,
            north_km in -500_f64..500.0,
            altitude_km in prop::option::of(0.0..12.0),
        ) {
            let plane = SpacePlane::new(LocalFrame { origin: position(latitude_deg, 8.0) });
            let receiver = SpaceReceiver::new(&position(latitude_deg + 0.8, 7.0), 500.0);
            let range_km = |east_km: f64, north_km: f64| {
                let point = plane.lift(&LocalPosition { east_km, north_km }).unwrap();
                plane.range_km(&point, altitude_km, &receiver)
            };
            let (here_km, slope) = range_km(east_km, north_km);
            prop_assume!(here_km > 1.0);

            let step_km = 1e-3;
            let differences = [
                range_km(east_km + step_km, north_km).0 - range_km(east_km - step_km, north_km).0,
                range_km(east_km, north_km + step_km).0 - range_km(east_km, north_km - step_km).0,
            ];

            for (slope, difference_km) in slope.iter().zip(differences) {
                // Heights stretch a step by 1 + h / R, with an R of one direction or another.
                prop_assert!((slope - difference_km / (2.0 * step_km)).abs() < 1e-4);
            }
        }
    }
}

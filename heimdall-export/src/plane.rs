//! From the local plane to degrees, as part of the graph.

use heimdall_geo::{LocalFrame, WGS84_ECCENTRICITY_SQUARED, WGS84_SEMI_MAJOR_AXIS_KM};

use crate::graph::{Graph, Value};

/// A point of the plane after it was lifted onto the ellipsoid; every value is `[batch, 1]`.
pub(crate) struct Lifted {
    /// Degrees north.
    pub(crate) latitude_deg: Value,
    /// Degrees east.
    pub(crate) longitude_deg: Value,
    /// Degrees of latitude per km to the north, here.
    pub(crate) latitude_deg_per_km: Value,
    /// Degrees of longitude per km to the east, here.
    pub(crate) longitude_deg_per_km: Value,
}

/// Adds the lift of points of the plane onto the ellipsoid: [`LocalFrame::to_position`], in 64 bits.
///
/// Only operators are used that runtimes have for 64-bit floats: the four basic ones and square
/// roots. The inverse tangent, which ONNX Runtime has in 32 bits only (an error of a meter), is a
/// series. Points that lie under no point of the Earth become NaN.
///
/// # Shapes
///
/// - `east_km`, `north_km`: `[batch, 1]`
pub(crate) fn lift(
    graph: &mut Graph,
    frame: &LocalFrame,
    east_km: &Value,
    north_km: &Value,
) -> Lifted {
    let (sin_origin, cos_origin) = frame.origin.latitude_deg().to_radians().sin_cos();
    let polar = 1.0 - WGS84_ECCENTRICITY_SQUARED;
    let origin_radius_km =
        WGS84_SEMI_MAJOR_AXIS_KM / (1.0 - WGS84_ECCENTRICITY_SQUARED * sin_origin.powi(2)).sqrt();

    // Distances from the axis and the equator, of the point in the plane …
    let axis_km = graph.scaled(north_km, -sin_origin);
    let axis_km = graph.shifted(&axis_km, origin_radius_km * cos_origin);
    let equator_km = graph.scaled(north_km, cos_origin);
    let equator_km = graph.shifted(&equator_km, polar * origin_radius_km * sin_origin);

    // … which reaches the ellipsoid where `a · lift² + b · lift + c = 0` …
    let a = cos_origin.powi(2) + sin_origin.powi(2) / polar;
    let b_axis = graph.scaled(&axis_km, 2.0 * cos_origin);
    let b_equator = graph.scaled(&equator_km, 2.0 * sin_origin / polar);
    let b = graph.add(&b_axis, &b_equator);
    let east_squared = graph.square(east_km);
    let axis_squared = graph.square(&axis_km);
    let equator_squared = graph.square(&equator_km);
    let equator_squared = graph.scaled(&equator_squared, 1.0 / polar);
    let c = graph.add(&axis_squared, &east_squared);
    let c = graph.add(&c, &equator_squared);
    let c = graph.shifted(&c, -WGS84_SEMI_MAJOR_AXIS_KM.powi(2));
    let b_squared = graph.square(&b);
    let four_a_c = graph.scaled(&c, 4.0 * a);
    let discriminant = graph.subtract(&b_squared, &four_a_c);
    let root = graph.square_root(&discriminant);
    let denominator = graph.add(&b, &root);
    let numerator = graph.scaled(&c, -2.0);
    let lift_km = graph.divide(&numerator, &denominator);

    // … and of the point of the ellipsoid.
    let axis_lift_km = graph.scaled(&lift_km, cos_origin);
    let axis_km = graph.add(&axis_km, &axis_lift_km);
    let equator_lift_km = graph.scaled(&lift_km, sin_origin);
    let equator_km = graph.add(&equator_km, &equator_lift_km);
    let axis_squared = graph.square(&axis_km);
    let parallel_squared = graph.add(&axis_squared, &east_squared);
    let parallel_km = graph.square_root(&parallel_squared);

    let polar_parallel_km = graph.scaled(&parallel_km, polar);
    let latitude = arc_tangent(graph, &equator_km, &polar_parallel_km);
    let latitude_deg = graph.scaled(&latitude, 1_f64.to_degrees());
    let longitude = arc_tangent(graph, east_km, &axis_km);
    let longitude_deg = graph.scaled(&longitude, 1_f64.to_degrees());
    let longitude_deg = graph.shifted(&longitude_deg, frame.origin.longitude_deg());

    Lifted {
        latitude_deg,
        longitude_deg: wrap_degrees(graph, &longitude_deg),
        latitude_deg_per_km: meridian_scale(graph, &equator_km, &polar_parallel_km),
        longitude_deg_per_km: reciprocal(graph, 1_f64.to_degrees(), &parallel_km),
    }
}

/// Degrees of latitude per km, from the legs of the triangle that has the latitude as its angle.
///
/// The radius of curvature in the meridian is `a (1 − e²) / (1 − e² sin² φ)^(3/2)`.
fn meridian_scale(graph: &mut Graph, opposite: &Value, adjacent: &Value) -> Value {
    let opposite_squared = graph.square(opposite);
    let adjacent_squared = graph.square(adjacent);
    let hypotenuse_squared = graph.add(&opposite_squared, &adjacent_squared);
    let sin_squared = graph.divide(&opposite_squared, &hypotenuse_squared);
    let w = graph.scaled(&sin_squared, -WGS84_ECCENTRICITY_SQUARED);
    let w = graph.shifted(&w, 1.0);
    let w_root = graph.square_root(&w);
    let w_power = graph.multiply(&w, &w_root);
    let numerator_km = WGS84_SEMI_MAJOR_AXIS_KM * (1.0 - WGS84_ECCENTRICITY_SQUARED);
    graph.scaled(&w_power, 1_f64.to_degrees() / numerator_km)
}

fn reciprocal(graph: &mut Graph, numerator: f64, denominator: &Value) -> Value {
    let numerator = graph.scalar(numerator);
    graph.divide(&numerator, denominator)
}

/// Adds the angle of the point (`x`, `y`), in radians: `y.atan2(x)`.
///
/// The tangent of half the angle is `y / (√(x² + y²) + x)`; three more halvings by
/// `tan(θ/2) = t / (1 + √(1 + t²))` bring it below `tan(π/16) = 0.199`, where twelve terms of the
/// series are exact in 64 bits. Only the half-line `y = 0`, `x < 0` has no value.
fn arc_tangent(graph: &mut Graph, y: &Value, x: &Value) -> Value {
    const HALVINGS: i32 = 4;
    const TERMS: u32 = 12;

    let (x_squared, y_squared) = (graph.square(x), graph.square(y));
    let radius_squared = graph.add(&x_squared, &y_squared);
    let radius = graph.square_root(&radius_squared);
    let denominator = graph.add(&radius, x);
    let mut tangent = graph.divide(y, &denominator);
    for _ in 1..HALVINGS {
        let squared = graph.square(&tangent);
        let secant_squared = graph.shifted(&squared, 1.0);
        let secant = graph.square_root(&secant_squared);
        let denominator = graph.shifted(&secant, 1.0);
        tangent = graph.divide(&tangent, &denominator);
    }

    // atan t = t (1 − t²/3 + t⁴/5 − …), from the innermost bracket out.
    let coefficient = |term: u32| {
        let sign = if term.is_multiple_of(2) { 1.0 } else { -1.0 };
        sign / f64::from(2 * term + 1)
    };
    let squared = graph.square(&tangent);
    let last = graph.scaled(&squared, coefficient(TERMS - 1));
    let mut sum = graph.shifted(&last, coefficient(TERMS - 2));
    for term in (0..TERMS - 2).rev() {
        let product = graph.multiply(&sum, &squared);
        sum = graph.shifted(&product, coefficient(term));
    }
    let angle = graph.multiply(&sum, &tangent);
    graph.scaled(&angle, 2_f64.powi(HALVINGS))
}

/// Brings an angle between −360° and 360° to −180° … 180°.
fn wrap_degrees(graph: &mut Graph, degrees: &Value) -> Value {
    let (east_end, west_end) = (graph.scalar(180.0), graph.scalar(-180.0));
    let beyond_east = graph.indicator("Greater", degrees, &east_end);
    let beyond_west = graph.indicator("Less", degrees, &west_end);
    let turns = graph.subtract(&beyond_west, &beyond_east);
    let turn_deg = graph.scaled(&turns, 360.0);
    graph.add(degrees, &turn_deg)
}

#[cfg(test)]
mod tests {
    use heimdall_geo::{LocalPosition, Position};
    use prost::Message;
    use tract_onnx::prelude::{DatumExt, Framework, InferenceModelExt, IntoRunnable, Tensor, tvec};

    use super::*;
    use crate::graph::Element;
    use crate::model::model_proto;
    use crate::{ExportConfig, verify::degrees_per_km};

    /// Lifts points in tract: latitude, longitude and their scales, a row per point.
    fn lifted(frame: &LocalFrame, points: &[LocalPosition]) -> Vec<[f64; 4]> {
        let mut graph = Graph::new("plane", Element::F32);
        let input = graph.input("plane_km", Element::F64, &[2], "");
        let (east, north) = (graph.column(&input, 0), graph.column(&input, 1));
        let lifted = lift(&mut graph, frame, &east, &north);
        let row = graph.columns(&[
            &lifted.latitude_deg,
            &lifted.longitude_deg,
            &lifted.latitude_deg_per_km,
            &lifted.longitude_deg_per_km,
        ]);
        graph.output("lifted", &row, &[4], "");
        let bytes = model_proto(graph.finish(), &ExportConfig::default(), &[]).encode_to_vec();
        let model = tract_onnx::onnx()
            .with_ignore_output_shapes(true)
            .model_for_read(&mut bytes.as_slice())
            .unwrap()
            .with_input_fact(0, f64::fact([points.len(), 2]).into())
            .unwrap()
            .into_optimized()
            .unwrap()
            .into_runnable()
            .unwrap();

        let data: Vec<f64> = points.iter().flat_map(|p| [p.east_km, p.north_km]).collect();
        let input = Tensor::from_shape(&[points.len(), 2], &data).unwrap();
        let output = model.run(tvec!(input.into())).unwrap();
        let view = output[0].to_plain_array_view::<f64>().unwrap();
        view.outer_iter().map(|row| [row[0], row[1], row[2], row[3]]).collect()
    }

    /// 1e-12° is 0.1 µm, a few units in the last place of 180° as f64.
    #[test]
    fn lifted_points_are_those_of_the_frame() {
        for (latitude_deg, longitude_deg) in
            [(45.0, 8.0), (0.0, 0.0), (-33.0, 179.9), (69.5, -179.5), (-82.0, 12.0)]
        {
            let frame = LocalFrame { origin: Position::new(latitude_deg, longitude_deg).unwrap() };
            let steps = [-1900.0, -123.4, -0.5, 0.0, 1e-6, 77.7, 640.0, 2500.0];
            let points: Vec<LocalPosition> = steps
                .iter()
                .flat_map(|&east_km| steps.map(|north_km| LocalPosition { east_km, north_km }))
                // Beyond the pole on its meridian the angle has no value.
                .filter(|point| latitude_deg.abs() < 60.0 || point.east_km.abs() > 1.0)
                .collect();

            let lifted = lifted(&frame, &points);

            for (point, [latitude, longitude, latitude_scale, longitude_scale]) in
                points.iter().zip(lifted)
            {
                let expected = frame.to_position(point).unwrap();
                let difference = (longitude - expected.longitude_deg()).abs();
                let case = format!("{frame:?}, {point:?}: {latitude}, {longitude}: {expected:?}");
                assert!((latitude - expected.latitude_deg()).abs() < 1e-12, "{case}");
                // Near the pole a degree of longitude is short, and −180° is 180°.
                let parallel = expected.latitude_deg().to_radians().cos();
                assert!(difference.min(360.0 - difference) * parallel < 1e-12, "{case}");
                let [expected_latitude, expected_longitude] = degrees_per_km(&expected);
                assert!((latitude_scale / expected_latitude - 1.0).abs() < 1e-12, "{case}");
                assert!((longitude_scale / expected_longitude - 1.0).abs() < 1e-11, "{case}");
            }
        }
    }

    #[test]
    fn point_beyond_the_horizon_is_not_a_number() {
        let frame = LocalFrame { origin: Position::new(45.0, 8.0).unwrap() };
        let beyond = LocalPosition { east_km: 7000.0, north_km: 0.0 };

        let [latitude_deg, longitude_deg, ..] = lifted(&frame, &[beyond])[0];

        assert!(latitude_deg.is_nan() && longitude_deg.is_nan());
    }
}

//! Predictions as `GeoJSON`: a point and a region for each event.

use heimdall_geo::Position;
use serde_json::{Value, json};
use tracing::warn;

use super::PredictedEvent;

/// Corners of the polygon of a region.
const CORNERS: usize = 64;

/// Returns a collection of features, as in RFC 7946: of each event the position, and the ellipse of
/// the region around it; an event without a fix is a feature without a geometry.
///
/// # References
///
/// H. Butler et al., "The GeoJSON format", RFC 7946, 2016, section 3.2: a feature that has no place
/// has a geometry of null.
pub(crate) fn feature_collection(events: &[PredictedEvent]) -> Value {
    let features: Vec<Value> = events.iter().flat_map(features).collect();
    json!({ "type": "FeatureCollection", "features": features })
}

fn features(event: &PredictedEvent) -> Vec<Value> {
    let feature = |kind: &str, geometry: Value| {
        let mut properties = serde_json::to_value(event).expect("a prediction is plain data");
        properties["kind"] = kind.into();
        json!({ "type": "Feature", "geometry": geometry, "properties": properties })
    };
    let Some(fix) = &event.fix else { return vec![feature("position", Value::Null)] };
    let mut features = vec![feature("position", point(&fix.position))];
    match fix.region.to_geojson(fix.position, CORNERS) {
        Ok(area) => {
            let area = serde_json::to_value(area).expect("an area is plain data");
            features.push(feature("region", area));
        }
        Err(error) => warn!(event = event.event, %error, "the region is not drawn"),
    }
    features
}

fn point(position: &Position) -> Value {
    // Longitude first.
    json!({
        "type": "Point",
        "coordinates": [position.longitude_deg(), position.latitude_deg()],
    })
}

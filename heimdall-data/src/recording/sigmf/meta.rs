//! The metadata of a SigMF recording.

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::Position;
use serde_json::Value;

use super::super::json::Node;
use super::super::metadata::{Annotation, Gain, Place};
use super::super::sample_type::SampleType;
use super::super::sidecar::{clock, instant};
use crate::DataError;

/// Extensions whose fields are understood, besides those that are optional.
const EXTENSIONS: [&str; 3] = ["heimdall", "capture_details", "antenna"];
/// Most channels that the standard allows.
const CHANNELS_MAX: u64 = 1000;

/// What a `.sigmf-meta` file says, with its types checked.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    /// Name of the file.
    pub(super) file: String,
    pub(super) sample_type: SampleType,
    pub(super) channel_count: u64,
    pub(super) sample_rate_hz: Option<f64>,
    /// Index of the first sample.
    pub(super) offset: u64,
    /// Bytes after the samples.
    pub(super) trailing_bytes: u64,
    /// Hash of the file of samples.
    pub(super) sha512: Option<String>,
    /// Name of the file of samples, where it is not the usual one.
    pub(super) dataset: Option<String>,
    pub(super) receiver: Option<String>,
    pub(super) antenna_height_m: Option<f64>,
    pub(super) captures: Vec<Capture>,
    pub(super) annotations: Vec<Annotation>,
}

/// A stretch of samples that were captured in one go.
#[derive(Clone, Debug, Default)]
pub(super) struct Capture {
    pub(super) sample_start: u64,
    /// Index of the first sample in the stream that the receiver saw.
    pub(super) global_index: u64,
    /// Bytes before its samples that are no samples.
    pub(super) header_bytes: u64,
    pub(super) frequency_hz: Option<f64>,
    pub(super) start: Option<UtcTime>,
    pub(super) place: Option<Place>,
    pub(super) gain: Option<Gain>,
    pub(super) clock: Option<ClockQuality>,
}

impl Meta {
    /// Checks the types of all fields that are understood.
    pub(super) fn parse(file: &str, value: &Value) -> Result<Self, DataError> {
        let root = Node::root(file, value);
        let global = root.required("global")?;
        check_version(file, &global.required("core:version")?)?;
        check_extensions(file, &global)?;
        if let Some(node) = global.optional("core:metadata_only")?
            && node.boolean()?
            && global.optional("core:dataset")?.is_none()
        {
            return Err(node.wrong("false, since there are no samples otherwise"));
        }
        let channels = global.optional("core:num_channels")?.map(channel_count).transpose()?;
        let place = global.optional("core:geolocation")?.as_ref().map(place).transpose()?;
        let mut captures: Vec<Capture> = Vec::new();
        for node in root.required("captures")?.items()? {
            let capture = Capture::parse(&node, place)?;
            if captures.last().is_some_and(|before| capture.sample_start < before.sample_start) {
                let expected = "at or after the start of the capture before";
                return Err(node.required("core:sample_start")?.wrong(expected));
            }
            captures.push(capture);
        }
        let annotations = root.optional("annotations")?;
        let annotations = annotations.map(|node| node.items()).transpose()?.unwrap_or_default();
        let offset = count(&global, "core:offset")?.unwrap_or(0);
        if captures.is_empty() {
            captures.push(Capture { sample_start: offset, place, ..Capture::default() });
        }
        Ok(Self {
            file: file.to_owned(),
            sample_type: sample_type(file, &global.required("core:datatype")?)?,
            channel_count: channels.unwrap_or(1),
            sample_rate_hz: number(&global, "core:sample_rate", |rate| rate > 0.0)?,
            offset,
            trailing_bytes: count(&global, "core:trailing_bytes")?.unwrap_or(0),
            sha512: global.optional("core:sha512")?.as_ref().map(sha512).transpose()?,
            dataset: global.optional("core:dataset")?.as_ref().map(file_name).transpose()?,
            receiver: text(&global, "heimdall:receiver")?,
            antenna_height_m: number(&global, "heimdall:antenna_height_m", |height| height >= 0.0)?,
            captures,
            annotations: annotations.iter().map(annotation).collect::<Result<_, _>>()?,
        })
    }
}

impl Capture {
    fn parse(node: &Node<'_>, place_of_all: Option<Place>) -> Result<Self, DataError> {
        let start = node.optional("core:datetime")?;
        let sample_start = node.required("core:sample_start")?.count()?;
        let gain_db = number(node, "capture_details:gain", |_| true)?;
        Ok(Self {
            sample_start,
            global_index: count(node, "core:global_index")?.unwrap_or(sample_start),
            header_bytes: count(node, "core:header_bytes")?.unwrap_or(0),
            frequency_hz: number(node, "core:frequency", |_| true)?,
            start: start.as_ref().map(instant).transpose()?,
            place: match node.optional("core:geolocation")? {
                Some(node) => Some(place(&node)?),
                None => place_of_all,
            },
            gain: gain_db.map(|gain_db| Gain::Fixed { gain_db }),
            clock: node.optional("heimdall:clock")?.as_ref().map(clock).transpose()?,
        })
    }
}

/// Refuses metadata of a version that does not exist yet.
pub(super) fn check_version(file: &str, node: &Node<'_>) -> Result<(), DataError> {
    let version = node.text()?;
    let rule = "a version such as `1.2.0`";
    let (major, _) = version.split_once('.').ok_or_else(|| node.wrong(rule))?;
    match major.trim_start_matches('v').parse::<u32>() {
        Ok(0 | 1) => Ok(()),
        Ok(_) => Err(DataError::Unsupported {
            file: file.to_owned(),
            what: format!("version {version} of the SigMF standard"),
        }),
        Err(_) => Err(node.wrong(rule)),
    }
}

/// Refuses extensions without which the metadata cannot be understood.
pub(super) fn check_extensions(file: &str, object: &Node<'_>) -> Result<(), DataError> {
    let Some(extensions) = object.optional("core:extensions")? else { return Ok(()) };
    for extension in extensions.items()? {
        let name = extension.required("name")?.text()?;
        let optional = extension.optional("optional")?.map(|node| node.boolean()).transpose()?;
        if !optional.unwrap_or(true) && !EXTENSIONS.contains(&name) {
            let what = format!("the SigMF extension `{name}`");
            return Err(DataError::Unsupported { file: file.to_owned(), what });
        }
    }
    Ok(())
}

fn sample_type(file: &str, node: &Node<'_>) -> Result<SampleType, DataError> {
    let name = node.text()?;
    let rule = "a type such as `cf32_le`, `ci16_be` or `cu8`";
    let (kind, number) = name.split_at_checked(1).ok_or_else(|| node.wrong(rule))?;
    let sample_type = SampleType::from_sigmf(number).ok_or_else(|| node.wrong(rule))?;
    match kind {
        "c" => Ok(sample_type),
        "r" => Err(DataError::NotIq {
            file: file.to_owned(),
            actual: format!("real numbers of the type `{name}`"),
        }),
        _ => Err(node.wrong(rule)),
    }
}

fn channel_count(node: Node<'_>) -> Result<u64, DataError> {
    let count = node.count()?;
    match count {
        1..=CHANNELS_MAX => Ok(count),
        _ => Err(node.wrong("from 1 to 1000")),
    }
}

fn sha512(node: &Node<'_>) -> Result<String, DataError> {
    let text = node.text()?;
    let is_hash = text.len() == 128 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_owned()).ok_or_else(|| node.wrong("128 hexadecimal digits"))
}

/// A name that does not lead out of the folder.
pub(super) fn file_name(node: &Node<'_>) -> Result<String, DataError> {
    let name = node.text()?;
    let is_plain = !name.is_empty() && !name.contains(['/', '\\']) && name != "." && name != "..";
    is_plain
        .then(|| name.to_owned())
        .ok_or_else(|| node.wrong("the name of a file, without folder"))
}

/// Reads a point of GeoJSON: longitude, latitude and, if it is there, altitude.
pub(super) fn place(node: &Node<'_>) -> Result<Place, DataError> {
    let kind = node.required("type")?;
    if kind.text()? != "Point" {
        return Err(kind.wrong("`Point`"));
    }
    let coordinates = node.required("coordinates")?;
    let items = coordinates.items()?;
    let rule = "a longitude and a latitude in degrees, and possibly an altitude in meters";
    let (longitude, latitude, altitude) = match items.as_slice() {
        [longitude, latitude] => (longitude, latitude, None),
        [longitude, latitude, altitude, ..] => (longitude, latitude, Some(altitude)),
        _ => return Err(coordinates.wrong(rule)),
    };
    let longitude = longitude.number(|value| value.abs() <= 180.0, "a longitude within ±180°")?;
    let latitude = latitude.number(|value| value.abs() <= 90.0, "a latitude within ±90°")?;
    let altitude_m =
        altitude.map(|node| node.number(|_| true, "an altitude in meters")).transpose()?;
    let position = Position::new(latitude, longitude).map_err(|_| coordinates.wrong(rule))?;
    Ok(Place { position, altitude_m })
}

fn annotation(node: &Node<'_>) -> Result<Annotation, DataError> {
    Ok(Annotation {
        sample_start: node.required("core:sample_start")?.count()?,
        sample_count: count(node, "core:sample_count")?,
        frequency_lower_hz: number(node, "core:freq_lower_edge", |_| true)?,
        frequency_upper_hz: number(node, "core:freq_upper_edge", |_| true)?,
        label: text(node, "core:label")?,
        comment: text(node, "core:comment")?,
    })
}

fn count(object: &Node<'_>, key: &str) -> Result<Option<u64>, DataError> {
    object.optional(key)?.map(|node| node.count()).transpose()
}

pub(super) fn number(
    object: &Node<'_>,
    key: &str,
    rule: impl Fn(f64) -> bool,
) -> Result<Option<f64>, DataError> {
    object.optional(key)?.map(|node| node.number(rule, "a number in its range")).transpose()
}

pub(super) fn text(object: &Node<'_>, key: &str) -> Result<Option<String>, DataError> {
    object.optional(key)?.map(|node| node.text().map(str::to_owned)).transpose()
}

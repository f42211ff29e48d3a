//! A small file beside a file of samples, which tells what that file does not.

use heimdall_features::{ClockQuality, UtcTime};

use super::datetime::parse_utc;
use super::json::{JSON_BYTES_MAX, Node, parse};
use super::metadata::{Gain, RecordingMetadata};
use super::options::ReadOptions;
use super::raw::RawType;
use super::source::Source;
use crate::DataError;

/// The fields of a sidecar.
const FIELDS: [&str; 8] = [
    "datatype",
    "sample_rate_hz",
    "center_frequency_hz",
    "start",
    "clock",
    "gain",
    "receiver",
    "receivers",
];

/// What a sidecar says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sidecar {
    facts: ReadOptions,
    /// Names of the receivers, one for each channel.
    receivers: Vec<String>,
}

impl Sidecar {
    /// Reads the sidecar of a file; one without fields if there is none.
    pub(super) async fn beside(source: &Source) -> Result<Self, DataError> {
        match source.sibling(&format!("{}.json", source.file_name())).await? {
            Some(sidecar) => Self::parse(&sidecar.file, &sidecar.whole(JSON_BYTES_MAX).await?),
            None => Ok(Self::default()),
        }
    }

    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Self, DataError> {
        let value = parse(file, bytes)?;
        let root = Node::root(file, &value);
        root.refuse_other_keys(&FIELDS)?;
        let datatype = |node: &Node<'_>| {
            let expected = "a complex type such as `cu8`, `ci16` or `cf32`";
            RawType::from_name(node.text()?).ok_or_else(|| node.wrong(expected))
        };
        let receiver = root.optional("receiver")?.map(|node| node.text()).transpose()?;
        let receivers = match root.optional("receivers")? {
            None => receiver.into_iter().map(str::to_owned).collect(),
            Some(node) if receiver.is_some() => return Err(node.wrong("alone, without `receiver`")),
            Some(node) => names(&node.items()?)?,
        };
        let positive = |number: f64| number > 0.0;
        let rate = |node: Node<'_>| node.number(positive, "a positive number of hertz");
        let frequency =
            |node: Node<'_>| node.number(|number| number >= 0.0, "a frequency in hertz");
        Ok(Self {
            facts: ReadOptions {
                raw_type: root.optional("datatype")?.as_ref().map(datatype).transpose()?,
                sample_rate_hz: root.optional("sample_rate_hz")?.map(rate).transpose()?,
                center_frequency_hz: root
                    .optional("center_frequency_hz")?
                    .map(frequency)
                    .transpose()?,
                start: root.optional("start")?.as_ref().map(instant).transpose()?,
                clock: root.optional("clock")?.as_ref().map(clock).transpose()?,
                gain: root.optional("gain")?.as_ref().map(gain).transpose()?,
                ..ReadOptions::default()
            },
            receivers,
        })
    }

    /// Adds what the sidecar says to what was said before, and stands above it.
    pub(super) fn complete(&self, options: &ReadOptions) -> ReadOptions {
        let Self { facts, .. } = self;
        ReadOptions {
            raw_type: options.raw_type.or(facts.raw_type),
            sample_rate_hz: options.sample_rate_hz.or(facts.sample_rate_hz),
            center_frequency_hz: options.center_frequency_hz.or(facts.center_frequency_hz),
            start: options.start.or(facts.start),
            clock: options.clock.or(facts.clock),
            gain: options.gain.or(facts.gain),
            ..options.clone()
        }
    }

    /// Gives a recording the name of its receiver.
    ///
    /// # Errors
    ///
    /// [`DataError::Malformed`] if the sidecar has not one name for each channel.
    pub(super) fn name_receiver(
        self,
        source: &Source,
        channel: usize,
        metadata: &mut RecordingMetadata,
    ) -> Result<(), DataError> {
        let (expected, actual) = (metadata.channel_count, self.receivers.len());
        if actual != 0 && actual != expected {
            return Err(DataError::Malformed {
                file: format!("{}.json", source.file),
                place: "receivers".to_owned(),
                expected: format!("as many names as there are channels, {expected}"),
                actual: actual.to_string(),
            });
        }
        metadata.receiver = self.receivers.into_iter().nth(channel).or(metadata.receiver.take());
        Ok(())
    }
}

/// Reads an instant of UTC.
pub(super) fn instant(node: &Node<'_>) -> Result<UtcTime, DataError> {
    parse_utc(node.text()?).ok_or_else(|| node.wrong("an instant such as `2024-05-01T12:00:00.5Z`"))
}

fn names(nodes: &[Node<'_>]) -> Result<Vec<String>, DataError> {
    nodes.iter().map(|node| node.text().map(str::to_owned)).collect()
}

/// Reads `{"kind": "disciplined", "sigma_s": 1e-7}` or `{"kind": "unknown"}`.
pub(super) fn clock(node: &Node<'_>) -> Result<ClockQuality, DataError> {
    let kind = node.required("kind")?;
    match kind.text()? {
        "disciplined" => {
            node.refuse_other_keys(&["kind", "sigma_s"])?;
            let rule = |sigma_s: f64| sigma_s >= 0.0;
            let sigma_s = node.required("sigma_s")?.number(rule, "a time of at least 0 seconds")?;
            Ok(ClockQuality::Disciplined { sigma_s })
        }
        "unknown" => {
            node.refuse_other_keys(&["kind"])?;
            Ok(ClockQuality::Unknown)
        }
        _ => Err(kind.wrong("`disciplined` or `unknown`")),
    }
}

/// Reads `{"kind": "fixed", "gain_db": 40}` or `{"kind": "automatic"}`.
fn gain(node: &Node<'_>) -> Result<Gain, DataError> {
    let kind = node.required("kind")?;
    match kind.text()? {
        "fixed" => {
            node.refuse_other_keys(&["kind", "gain_db"])?;
            let gain_db = node.required("gain_db")?.number(|_| true, "a number of decibels")?;
            Ok(Gain::Fixed { gain_db })
        }
        "automatic" => {
            node.refuse_other_keys(&["kind"])?;
            Ok(Gain::Automatic)
        }
        _ => Err(kind.wrong("`fixed` or `automatic`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        let text = r#"{
            "datatype": "cs8", "sample_rate_hz": 2e6, "center_frequency_hz": 145500000,
            "start": "2020-08-13T06:52:20.000000001Z",
            "clock": { "kind": "disciplined", "sigma_s": 1e-7 },
            "gain": { "kind": "fixed", "gain_db": -3 }, "receiver": "north"
        }"#;

        let sidecar = Sidecar::parse("x.json", text.as_bytes()).unwrap();

        let facts = ReadOptions {
            raw_type: RawType::from_name("ci8"),
            sample_rate_hz: Some(2e6),
            center_frequency_hz: Some(145.5e6),
            start: Some(UtcTime { seconds: 1_597_301_540, nanoseconds: 1 }),
            clock: Some(ClockQuality::Disciplined { sigma_s: 1e-7 }),
            gain: Some(Gain::Fixed { gain_db: -3.0 }),
            ..ReadOptions::default()
        };
        assert_eq!(sidecar, Sidecar { facts, receivers: vec!["north".to_owned()] });
        assert_eq!(Sidecar::parse("x.json", b"{}").unwrap(), Sidecar::default());
    }

    #[test]
    fn wrong_field_is_told() {
        let cases = [
            ("[]", "as a whole", "an object"),
            (r#"{"rate": 1}"#, "rate", "one of datatype"),
            (r#"{"sample_rate_hz": 0}"#, "sample_rate_hz", "a positive number"),
            (r#"{"sample_rate_hz": "2e6"}"#, "sample_rate_hz", "a positive number"),
            (r#"{"center_frequency_hz": -1}"#, "center_frequency_hz", "a frequency"),
            (r#"{"datatype": "rf32_le"}"#, "datatype", "a complex type"),
            (r#"{"start": "2020-08-13"}"#, "start", "an instant"),
            (r#"{"clock": {"kind": "good"}}"#, "clock.kind", "`disciplined`"),
            (r#"{"clock": {"kind": "disciplined"}}"#, "clock.sigma_s", "there"),
            (r#"{"clock": {"kind": "unknown", "sigma_s": 1}}"#, "clock.sigma_s", "one of kind"),
            (r#"{"gain": {"kind": "fixed"}}"#, "gain.gain_db", "there"),
            (r#"{"receiver": 1}"#, "receiver", "a string"),
            (r#"{"receiver": "a", "receivers": []}"#, "receivers", "alone"),
            (r#"{"receivers": ["a", 2]}"#, "receivers[1]", "a string"),
            ("{", "line 1, column 1", "JSON"),
        ];
        for (text, expected_place, expected_rule) in cases {
            match Sidecar::parse("x.json", text.as_bytes()) {
                Err(DataError::Malformed { file, place, expected, .. }) => {
                    assert_eq!(
                        (file.as_str(), place.as_str()),
                        ("x.json", expected_place),
                        "{text}"
                    );
                    assert!(expected.starts_with(expected_rule), "{text}: {expected}");
                }
                other => panic!("{text} gives {other:?}"),
            }
        }
    }
}

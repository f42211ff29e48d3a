//! Groups recordings of one emission into events.

use std::collections::HashSet;
use std::path::PathBuf;

use heimdall_features::UtcTime;
use jiff::Timestamp;

use super::table::KnownSource;
use crate::{DataError, EventEntry, RecordingEntry};

/// Shorter overlaps are none: a recorder starts the next file where the last one ends.
const OVERLAP_S_MIN: f64 = 0.1;

/// A recording, and the file that it came from.
pub(super) struct Heard {
    /// The file.
    pub(super) path: PathBuf,
    /// Its row, before it belongs to an event.
    pub(super) entry: RecordingEntry,
}

/// Recordings at one frequency that have some time in common.
struct Group {
    start: UtcTime,
    end_s: f64,
    members: Vec<Heard>,
}

impl Group {
    /// Seconds that a recording has in common with all members.
    ///
    /// Recordings come in the order of their starts, so that theirs is the later one.
    fn overlap_s(&self, heard: &Heard, origin: UtcTime) -> f64 {
        self.end_s.min(end_s(&heard.entry, origin)) - heard.entry.start.seconds_since(&origin)
    }

    fn frequency_hz(&self) -> f64 {
        self.members[0].entry.center_frequency_hz
    }
}

/// Makes an event of the recordings that were made at one frequency and at one time.
///
/// All recordings of an event have a stretch of time in common; where a recording fits into
/// several events, it joins the one with which it has the longest.
///
/// # Errors
///
/// [`DataError::OverlappingRecordings`] if an event has two recordings of one receiver.
pub(super) fn group_events(
    mut heard: Vec<Heard>,
    sources: &[KnownSource],
) -> Result<Vec<EventEntry>, DataError> {
    heard.sort_by(|a, b| (a.entry.start, &a.path).cmp(&(b.entry.start, &b.path)));
    let Some(origin) = heard.first().map(|heard| heard.entry.start) else {
        return Ok(Vec::new());
    };
    let mut groups: Vec<Group> = Vec::new();
    // Those before it have ended.
    let mut first_open = 0;
    for heard in heard {
        let start_s = heard.entry.start.seconds_since(&origin);
        while groups.get(first_open).is_some_and(|group| group.end_s <= start_s) {
            first_open += 1;
        }
        let same_frequency = |group: &&mut Group| {
            group.frequency_hz().total_cmp(&heard.entry.center_frequency_hz).is_eq()
        };
        let best = groups[first_open..]
            .iter_mut()
            .filter(same_frequency)
            .max_by(|a, b| a.overlap_s(&heard, origin).total_cmp(&b.overlap_s(&heard, origin)))
            .filter(|group| group.overlap_s(&heard, origin) >= OVERLAP_S_MIN);
        match best {
            Some(group) => {
                let receiver = &heard.entry.receiver;
                if let Some(other) = group.members.iter().find(|m| m.entry.receiver == *receiver) {
                    return Err(DataError::OverlappingRecordings {
                        receiver: receiver.clone(),
                        first: other.path.clone(),
                        second: heard.path,
                    });
                }
                group.end_s = group.end_s.min(end_s(&heard.entry, origin));
                group.members.push(heard);
            }
            None => groups.push(Group {
                start: heard.entry.start,
                end_s: end_s(&heard.entry, origin),
                members: vec![heard],
            }),
        }
    }

    let mut ids = HashSet::new();
    Ok(groups.into_iter().map(|group| event_of(group, sources, &mut ids)).collect())
}

fn end_s(entry: &RecordingEntry, origin: UtcTime) -> f64 {
    entry.start.seconds_since(&origin) + entry.sample_count as f64 / entry.sample_rate_hz
}

fn event_of(group: Group, sources: &[KnownSource], ids: &mut HashSet<String>) -> EventEntry {
    let center_hz = group.frequency_hz();
    let half_band_hz = group.members[0].entry.sample_rate_hz / 2.0;
    let offset_hz = |source: &&KnownSource| (source.frequency_hz - center_hz).abs();
    let source = sources
        .iter()
        .filter(|source| offset_hz(source) <= half_band_hz)
        .min_by(|a, b| offset_hz(a).total_cmp(&offset_hz(b)));
    let source_name =
        source.map_or_else(|| format!("unknown_{center_hz}"), |source| source.name.clone());

    let time = time_text(group.start);
    let first_id = format!("{time}_{center_hz}");
    let mut id = first_id.clone();
    let mut count = 1;
    while !ids.insert(id.clone()) {
        count += 1;
        id = format!("{first_id}_{count}");
    }
    EventEntry {
        id,
        session: format!("{source_name}_{}", time.split('T').next().unwrap_or(&time)),
        source: source_name,
        position: source.and_then(|source| source.position),
        frequency_hz: source.map_or(center_hz, |source| source.frequency_hz),
        start: group.start,
        recordings: group.members.into_iter().map(|heard| heard.entry).collect(),
    }
}

/// The second of an instant, in the form `20200813T065220Z`.
fn time_text(time: UtcTime) -> String {
    match Timestamp::from_second(time.seconds) {
        Ok(timestamp) => timestamp.strftime("%Y%m%dT%H%M%SZ").to_string(),
        // Beyond the years of people.
        Err(_) => time.seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use heimdall_features::ClockQuality;
    use heimdall_geo::Position;

    use super::*;
    use crate::RecordingFormat;

    /// A recording from `start_s` to `end_s` after 2020-01-01T00:00:00Z, at 12 kHz.
    fn heard(receiver: &str, frequency_hz: f64, start_s: f64, end_s: f64) -> Heard {
        let seconds = 1_577_836_800 + start_s.floor() as i64;
        Heard {
            path: format!("{receiver}-{start_s}.wav").into(),
            entry: RecordingEntry {
                receiver: receiver.to_owned(),
                object: "x".to_owned(),
                format: RecordingFormat::KiwiWav,
                sample_rate_hz: 12_000.0,
                center_frequency_hz: frequency_hz,
                start: UtcTime { seconds, nanoseconds: (start_s.fract() * 1e9) as u32 },
                clock: ClockQuality::Unknown,
                sample_count: ((end_s - start_s) * 12_000.0) as u64,
                digest: "0".repeat(64),
            },
        }
    }

    fn receivers(event: &EventEntry) -> Vec<&str> {
        event.recordings.iter().map(|recording| recording.receiver.as_str()).collect()
    }

    #[test]
    fn successive_files_of_each_receiver_become_successive_events() {
        let files = vec![
            heard("b", 60e3, 30.5, 60.5),
            heard("a", 60e3, 30.0, 60.0),
            heard("a", 60e3, 0.0, 30.0),
            heard("b", 60e3, 0.5, 30.5),
            heard("c", 60e3, 29.0, 59.0),
            heard("a", 77.5e3, 0.0, 30.0),
        ];

        let events = group_events(files, &[]).unwrap();

        let found: Vec<_> =
            events.iter().map(|event| (event.id.as_str(), receivers(event))).collect();
        assert_eq!(
            found,
            [
                ("20200101T000000Z_60000", vec!["a", "b"]),
                ("20200101T000000Z_77500", vec!["a"]),
                ("20200101T000029Z_60000", vec!["c", "a", "b"]),
            ]
            .map(|(id, receivers)| (id, receivers)),
        );
    }

    #[test]
    fn two_recordings_of_one_receiver_at_one_time_are_refused() {
        let files = vec![
            heard("a", 60e3, 0.0, 30.0),
            heard("b", 60e3, 1.0, 31.0),
            heard("a", 60e3, 10.0, 40.0),
        ];

        match group_events(files, &[]) {
            Err(DataError::OverlappingRecordings { receiver, first, second }) => {
                assert_eq!(receiver, "a");
                assert_eq!((first, second), ("a-0.wav".into(), "a-10.wav".into()));
            }
            other => panic!("they give {other:?}"),
        }
    }

    #[test]
    fn nearest_source_within_the_band_is_the_one() {
        let source = |name: &str, frequency_hz| KnownSource {
            name: name.to_owned(),
            frequency_hz,
            position: Position::new(50.0, 9.0).ok(),
        };
        let sources =
            [source("far", 66_001.0), source("near", 60_100.0), source("other", 59_000.0)];
        let event = |frequency_hz| {
            group_events(vec![heard("a", frequency_hz, 0.0, 1.0)], &sources).unwrap().remove(0)
        };

        let known = event(60e3);
        assert_eq!((known.source.as_str(), known.session.as_str()), ("near", "near_20200101"));
        assert_eq!((known.position, known.frequency_hz), (sources[1].position, 60_100.0));

        let unknown = event(4.996e6);
        assert_eq!((unknown.source.as_str(), unknown.position), ("unknown_4996000", None));
        assert_eq!(unknown.frequency_hz, 4.996e6);
    }

    #[test]
    fn short_events_within_one_second_have_different_names() {
        let files = vec![heard("a", 60e3, 0.0, 0.25), heard("a", 60e3, 0.5, 0.75)];

        let events = group_events(files, &[]).unwrap();

        let ids: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids, ["20200101T000000Z_60000", "20200101T000000Z_60000_2"]);
    }
}

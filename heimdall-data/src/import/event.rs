//! Groups recordings of one emission into events.

use std::collections::HashSet;
use std::path::PathBuf;

use heimdall_features::UtcTime;
use jiff::Timestamp;

use super::table::KnownSource;
use crate::recording::SigmfCollection;
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

/// Two recordings at one frequency that overlap.
struct Overlap {
    duration_s: f64,
    first: usize,
    second: usize,
}

/// Recordings that share a stretch of time, in seconds after the first of all.
struct Group {
    common_start_s: f64,
    common_end_s: f64,
    members: Vec<usize>,
}

/// Makes an event of the recordings that were made at one frequency and at one time.
///
/// All recordings of an event have a stretch of time in common, and are of different receivers.
/// Those with the longest overlap come together first, so that each of successive files of one
/// receiver finds the files that belong to it.
///
/// # Errors
///
/// [`DataError::OverlappingRecordings`] if two recordings of one receiver overlap.
pub(super) fn group_events(
    mut heard: Vec<Heard>,
    sources: &[KnownSource],
    ids: &mut HashSet<String>,
) -> Result<Vec<EventEntry>, DataError> {
    heard.sort_by(|a, b| (a.entry.start, &a.path).cmp(&(b.entry.start, &b.path)));
    let Some(origin) = heard.first().map(|heard| heard.entry.start) else {
        return Ok(Vec::new());
    };
    let spans_s: Vec<(f64, f64)> = heard.iter().map(|heard| span_s(&heard.entry, origin)).collect();

    let mut group_of: Vec<usize> = (0..heard.len()).collect();
    let mut groups: Vec<Group> = (spans_s.iter().enumerate())
        .map(|(index, &(common_start_s, common_end_s))| Group {
            common_start_s,
            common_end_s,
            members: vec![index],
        })
        .collect();
    for Overlap { first, second, .. } in find_overlaps(&heard, &spans_s)? {
        let (into, from) =
            (group_of[first].min(group_of[second]), group_of[first].max(group_of[second]));
        if into == from {
            continue;
        }
        let common_start_s = groups[into].common_start_s.max(groups[from].common_start_s);
        let common_end_s = groups[into].common_end_s.min(groups[from].common_end_s);
        let shared_receiver = groups[into].members.iter().any(|&a| {
            groups[from].members.iter().any(|&b| heard[a].entry.receiver == heard[b].entry.receiver)
        });
        if common_end_s - common_start_s < OVERLAP_S_MIN || shared_receiver {
            continue;
        }
        let moved = std::mem::take(&mut groups[from].members);
        for &member in &moved {
            group_of[member] = into;
        }
        groups[into].members.extend(moved);
        groups[into].members.sort_unstable();
        (groups[into].common_start_s, groups[into].common_end_s) = (common_start_s, common_end_s);
    }

    // A group has the place of its earliest member, so that events are in the order of time.
    let mut entries: Vec<_> = heard.into_iter().map(|heard| Some(heard.entry)).collect();
    Ok(groups
        .into_iter()
        .filter(|group| !group.members.is_empty())
        .map(|group| group.members.iter().filter_map(|&member| entries[member].take()).collect())
        .map(|recordings| event_of(recordings, sources, ids))
        .collect())
}

/// Makes an event of the recordings of a collection, of which there is at least one.
///
/// What the collection does not tell is told by the recordings; its name is that of its file.
pub(super) fn event_of_collection(
    collection: &SigmfCollection,
    heard: Vec<Heard>,
    sources: &[KnownSource],
    ids: &mut HashSet<String>,
) -> EventEntry {
    let mut recordings: Vec<_> = heard.into_iter().map(|heard| heard.entry).collect();
    recordings.sort_by(|a, b| (a.start, &a.receiver).cmp(&(b.start, &b.receiver)));
    let found = event_of(recordings, sources, &mut HashSet::new());
    let id = collection.event.clone().unwrap_or_else(|| collection.stem.clone());
    ids.insert(id.clone());
    let position = match collection.source {
        Some(_) => collection.position,
        None => collection.position.or(found.position),
    };
    EventEntry {
        id,
        session: collection.session.clone().unwrap_or(found.session),
        source: collection.source.clone().unwrap_or(found.source),
        position,
        frequency_hz: collection.frequency_hz.unwrap_or(found.frequency_hz),
        start: collection.start.unwrap_or(found.start),
        waveform: collection.waveform.clone(),
        recordings: found.recordings,
        levels: Vec::new(),
    }
}

/// Lists the pairs of recordings that overlap, the longest overlap first.
fn find_overlaps(heard: &[Heard], spans_s: &[(f64, f64)]) -> Result<Vec<Overlap>, DataError> {
    let mut overlaps = Vec::new();
    for (first, a) in heard.iter().enumerate() {
        let (_, end_s) = spans_s[first];
        // Later ones start after this one has ended.
        let open = spans_s[first + 1..].iter().take_while(|(start_s, _)| *start_s < end_s);
        for (second, &(other_start_s, other_end_s)) in (first + 1..).zip(open) {
            let b = &heard[second];
            let duration_s = end_s.min(other_end_s) - other_start_s;
            let (hz, other_hz) = (a.entry.center_frequency_hz, b.entry.center_frequency_hz);
            if duration_s < OVERLAP_S_MIN || hz.total_cmp(&other_hz).is_ne() {
                continue;
            }
            if a.entry.receiver == b.entry.receiver {
                return Err(DataError::OverlappingRecordings {
                    receiver: a.entry.receiver.clone(),
                    first: a.path.clone(),
                    second: b.path.clone(),
                });
            }
            overlaps.push(Overlap { duration_s, first, second });
        }
    }
    // Stable, so that equals stay in the order of time.
    overlaps.sort_by(|a, b| b.duration_s.total_cmp(&a.duration_s));
    Ok(overlaps)
}

fn span_s(entry: &RecordingEntry, origin: UtcTime) -> (f64, f64) {
    let start_s = entry.start.seconds_since(&origin);
    (start_s, start_s + entry.sample_count as f64 / entry.sample_rate_hz)
}

/// Makes an event of recordings in the order of their starts, of which there is at least one.
fn event_of(
    recordings: Vec<RecordingEntry>,
    sources: &[KnownSource],
    ids: &mut HashSet<String>,
) -> EventEntry {
    let start = recordings[0].start;
    let center_hz = recordings[0].center_frequency_hz;
    let half_band_hz = recordings[0].sample_rate_hz / 2.0;
    let offset_hz = |source: &&KnownSource| (source.frequency_hz - center_hz).abs();
    let source = sources
        .iter()
        .filter(|source| offset_hz(source) <= half_band_hz)
        .min_by(|a, b| offset_hz(a).total_cmp(&offset_hz(b)));
    let source_name =
        source.map_or_else(|| format!("unknown_{center_hz}"), |source| source.name.clone());

    let time = time_text(start);
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
        start,
        waveform: None,
        recordings,
        levels: Vec::new(),
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

        let events = group_events(files, &[], &mut HashSet::new()).unwrap();

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

        match group_events(files, &[], &mut HashSet::new()) {
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
            group_events(vec![heard("a", frequency_hz, 0.0, 1.0)], &sources, &mut HashSet::new())
                .unwrap()
                .remove(0)
        };

        let known = event(60e3);
        assert_eq!((known.source.as_str(), known.session.as_str()), ("near", "near_20200101"));
        assert_eq!((known.position, known.frequency_hz), (sources[1].position, 60_100.0));

        let unknown = event(4.996e6);
        assert_eq!((unknown.source.as_str(), unknown.position), ("unknown_4996000", None));
        assert!((unknown.frequency_hz - 4.996e6).abs() < 1e-6);
    }

    #[test]
    fn short_events_within_one_second_have_different_names() {
        let files = vec![heard("a", 60e3, 0.0, 0.25), heard("a", 60e3, 0.5, 0.75)];

        let events = group_events(files, &[], &mut HashSet::new()).unwrap();

        let ids: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids, ["20200101T000000Z_60000", "20200101T000000Z_60000_2"]);
    }
}

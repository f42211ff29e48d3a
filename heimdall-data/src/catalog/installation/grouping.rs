//! Groups the measurements of a session into events.

use std::collections::HashSet;

use heimdall_features::UtcTime;
use jiff::Timestamp;

use super::row::MeasurementRow;
use super::{InstalledEvent, InstalledRecording, LeftOut, Session};
use crate::LevelEntry;

/// Measurements of one emission begin within this time of each other, at least, in microseconds:
/// receivers are not started at the same moment.
const TOGETHER_US: i64 = 1_000_000;

/// A measurement that can be used, of a station that is known.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    row: MeasurementRow,
    receiver: String,
    frequency_hz: f64,
    start_us: i64,
    end_us: i64,
}

impl Measured {
    pub(super) fn new(
        receiver: &str,
        frequency_hz: f64,
        start_us: i64,
        row: &MeasurementRow,
    ) -> Self {
        let sampled_s = row.sample_count.zip(row.sample_rate_hz).map(|(count, rate)| count / rate);
        let duration_s = sampled_s.filter(|s| s.is_finite()).or(row.duration_s).unwrap_or(0.0);
        // A duration of a year or more is none, and no number of microseconds is too large below.
        let duration_us = (duration_s.clamp(0.0, 3.2e7) * 1e6) as i64;
        Self {
            row: row.clone(),
            receiver: receiver.to_owned(),
            frequency_hz,
            start_us,
            end_us: start_us.saturating_add(duration_us.max(TOGETHER_US)),
        }
    }
}

/// Measurements of one frequency that have a stretch of time in common, of different receivers.
struct Group {
    members: Vec<Measured>,
    common_end_us: i64,
}

/// Makes events of measurements, which are in the order of time. What one receiver measured a second
/// time of an emission is left out.
pub(super) fn group(
    session: &Session,
    measured: Vec<Measured>,
    left_out: &mut Vec<LeftOut>,
) -> Vec<InstalledEvent> {
    let mut groups: Vec<Group> = Vec::new();
    for measured in measured {
        let open = groups.iter_mut().rev().find(|group| {
            group.members[0].frequency_hz.total_cmp(&measured.frequency_hz).is_eq()
                && measured.start_us < group.common_end_us
        });
        let Some(group) = open else {
            let common_end_us = measured.end_us;
            groups.push(Group { members: vec![measured], common_end_us });
            continue;
        };
        match group.members.iter().find(|member| member.receiver == measured.receiver) {
            None => {
                group.common_end_us = group.common_end_us.min(measured.end_us);
                group.members.push(measured);
            }
            Some(first) if measured.start_us - first.start_us < TOGETHER_US => {
                left_out.push(LeftOut {
                    row: format!("measurement `{}`", measured.row.id),
                    reason: format!(
                        "`{}` has measured the same already, in `{}`",
                        measured.receiver, first.row.id
                    ),
                });
            }
            Some(_) => {
                let common_end_us = measured.end_us;
                groups.push(Group { members: vec![measured], common_end_us });
            }
        }
    }
    let mut ids = HashSet::new();
    groups.into_iter().map(|group| event(session, group.members, &mut ids)).collect()
}

fn event(session: &Session, members: Vec<Measured>, ids: &mut HashSet<String>) -> InstalledEvent {
    let Measured { start_us, frequency_hz, .. } = members[0];
    let first_id =
        format!("{}_{}_{frequency_hz}", session.id.get(..8).unwrap_or(&session.id), name(start_us));
    let mut id = first_id.clone();
    let mut count = 1;
    while !ids.insert(id.clone()) {
        count += 1;
        id = format!("{first_id}_{count}");
    }
    let level = |member: &Measured| LevelEntry {
        receiver: member.receiver.clone(),
        rss_db: member.row.rss_db.filter(|db| db.is_finite()),
        snr_db: member.row.snr_db.filter(|db| db.is_finite()),
        ..LevelEntry::default()
    };
    let has_level = |level: &LevelEntry| level.rss_db.is_some() || level.snr_db.is_some();
    let recording = |member: &Measured| {
        Some(InstalledRecording {
            receiver: member.receiver.clone(),
            location: member.row.location.clone()?,
            format: member.row.format.clone(),
            sample_rate_hz: member.row.sample_rate_hz.filter(|hz| *hz > 0.0),
            center_frequency_hz: member.frequency_hz,
            start: instant(member.start_us),
        })
    };
    InstalledEvent {
        id,
        session: session.name.clone(),
        source: session.source.clone(),
        position: session.position,
        frequency_hz,
        start: instant(start_us),
        recordings: members.iter().filter_map(recording).collect(),
        levels: members.iter().map(level).filter(has_level).collect(),
    }
}

fn instant(microseconds: i64) -> UtcTime {
    UtcTime {
        seconds: microseconds.div_euclid(1_000_000),
        // Below a billion.
        nanoseconds: (microseconds.rem_euclid(1_000_000) * 1000) as u32,
    }
}

/// An instant as a part of a name, in the form `20200813T065220Z`.
fn name(microseconds: i64) -> String {
    let seconds = microseconds.div_euclid(1_000_000);
    match Timestamp::from_second(seconds) {
        Ok(timestamp) => timestamp.strftime("%Y%m%dT%H%M%SZ").to_string(),
        // Beyond the years of people.
        Err(_) => seconds.to_string(),
    }
}

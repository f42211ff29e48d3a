//! Seconds and memory for a catalog of a million recordings: written, counted, listed, split.
//!
//! It lies in a file of SQLite; with `HEIMDALL_BENCH_CATALOG=postgres://…` in that database instead.
//! `HEIMDALL_BENCH_EVENTS` sets another number of events, each of which has four recordings.

use std::fs;
use std::time::Instant;

use heimdall_data::{
    Catalog, EventEntry, EventFilter, EventLabel, RecordingEntry, RecordingFormat, SplitConfig,
    split,
};
use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::{LocalFrame, Position, Receiver};

const RECEIVERS: usize = 4;
/// Events that are written or read at a time.
const PAGE: u32 = 1000;

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]
#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Cargo says so when it measures; when it tests all targets, this one has no tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let events: usize =
        std::env::var("HEIMDALL_BENCH_EVENTS").map_or(Ok(250_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("catalog.db").display().to_string();
    let address = std::env::var("HEIMDALL_BENCH_CATALOG").unwrap_or(file);
    let catalog = Catalog::connect(&address).await?;
    println!("{events} events, {} recordings", events * RECEIVERS);
    println!("{:<24} {:>8} {:>14}", "", "s", "MB in all");
    let report = |what: &str, start: Instant| -> Result<(), Failure> {
        let seconds = start.elapsed().as_secs_f64();
        println!("{what:<24} {seconds:>8.2} {:>14.0}", anonymous_mb()?);
        Ok(())
    };

    let start = Instant::now();
    catalog.add_receivers(&(0..RECEIVERS).map(receiver).collect::<Result<Vec<_>, _>>()?).await?;
    for first in (0..events).step_by(PAGE as usize) {
        let page: Result<Vec<_>, _> =
            (first..events.min(first + PAGE as usize)).map(event).collect();
        catalog.add_events(&page?).await?;
    }
    report("written", start)?;

    let start = Instant::now();
    let stats = catalog.stats().await?;
    assert_eq!(stats.recordings, (events * RECEIVERS) as u64);
    report("counted", start)?;

    let start = Instant::now();
    let sessions = catalog.sessions(&EventFilter::any()).await?.len();
    report(&format!("{sessions} sessions listed"), start)?;

    let start = Instant::now();
    let origin = Position::new(45.0, 8.0)?;
    let frame = LocalFrame { origin };
    let (mut labels, mut after) = (Vec::new(), None);
    loop {
        let page = catalog.page(&EventFilter::default(), after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        labels.extend(page.into_iter().map(|event| EventLabel {
            event: event.id,
            session: event.session,
            source: event.source,
            position_km: event.position.map(|position| frame.to_local(&position)),
            time: Some(event.start),
            waveform: event.waveform,
        }));
    }
    assert_eq!(labels.len(), events);
    report("events listed", start)?;

    let start = Instant::now();
    let parts = split(&labels, &SplitConfig::default())?;
    assert_eq!(parts.len(), events);
    report("split", start)?;

    let start = Instant::now();
    catalog.watermark(&EventFilter::default()).await?;
    report("watermark computed", start)?;
    Ok(())
}

/// Memory that this process has for itself, in MB, files not counted.
fn anonymous_mb() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    Ok(kilobytes.parse::<f64>()? / 1024.0)
}

fn receiver(index: usize) -> Result<Receiver, Failure> {
    Ok(Receiver {
        name: format!("receiver-{index}"),
        position: Position::new(45.0 + index as f64 * 0.1, 8.0)?,
        altitude_m: 100.0,
        antenna_height_m: 10.0,
    })
}

fn event(index: usize) -> Result<EventEntry, Failure> {
    let start = UtcTime { seconds: 1_700_000_000 + 60 * index as i64, nanoseconds: 0 };
    let recording = |receiver: usize| RecordingEntry {
        receiver: format!("receiver-{receiver}"),
        object: format!("{index:09}-{receiver}.npy"),
        format: RecordingFormat::Npy,
        sample_rate_hz: 12_000.0,
        center_frequency_hz: 145.5e6,
        start,
        clock: ClockQuality::Unknown,
        sample_count: 60_000,
        digest: format!("{:064x}", index * RECEIVERS + receiver),
    };
    Ok(EventEntry {
        id: format!("event-{index:09}"),
        session: format!("session-{:07}", index / 20),
        source: format!("source-{:05}", index / 400),
        position: Some(Position::new(44.0 + (index / 400) as f64 * 1e-4, 8.5)?),
        frequency_hz: 145.5e6,
        start,
        waveform: None,
        recordings: (0..RECEIVERS).map(recording).collect(),
        levels: Vec::new(),
    })
}

//! Stage `locate`: recordings in, a position out.

use std::collections::BTreeMap;
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use heimdall_data::{EventEntry, Recordings};
use heimdall_features::{DelayConfig, DelayEstimate, IqRecording, measure_delay};
use heimdall_geo::{
    DelayFix, DelaySolverConfig, Ellipse, GeoError, LocalFrame, Location, PairDelay, Position,
    Receiver, Region, SPEED_OF_LIGHT_KM_S, locate_by_delays, mahalanobis_squared_at,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::PipelineError;
use crate::report::fix_page;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Version of `fix.json`.
const FORMAT_VERSION: u32 = 2;

/// Time by which a delay may exceed that of light between the receivers: the ground wave and the
/// receivers' filters take a little longer.
pub(crate) const DELAY_SLACK_S: f64 = 200e-6;

/// Finds a transmitter from the delays between the recordings of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocateStage {
    /// Where the transmitter is looked for.
    pub region: Region,
    /// How the delay between two recordings is measured.
    #[serde(default)]
    pub delay: DelayConfig,
    /// How delays become a position.
    #[serde(default)]
    pub solver: DelaySolverConfig,
}

/// What is written about all events of the recordings.
#[derive(Clone, Debug, Serialize)]
struct FixFile<'a> {
    format_version: u32,
    region: &'a Region,
    events: &'a [LocatedEvent],
}

/// Where the transmitter of an event is, and how that was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LocatedEvent {
    /// Name of the event.
    pub(crate) event: String,
    /// Receivers that recorded it.
    pub(crate) receivers: Vec<Receiver>,
    /// What the recordings of two receivers say, or why they say nothing.
    pub(crate) pairs: Vec<MeasuredPair>,
    /// `fix`, `ambiguous` or `no_fix`.
    pub(crate) status: &'static str,
    /// Why there is no fix.
    pub(crate) reason: Option<String>,
    /// The most likely position, where there is a fix.
    pub(crate) fix: Option<LocatedFix>,
    /// Other positions that the delays do not rule out, the most likely one first.
    pub(crate) alternatives: Vec<LocatedFix>,
    /// The true position, where it is known.
    pub(crate) truth: Option<Position>,
}

/// A position, and how it compares with the truth.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LocatedFix {
    /// The position, and how well it explains the delays.
    pub(crate) estimate: DelayFix,
    /// The region around it that holds the transmitter with 95 % probability, if this is the place.
    pub(crate) region_95: Ellipse,
    /// How it compares with the true position, where that is known.
    pub(crate) truth: Option<ComparedTruth>,
}

/// The delay between two receivers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MeasuredPair {
    /// Name of the first receiver.
    pub(crate) first: String,
    /// Name of the second receiver.
    pub(crate) second: String,
    /// The delay, where it could be measured.
    pub(crate) delay: Option<Delay>,
    /// Why it could not be.
    pub(crate) refused: Option<String>,
}

/// A measured delay, with what tells how good it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Delay {
    /// Arrival at the second receiver minus arrival at the first, in seconds.
    pub(crate) delay_s: f64,
    /// Standard deviation from noise and clocks, in seconds.
    pub(crate) sigma_s: f64,
    /// Highest peak of the correlation over the second highest.
    pub(crate) peak_ratio: f64,
    /// Effective bandwidth of the common signal, in Hz.
    pub(crate) bandwidth_hz: f64,
    /// Correlation coefficient of the two recordings in the band.
    pub(crate) coherence: f64,
    /// Difference of the frequencies, in Hz.
    pub(crate) frequency_difference_hz: f64,
}

/// How a fix compares with the truth.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ComparedTruth {
    /// Distance from one to the other, along the geodesic, in km.
    pub(crate) error_km: f64,
    /// Whether it lies in the region of 95 %.
    pub(crate) in_region_95: bool,
}

impl LocateStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        self.delay.validate()?;
        self.solver.validate()?;
        Ok(())
    }

    /// Writes `fix.json` and `report.html`: of events that cannot be located, the reason.
    ///
    /// # Errors
    ///
    /// Stops at the first recording that cannot be read, and at an event of a receiver that is not in
    /// the catalog.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let recordings = Recordings::open(context.input("recordings")).await?;
        let network = recordings.catalog().receivers().await?;
        let events = recordings.catalog().events().await?;
        if events.is_empty() {
            return Err(PipelineError::NoRecordings);
        }
        let mut located = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            context.check_cancelled()?;
            context.progress(index as u64, events.len() as u64, format!("locating {}", event.id));
            let reads: Vec<_> =
                event.recordings.iter().map(|entry| recordings.load(entry)).collect();
            let samples: Vec<IqRecording> =
                stream::iter(reads).buffered(event.recordings.len().max(1)).try_collect().await?;
            let receivers = receivers_of(event, &network)?;
            let (stage, event, context) = (self.clone(), event.clone(), context.clone());
            let locating =
                spawn_blocking(move || stage.locate(&event, receivers, &samples, &context));
            located.push(locating.await.expect("locating does not panic")?);
        }
        recordings.close().await?;
        self.write(context.output("fix"), context, &located).await?;
        Ok(summary(&located))
    }

    /// Measures the delays of an event and solves for the position.
    fn locate(
        &self,
        event: &EventEntry,
        receivers: Vec<Receiver>,
        samples: &[IqRecording],
        context: &StageContext,
    ) -> Result<LocatedEvent, PipelineError> {
        let indices: Vec<(usize, usize)> = (0..receivers.len())
            .flat_map(|first| (first + 1..receivers.len()).map(move |second| (first, second)))
            .collect();
        let measured = indices
            .par_iter()
            .map(|&(first, second)| {
                let (a, b) = (&receivers[first].position, &receivers[second].position);
                let delay_s_max = a.distance_km(b) / SPEED_OF_LIGHT_KM_S + DELAY_SLACK_S;
                context.check_cancelled()?;
                Ok(measure_delay(&samples[first], &samples[second], delay_s_max, &self.delay))
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;

        let mut delays = Vec::new();
        let mut pairs = Vec::new();
        for (&(first, second), estimate) in indices.iter().zip(measured) {
            if let Ok(DelayEstimate { delay_s, sigma_s, .. }) = estimate {
                delays.push(PairDelay { first, second, delay_s, sigma_s });
            }
            pairs.push(MeasuredPair::new(&receivers[first], &receivers[second], estimate));
        }
        let positions: Vec<Position> = receivers.iter().map(|receiver| receiver.position).collect();
        let location = locate_by_delays(&positions, &delays, &self.region, &self.solver)?;
        let compared = |fix: &DelayFix| LocatedFix::of(fix, event.position.as_ref());
        let reason = match &location {
            Location::NoFix(reason) => Some(reason.to_string()),
            Location::Fix(_) | Location::Ambiguous { .. } => None,
        };
        if let Some(reason) = &reason {
            warn!(event = event.id, reason, "no fix");
        }
        Ok(LocatedEvent {
            event: event.id.clone(),
            receivers,
            pairs,
            status: location.status(),
            reason,
            fix: location.best().map(compared).transpose()?,
            alternatives: location.alternatives().iter().map(compared).collect::<Result<_, _>>()?,
            truth: event.position,
        })
    }

    async fn write(
        &self,
        folder: &Path,
        context: &StageContext,
        events: &[LocatedEvent],
    ) -> Result<(), PipelineError> {
        let file = FixFile { format_version: FORMAT_VERSION, region: &self.region, events };
        let json = serde_json::to_vec_pretty(&file).expect("a fix is plain data");
        let page = fix_page(&context.facts().pipeline, events)?;
        for (name, content) in [("fix.json", json), ("report.html", page.into_bytes())] {
            let path = folder.join(name);
            tokio::fs::write(&path, content).await.map_err(PipelineError::io("write", &path))?;
        }
        Ok(())
    }
}

impl LocatedFix {
    fn of(fix: &DelayFix, truth: Option<&Position>) -> Result<Self, GeoError> {
        let truth = truth.map(|position| {
            let offset = LocalFrame { origin: fix.position }.to_local(position);
            let squared = fix.covariance.mahalanobis_squared(offset);
            ComparedTruth {
                error_km: fix.position.distance_km(position),
                in_region_95: squared <= mahalanobis_squared_at(0.95),
            }
        });
        let region_95 = Ellipse::of(&fix.covariance, 0.95)?;
        Ok(Self { estimate: fix.clone(), region_95, truth })
    }
}

impl MeasuredPair {
    fn new(
        first: &Receiver,
        second: &Receiver,
        estimate: Result<DelayEstimate, heimdall_features::FeatureError>,
    ) -> Self {
        let (first, second) = (first.name.clone(), second.name.clone());
        match estimate {
            Ok(estimate) => {
                let delay = Delay {
                    delay_s: estimate.delay_s,
                    sigma_s: estimate.sigma_s,
                    peak_ratio: estimate.peak_ratio,
                    bandwidth_hz: estimate.bandwidth_hz,
                    coherence: estimate.coherence,
                    frequency_difference_hz: estimate.frequency_difference_hz,
                };
                Self { first, second, delay: Some(delay), refused: None }
            }
            Err(error) => {
                warn!(first, second, %error, "no delay");
                Self { first, second, delay: None, refused: Some(error.to_string()) }
            }
        }
    }
}

/// The receivers that recorded an event, in the order of its recordings.
fn receivers_of(event: &EventEntry, network: &[Receiver]) -> Result<Vec<Receiver>, PipelineError> {
    let find = |name: &str| network.iter().find(|receiver| receiver.name == name).cloned();
    let receivers = event.recordings.iter().map(|entry| {
        find(&entry.receiver).ok_or_else(|| PipelineError::UnknownReceiver {
            event: event.id.clone(),
            receiver: entry.receiver.clone(),
        })
    });
    receivers.collect()
}

/// The figures of the fixes: under plain names for a single event, else under `EVENT.name`; and how
/// many events have which status.
fn summary(events: &[LocatedEvent]) -> StageOutput {
    let mut metrics: BTreeMap<String, f64> = ["fix", "ambiguous", "no_fix"]
        .map(|status| (status.to_owned(), count(events, status) as f64))
        .into();
    for event in events {
        let Some(LocatedFix { estimate, region_95, truth }) = &event.fix else { continue };
        let prefix = if events.len() == 1 { String::new() } else { format!("{}.", event.event) };
        let mut put = |name: &str, value: f64| metrics.insert(format!("{prefix}{name}"), value);
        put("latitude", estimate.position.latitude_deg());
        put("longitude", estimate.position.longitude_deg());
        put("region_95_area_km2", region_95.area_km2());
        put("alternatives", event.alternatives.len() as f64);
        if let Some(truth) = truth {
            put("error_km", truth.error_km);
            put("region_95_contains_truth", f64::from(u8::from(truth.in_region_95)));
        }
    }
    let headline = match events {
        [event] => headline(event),
        _ => {
            let no_fix = count(events, "no_fix");
            format!("{} of {} events located", events.len() - no_fix, events.len())
        }
    };
    StageOutput { metrics, headline: Some(headline) }
}

fn count(events: &[LocatedEvent], status: &str) -> usize {
    events.iter().filter(|event| event.status == status).count()
}

/// What came of a single event.
fn headline(event: &LocatedEvent) -> String {
    let Some(LocatedFix { estimate, region_95, truth }) = &event.fix else {
        return format!("no fix: {}", event.reason.as_deref().unwrap_or_default());
    };
    let Ellipse { semi_major_km, semi_minor_km, azimuth_deg } = region_95;
    let error = truth.map_or_else(String::new, |truth| {
        let contains = if truth.in_region_95 { "contains" } else { "misses" };
        format!(" · error {:.2} km, the ellipse {contains} the truth", truth.error_km)
    });
    let others = match event.alternatives.len() {
        0 => String::new(),
        others => format!(" · or at one of {others} other places"),
    };
    format!(
        "{:.4}, {:.4} · 95 % ellipse {semi_major_km:.1} × {semi_minor_km:.1} km at \
         {azimuth_deg:.0}°{others}{error}",
        estimate.position.latitude_deg(),
        estimate.position.longitude_deg()
    )
}

//! A world: everything that stays the same from event to event, and the events in it.

use heimdall_features::{IqRecording, UtcTime};
use heimdall_geo::{LocalFrame, LocalPosition, Position, Receiver};
use num_complex::Complex32;

use crate::area::Area;
use crate::channel::{Content, receive};
use crate::latents::CHANNEL_WIDTH_HZ;
use crate::multipath::Paths;
use crate::propagation::SPEED_OF_LIGHT_KM_PER_S;
use crate::random::{Purpose, RandomStream, StreamKey};
use crate::session::{Session, SessionLink};
use crate::shadowing::RandomFields;
use crate::waveform::{Emission, Modulator};
use crate::{
    Agc, EventLatents, LinkEstimator, LinkEvent, LinkLatents, SimError, SimulatedEvent,
    WaveformKind, WorldConfig,
};

/// The first session starts at 2026-01-01T00:00:00Z, in s since 1970.
const FIRST_START_S: i64 = 1_767_225_600;
/// Events of a session start this long after one another, in s; a recording takes a minute at most.
const EVENT_SPACING_S: i64 = 60;
/// A session starts this long after the last event of the one before, in s.
const SESSION_PAUSE_S: i64 = 600;

/// A radio world with known truth.
///
/// Its events are functions of the configuration and their index alone: they can be asked for in
/// any order, in part, and from any number of threads.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) config: WorldConfig,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) frame: LocalFrame,
    pub(crate) area: Area,
    chains: Vec<ReceiverChain>,
    /// Shadowing that all receivers share, then that of each, then the excess delay of each.
    pub(crate) fields: RandomFields,
    modulator: Modulator,
}

/// What is fixed about a receiver.
#[derive(Clone, Copy, Debug)]
struct ReceiverChain {
    gain_db: f64,
    oscillator_ppm: f64,
    noise_dbm_per_hz: f64,
    antenna_gain_db: f64,
    clock_sigma_s: f64,
}

impl World {
    /// Makes a world.
    ///
    /// # Errors
    ///
    /// - [`SimError::InvalidConfig`] or [`SimError::DuplicateReceiver`] if `config` breaks a rule.
    /// - [`SimError::BeyondHorizon`] if the receivers are spread over more than half of the Earth.
    /// - [`SimError::Area`] if the network and its margin do not fit into one local plane.
    pub fn new(config: &WorldConfig) -> Result<Self, SimError> {
        config.validate()?;
        let stations = config.network.stations();
        let receivers: Vec<Receiver> =
            stations.iter().map(|station| station.receiver.clone()).collect();
        let positions: Vec<Position> = receivers.iter().map(|receiver| receiver.position).collect();
        let frame = LocalFrame::centered_on(&positions).map_err(SimError::Area)?;
        let places: Vec<LocalPosition> = positions.iter().map(|p| frame.to_local(p)).collect();
        for (receiver, place) in receivers.iter().zip(&places) {
            // A place on the far side of the Earth falls onto the plane like one on the near side.
            let lifted = frame.to_position(place).map_err(SimError::Area)?;
            if lifted.distance_km(&receiver.position) > 1e-3 {
                return Err(SimError::BeyondHorizon { name: receiver.name.clone() });
            }
        }
        let area = Area::around(&places, config.margin_km);
        for corner in area.corners() {
            frame.to_position(&corner).map_err(SimError::Area)?;
        }

        let chains = stations
            .iter()
            .enumerate()
            .map(|(place, station)| {
                let key = StreamKey::world(Purpose::ReceiverChain, place);
                let mut random = RandomStream::new(config.seed, key);
                let key = StreamKey::world(Purpose::ReceiverClock, place);
                let mut clock_random = RandomStream::new(config.seed, key);
                let environment = station.environment.unwrap_or(config.noise.environment);
                ReceiverChain {
                    gain_db: config.receiver_chain.gain_deviation_db * random.normal(),
                    oscillator_ppm: config.receiver_chain.oscillator_ppm * random.normal(),
                    noise_dbm_per_hz: config
                        .noise
                        .density_dbm_per_hz(environment, config.frequency_hz),
                    antenna_gain_db: station.antenna_gain_db,
                    clock_sigma_s: config.receiver_chain.clock.draw_sigma_s(&mut clock_random),
                }
            })
            .collect();
        let fields = RandomFields::draw(
            1 + 2 * receivers.len(),
            config.shadowing.waves,
            config.shadowing.correlation_km,
            &mut RandomStream::new(config.seed, StreamKey::world(Purpose::Field, 0)),
        );
        let modulator = Modulator::new(&config.waveforms, config.duration_s);
        Ok(Self { config: config.clone(), receivers, frame, area, chains, fields, modulator })
    }

    /// The configuration that made this world.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// The receivers, in the order of the network.
    pub fn receivers(&self) -> &[Receiver] {
        &self.receivers
    }

    /// The plane around the receivers.
    pub fn frame(&self) -> &LocalFrame {
        &self.frame
    }

    /// Counts the events.
    pub fn len(&self) -> usize {
        self.config.sessions * self.config.events_per_session
    }

    /// Whether there are no events at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Computes the truth about an event, without its samples.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn latents(&self, index: usize) -> EventLatents {
        let session = self.session_of(index);
        self.latents_in(&session, index).0
    }

    /// Simulates an event.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn event(&self, index: usize) -> SimulatedEvent {
        let (latents, recorded) = self.simulate(index, Content::All);
        let receptions = latents
            .links
            .iter()
            .zip(recorded)
            .map(|(link, samples)| {
                (!link.outage).then(|| IqRecording {
                    samples,
                    sample_rate_hz: self.config.sample_rate_hz,
                    center_frequency_hz: self.config.frequency_hz,
                    start: latents.start,
                    clock: self.config.receiver_chain.clock.quality(),
                })
            })
            .collect();
        SimulatedEvent {
            index,
            session: latents.session,
            position: latents.position,
            start: latents.start,
            frequency_hz: self.config.frequency_hz,
            latents,
            receptions,
        }
    }

    /// Simulates what an estimator says of an event, without its samples.
    ///
    /// The truth is that of [`event`](Self::event); only the errors of the estimates are others.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn link_event(&self, index: usize, estimator: &LinkEstimator) -> LinkEvent {
        let latents = self.latents(index);
        let measure = |(receiver, link): (usize, &LinkLatents)| {
            let key = StreamKey::link(Purpose::Measurement, index, receiver);
            (!link.outage).then(|| estimator.measure(link, latents.waveform, &mut self.random(key)))
        };
        LinkEvent {
            index,
            session: latents.session,
            position: latents.position,
            start: latents.start,
            frequency_hz: self.config.frequency_hz,
            measurements: latents.links.iter().enumerate().map(measure).collect(),
            latents,
        }
    }

    /// Computes the truth about an event and its samples, which are none during an outage.
    fn simulate(&self, index: usize, content: Content) -> (EventLatents, Vec<Vec<Complex32>>) {
        let session = self.session_of(index);
        let (latents, paths) = self.latents_in(&session, index);
        let emission = self.emission(index, latents.waveform);
        let samples = latents
            .links
            .iter()
            .zip(&paths)
            .enumerate()
            .map(|(receiver, (link, paths))| {
                let key = StreamKey::link(Purpose::Noise, index, receiver);
                receive(
                    &emission,
                    link,
                    paths,
                    self.config.sample_rate_hz,
                    if link.outage { 0 } else { self.config.sample_count() },
                    &mut self.random(key),
                    content,
                )
            })
            .collect();
        (latents, samples)
    }

    /// Random numbers of something that happens in the world.
    pub(crate) fn random(&self, key: StreamKey) -> RandomStream {
        RandomStream::new(self.config.event_seed.unwrap_or(self.config.seed), key)
    }

    fn emission(&self, index: usize, kind: WaveformKind) -> Emission {
        self.modulator.emit(kind, &mut self.random(StreamKey::at(Purpose::Waveform, index)))
    }

    fn session_of(&self, index: usize) -> Session {
        assert!(index < self.len(), "event {index} of a world with {} events", self.len());
        self.session(index / self.config.events_per_session)
    }

    fn latents_in(&self, session: &Session, index: usize) -> (EventLatents, Vec<Paths>) {
        let (links, paths) = session
            .links
            .iter()
            .enumerate()
            .map(|(receiver, link)| self.link_latents(session, link, index, receiver))
            .unzip();
        let latents = EventLatents {
            index,
            session: session.index,
            position: session.position,
            start: self.start(index),
            transmitter: session.transmitter,
            waveform: self
                .config
                .waveforms
                .draw(&mut self.random(StreamKey::at(Purpose::WaveformKind, index))),
            links,
        };
        (latents, paths)
    }

    fn link_latents(
        &self,
        session: &Session,
        link: &SessionLink,
        index: usize,
        receiver: usize,
    ) -> (LinkLatents, Paths) {
        let random = |purpose| self.random(StreamKey::link(purpose, index, receiver));
        let chain = &self.chains[receiver];
        let receiver_chain = &self.config.receiver_chain;
        let paths = link.detours.draw_paths(&mut random(Purpose::Fading));
        let fading_db = paths.fading_db();
        let received_dbm = session.transmitter.eirp_dbm + chain.antenna_gain_db
            - link.path_loss_db
            - link.shadowing_db
            + fading_db;
        let gain_db = match receiver_chain.agc {
            Some(Agc { level_dbfs }) => {
                let noise_dbm = chain.noise_dbm_per_hz + 10.0 * self.config.sample_rate_hz.log10();
                level_dbfs + receiver_chain.full_scale_dbm - sum_db(received_dbm, noise_dbm)
            }
            None => chain.gain_db,
        };
        let full_scale_db = gain_db - receiver_chain.full_scale_dbm;
        let excess_delay_s = link.detours.excess_delay_s;
        let oscillator_ppm = session.transmitter.oscillator_ppm - chain.oscillator_ppm;
        let latents = LinkLatents {
            outage: random(Purpose::Outage).uniform() < self.config.outage_probability,
            distance_km: link.distance_km,
            path_loss_db: link.path_loss_db,
            shadowing_db: link.shadowing_db,
            fading_db,
            received_dbm,
            noise_dbm_per_hz: chain.noise_dbm_per_hz,
            gain_db,
            signal_dbfs: received_dbm + full_scale_db,
            noise_dbfs_per_hz: chain.noise_dbm_per_hz + full_scale_db,
            snr_db: received_dbm - chain.noise_dbm_per_hz - 10.0 * CHANNEL_WIDTH_HZ.log10(),
            delay_s: link.distance_km / SPEED_OF_LIGHT_KM_PER_S + excess_delay_s,
            excess_delay_s,
            clock_error_s: receiver_chain
                .clock
                .draw_error_s(chain.clock_sigma_s, &mut random(Purpose::Clock)),
            frequency_offset_hz: oscillator_ppm * 1e-6 * self.config.frequency_hz,
        };
        (latents, paths)
    }

    fn start(&self, index: usize) -> UtcTime {
        // Validation keeps the number of events below 2³².
        let session = (index / self.config.events_per_session) as i64;
        UtcTime {
            seconds: FIRST_START_S + index as i64 * EVENT_SPACING_S + session * SESSION_PAUSE_S,
            nanoseconds: 0,
        }
    }
}

/// Sum of two powers in dB.
fn sum_db(a_db: f64, b_db: f64) -> f64 {
    10.0 * (10_f64.powf(a_db / 10.0) + 10_f64.powf(b_db / 10.0)).log10()
}

#[cfg(test)]
mod tests;

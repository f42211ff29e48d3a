//! Laws of a world: the same for everybody, and as strong, late and loud as it says.

use heimdall_features::{FeatureConfig, FeatureExtractor};
use heimdall_geo::GeoError;
use num_complex::Complex64;

use super::*;
use crate::receiver_chain::{Clock, ReceiverChainConfig};
use crate::{Network, TransmitterConfig, WaveformConfig};

/// A world without the things that differ from receiver to receiver or from path to path.
fn plain() -> WorldConfig {
    WorldConfig {
        multipath: None,
        outage_probability: 0.0,
        waveforms: WaveformConfig::only(WaveformKind::NbfmVoice),
        receiver_chain: ReceiverChainConfig {
            oscillator_ppm: 0.0,
            clock: Clock::Gps { sigma_s: 0.0 },
            ..ReceiverChainConfig::default()
        },
        ..WorldConfig::default()
    }
}

fn mean_power(samples: &[Complex32]) -> f64 {
    samples.iter().map(|sample| f64::from(sample.norm_sqr())).sum::<f64>() / samples.len() as f64
}

#[test]
fn event_is_the_same_from_any_thread_in_any_order_and_in_a_longer_world() {
    let config = WorldConfig { sessions: 4, duration_s: 0.02, ..WorldConfig::default() };
    let world = World::new(&config).unwrap();
    let forward: Vec<_> = (0..world.len()).map(|index| world.event(index)).collect();

    let longer = World::new(&WorldConfig { sessions: 40, ..config }).unwrap();
    let mut backward: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let longer = &longer;
                let indices = (worker..forward.len()).rev().filter(move |n| n % 3 == worker);
                scope.spawn(move || indices.map(|index| longer.event(index)).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    backward.sort_by_key(|event| event.index);

    assert_eq!(backward, forward);
    let extractor = FeatureExtractor::new(&FeatureConfig::default(), 24_000.0).unwrap();
    let [estimator, of_longer] =
        [&world, &longer].map(|world| LinkEstimator::new(world.config(), &extractor).unwrap());
    for event in &forward {
        assert_eq!(longer.latents(event.index), event.latents);
        let link_event = world.link_event(event.index, &estimator);
        assert_eq!(link_event.latents, event.latents);
        assert_eq!(link_event, longer.link_event(event.index, &of_longer));
    }
}

#[test]
fn events_of_a_session_share_place_and_transmitter_but_not_samples() {
    let config =
        WorldConfig { duration_s: 0.02, outage_probability: 0.0, ..WorldConfig::default() };
    let world = World::new(&config).unwrap();

    let [first, second, other] = [4, 5, 8].map(|index| world.event(index));

    assert_eq!((first.session, second.session, other.session), (1, 1, 2));
    assert_eq!(first.position, second.position);
    assert_eq!(first.latents.transmitter, second.latents.transmitter);
    assert_ne!(first.position, other.position);
    assert_ne!(first.receptions[0], second.receptions[0]);
    assert!(first.start < second.start && second.start < other.start);
}

#[test]
fn other_seed_is_another_world() {
    let world = |seed| World::new(&WorldConfig { seed, ..WorldConfig::default() }).unwrap();

    let [first, second] = [world(1).latents(0), world(2).latents(0)];

    assert_ne!(first.position, second.position);
    assert!(
        first.links.iter().zip(&second.links).all(|(a, b)| (a.gain_db - b.gain_db).abs() > 1e-9)
    );
}

#[test]
fn other_event_seed_is_another_day_in_the_same_world() {
    let config = WorldConfig {
        transmitters: TransmitterConfig { power_deviation_db: 0.0, ..Default::default() },
        ..WorldConfig::default()
    };
    let today = World::new(&config).unwrap();
    let tomorrow = World::new(&WorldConfig { event_seed: Some(9), ..config }).unwrap();

    assert_ne!(today.latents(0).position, tomorrow.latents(0).position);
    for (a, b) in today.latents(0).links.iter().zip(&tomorrow.latents(0).links) {
        assert!((a.gain_db - b.gain_db).abs() < 1e-12);
    }
    let place = LocalPosition { east_km: 10.0, north_km: -20.0 };
    assert_eq!(today.fields.at(&place), tomorrow.fields.at(&place));
}

#[test]
fn seventy_centimeters_fade_faster_than_two_meters() {
    let world = |frequency_hz| {
        World::new(&WorldConfig { frequency_hz, ..WorldConfig::default() }).unwrap().latents(0)
    };

    for (low, high) in world(145e6).links.iter().zip(&world(433e6).links) {
        assert!(high.path_loss_db > low.path_loss_db + 5.0);
        assert!(high.noise_dbm_per_hz < low.noise_dbm_per_hz);
    }
}

/// Truths about 3,000 sessions, in four worlds.
fn sessions_of_four_worlds() -> Vec<EventLatents> {
    (1..=4)
        .flat_map(|seed| {
            let config = WorldConfig {
                seed,
                sessions: 750,
                events_per_session: 1,
                ..WorldConfig::default()
            };
            let world = World::new(&config).unwrap();
            (0..world.len()).map(|index| world.latents(index)).collect::<Vec<_>>()
        })
        .collect()
}

/// The medians that are known for this network, within the error of sampling: a median of 3,000
/// sessions has a standard error of 0.4 dB, and the shadowing of four worlds has a mean over the area
/// that deviates from zero by some 0.15 dB. Four standard errors of both are allowed.
#[test]
fn median_levels_are_those_of_the_reference_network() {
    let events = sessions_of_four_worlds();

    let known_db = [12.0, -3.0, -4.0, 21.0, 16.0, -8.0, -15.0];
    for (receiver, known_db) in known_db.into_iter().enumerate() {
        let mut snrs_db: Vec<f64> =
            events.iter().map(|event| event.links[receiver].snr_db).collect();
        snrs_db.sort_by(f64::total_cmp);
        let deviation_db = snrs_db[snrs_db.len() / 2] - known_db;
        assert!(deviation_db.abs() < 1.7, "receiver {receiver} deviates by {deviation_db} dB");
    }
}

/// Shares that are known for this network. They were counted in another simulation, in one world
/// that is not this one, and rounded: sampling makes 0.8 percentage points here and as many there.
#[test]
fn events_are_heard_by_as_many_receivers_as_in_the_reference_network() {
    let events = sessions_of_four_worlds();

    let known_percent = [4.0, 14.0, 23.0, 20.0, 14.0, 13.0, 8.0, 4.0];
    for (heard, known) in known_percent.into_iter().enumerate() {
        let count = events.iter().filter(|event| event.receivers_heard() == heard).count();
        let percent = count as f64 * 100.0 / events.len() as f64;
        assert!((percent - known).abs() < 3.5, "{percent} % of the events reach {heard} receivers");
    }
}

/// Signal power is estimated as the power with the transmission minus the power without it, noise
/// power as the latter. With n samples the relative errors of the two are √(2 / (n γ)), from the
/// product of signal and noise, and √(1 / n); γ is the ratio in the whole sampled band.
#[test]
fn snr_of_the_samples_is_the_latent_one() {
    let waveforms = WaveformConfig::only(WaveformKind::NbfmVoice);
    let world = World::new(&WorldConfig { waveforms, ..WorldConfig::default() }).unwrap();
    let sample_rate_hz = world.config().sample_rate_hz;
    let mut normalized = Vec::new();

    for index in (0..160).step_by(4) {
        let (latents, both) = world.simulate(index, Content::All);
        let (_, noise_only) = world.simulate(index, Content::NoiseOnly);
        for (link, (both, noise_only)) in latents.links.iter().zip(both.iter().zip(&noise_only)) {
            let ratio = 10_f64.powf(link.snr_db / 10.0) * CHANNEL_WIDTH_HZ / sample_rate_hz;
            // Beyond 30 dB the signal's rounding and its 0.02 rad of dispersion would be measured.
            if link.outage || !(0.1..1000.0).contains(&ratio) {
                continue;
            }
            let noise_power = mean_power(noise_only);
            let measured = (mean_power(both) - noise_power) / noise_power;
            let n = both.len() as f64;
            let deviation = ratio * (2.0 / (n * ratio) + 1.0 / n).sqrt();
            normalized.push((measured - ratio) / deviation);
        }
    }

    let count = normalized.len() as f64;
    let variance = normalized.iter().map(|z| z * z).sum::<f64>() / count;
    assert!(count > 100.0, "only {count} links");
    assert!(normalized.iter().all(|z| z.abs() < 4.5), "{normalized:?}");
    // The variance of a chi-squared over its degrees of freedom: five standard errors.
    assert!((variance - 1.0).abs() < 5.0 * (2.0 / count).sqrt(), "{variance}");
}

/// In the plainest of worlds the level is the power minus the loss in free space, worked out here
/// with the wavelength.
#[test]
fn level_in_free_space_is_the_closed_form() {
    let mut config = plain();
    config.path_loss = crate::PathLoss::FreeSpace;
    config.shadowing.static_deviation_db = 0.0;
    config.shadowing.session_deviation_db = 0.0;
    config.receiver_chain.gain_deviation_db = 0.0;
    let world = World::new(&config).unwrap();

    let (latents, samples) = world.simulate(0, Content::SignalOnly);

    let stations = config.network.stations();
    for ((link, samples), station) in latents.links.iter().zip(&samples).zip(&stations) {
        let wavelengths = link.distance_km * 1000.0 / (299_792_458.0 / 145e6);
        let spread_db = 20.0 * (4.0 * std::f64::consts::PI * wavelengths).log10();
        let expected_dbfs =
            latents.transmitter.eirp_dbm + station.antenna_gain_db - spread_db + 57.0;
        let measured_dbfs = 10.0 * mean_power(samples).log10();
        assert!((measured_dbfs - expected_dbfs).abs() < 1e-4, "{measured_dbfs} {expected_dbfs}");
    }
}

/// Value of a band-limited signal between its samples, by a sinc under a Hann window.
fn interpolate(samples: &[Complex32], place: f64) -> Complex64 {
    const REACH: f64 = 64.0;
    let first = (place - REACH).ceil() as usize;
    let last = (place + REACH).floor() as usize;
    (first..=last)
        .map(|n| {
            let x = place - n as f64;
            let sinc = if x.abs() < 1e-12 {
                1.0
            } else {
                (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x)
            };
            let window = (std::f64::consts::FRAC_PI_2 * x / REACH).cos().powi(2);
            Complex64::new(f64::from(samples[n].re), f64::from(samples[n].im)) * sinc * window
        })
        .sum()
}

/// Correlates the middle of one recording with another one, and finds the delay of the second.
fn correlated_delay_s(first: &[Complex32], second: &[Complex32], sample_rate_hz: f64) -> f64 {
    let middle = 150..first.len() - 150;
    let correlation = |delay: f64| {
        let (mut product, mut power) = (Complex64::ZERO, 0.0);
        for n in middle.clone() {
            let late = interpolate(second, n as f64 + delay);
            product += late * Complex64::new(f64::from(first[n].re), -f64::from(first[n].im));
            power += late.norm_sqr();
        }
        product.norm_sqr() / power
    };
    // Whole samples first, then parabolas through three points ever closer together.
    let mut best = (-30..=30)
        .map(f64::from)
        .max_by(|a, b| correlation(*a).total_cmp(&correlation(*b)))
        .expect("there are delays to try");
    for step in [0.3, 0.03, 0.003] {
        let [left, center, right] = [best - step, best, best + step].map(correlation);
        best += 0.5 * step * (left - right) / (left - 2.0 * center + right);
    }
    best / sample_rate_hz
}

/// Two recordings without noise, oscillator and clock errors are one signal at two times. The
/// samples are compared by interpolation, which knows nothing of how they were made; its error and
/// that of the phase, below 10⁻⁴ rad against some 800 Hz of deviation, would be 20 ns at a single
/// sample, and average out over 900.
#[test]
fn recordings_are_as_late_as_light_is() {
    let config = WorldConfig { duration_s: 0.05, ..plain() };
    let world = World::new(&config).unwrap();

    for index in [0, 4] {
        let (latents, samples) = world.simulate(index, Content::SignalOnly);
        for receiver in [3, 6] {
            let measured_s =
                correlated_delay_s(&samples[0], &samples[receiver], config.sample_rate_hz);
            let difference_km = latents.links[receiver].distance_km - latents.links[0].distance_km;
            let expected_s = difference_km / SPEED_OF_LIGHT_KM_PER_S;
            assert!((measured_s - expected_s).abs() < 1e-9, "{measured_s} is not {expected_s}");
        }
    }
}

/// A clock that stamps samples too early makes the signal seem to arrive early.
#[test]
fn clock_error_moves_the_arrival_in_the_recording() {
    let mut config = WorldConfig { duration_s: 0.05, ..plain() };
    config.receiver_chain.clock = Clock::FreeRunning { error_s_max: 200e-6 };
    let world = World::new(&config).unwrap();

    let (latents, samples) = world.simulate(0, Content::SignalOnly);

    let measured_s = correlated_delay_s(&samples[0], &samples[2], config.sample_rate_hz);
    let expected_s = latents.links[2].stamped_delay_s() - latents.links[0].stamped_delay_s();
    assert!((measured_s - expected_s).abs() < 1e-9, "{measured_s} is not {expected_s}");
    assert!((latents.links[2].clock_error_s - latents.links[0].clock_error_s).abs() > 1e-6);
}

/// The kinds differ in their envelopes, and Hann windows weigh the ends of a recording less: what
/// comes and goes differs from its mean by more than the estimator's variance.
#[test]
fn link_level_is_what_is_measured_on_the_samples() {
    let mut config = WorldConfig { sessions: 100, duration_s: 0.4, ..WorldConfig::default() };
    config.events_per_session = 1;
    let world = World::new(&config).unwrap();
    let extractor = FeatureExtractor::new(&FeatureConfig::default(), 24_000.0).unwrap();
    let estimator = LinkEstimator::new(&config, &extractor).unwrap();
    let accuracy = extractor.accuracy(config.sample_count()).unwrap();
    let (mut powers, mut noises) = (Vec::new(), Vec::new());

    for index in 0..world.len() {
        let drawn = world.link_event(index, &estimator);
        let recorded = world.event(index);
        let steady = !matches!(drawn.latents.waveform, WaveformKind::Ssb | WaveformKind::Cw);
        for ((link, drawn), recording) in
            drawn.latents.links.iter().zip(&drawn.measurements).zip(&recorded.receptions)
        {
            let Some(recording) = recording else {
                assert_eq!(*drawn, None);
                continue;
            };
            let drawn = drawn.unwrap();
            let measured = extractor.extract(&recording.samples).unwrap().scalars;
            let power_db = f64::from(measured.power_db) - drawn.power_db;
            assert!(power_db.abs() < 1.5, "{power_db} dB between the depths: {link:?}");
            if (link.snr_db - 3.0).abs() > 1.5 {
                assert_eq!(drawn.detected, measured.detected, "{link:?}");
            }
            let ratio =
                10_f64.powf(link.snr_db / 10.0) * CHANNEL_WIDTH_HZ / accuracy.channel_width_hz;
            if !steady || link.snr_db > 15.0 {
                continue;
            }
            // Both depths deviate from the truth, independently; decibels are 10 / ln 10 nepers.
            let nepers = std::f64::consts::LN_10 / 10.0;
            let deviation = (2.0 * accuracy.power_variance(ratio)).sqrt() / (1.0 + ratio);
            powers.push(power_db * nepers / deviation);
            let noise_db = f64::from(measured.noise_psd_db) - drawn.noise_psd_db;
            noises.push(noise_db * nepers / (2.0 * accuracy.noise_variance).sqrt());
        }
    }

    for (name, normalized) in [("power", powers), ("noise", noises)] {
        let count = normalized.len() as f64;
        let mean = normalized.iter().sum::<f64>() / count;
        let variance = normalized.iter().map(|z| z * z).sum::<f64>() / count;
        assert!(count > 300.0, "only {count} links");
        // The modulation leaks a little out of the channel and into the noise.
        assert!(mean.abs() < 0.4, "{name} deviates by {mean} standard deviations");
        assert!((variance - 1.0).abs() < 0.4, "{name} has {variance} times its variance");
    }
}

/// In free space and without detours the only errors of arrivals are those of noise and clock.
#[test]
fn arrivals_deviate_as_much_as_they_say() {
    let mut config = WorldConfig { sessions: 400, waveforms: WaveformConfig::default(), ..plain() };
    config.receiver_chain.clock = Clock::Gps { sigma_s: 100e-9 };
    let world = World::new(&config).unwrap();
    let extractor = FeatureExtractor::new(&FeatureConfig::default(), 24_000.0).unwrap();
    let estimator = LinkEstimator::new(&config, &extractor).unwrap();
    let mut normalized = Vec::new();

    for index in (0..world.len()).step_by(4) {
        let event = world.link_event(index, &estimator);
        for (link, measurement) in event.latents.links.iter().zip(&event.measurements) {
            let usable =
                !matches!(event.latents.waveform, WaveformKind::Cw | WaveformKind::Carrier);
            let measurement = measurement.unwrap();
            assert_eq!(measurement.arrival.is_some(), measurement.detected && usable);
            if let Some(arrival) = measurement.arrival {
                let travel_s = link.distance_km / SPEED_OF_LIGHT_KM_PER_S;
                normalized.push((arrival.time_s - travel_s) / arrival.sigma_s);
            }
        }
    }

    let count = normalized.len() as f64;
    let variance = normalized.iter().map(|z| z * z).sum::<f64>() / count;
    assert!(count > 500.0, "only {count} arrivals");
    assert!((variance - 1.0).abs() < 5.0 * (2.0 / count).sqrt(), "{variance}");
}

#[test]
fn clocks_that_mean_nothing_give_no_arrivals() {
    for clock in [
        Clock::Ntp { sigma_s_min: 1e-3, sigma_s_max: 1e-2 },
        Clock::FreeRunning { error_s_max: 1.0 },
    ] {
        let mut config = WorldConfig::default();
        config.receiver_chain.clock = clock;
        let world = World::new(&config).unwrap();
        let extractor = FeatureExtractor::new(&FeatureConfig::default(), 24_000.0).unwrap();
        let estimator = LinkEstimator::new(&config, &extractor).unwrap();

        for index in 0..40 {
            let measurements = world.link_event(index, &estimator).measurements;
            assert!(measurements.iter().flatten().all(|measurement| measurement.arrival.is_none()));
        }
    }
}

#[test]
fn gain_control_makes_all_recordings_equally_loud() {
    let mut config = WorldConfig { duration_s: 0.1, ..WorldConfig::default() };
    config.receiver_chain.agc = Some(Agc { level_dbfs: -12.0 });
    let world = World::new(&config).unwrap();

    for index in [0, 4, 8] {
        for recording in world.event(index).receptions.iter().flatten() {
            let level_dbfs = 10.0 * mean_power(&recording.samples).log10();
            // 2,400 values of noise have a mean within 0.09 dB, and five of that are allowed.
            assert!((level_dbfs + 12.0).abs() < 0.45, "{level_dbfs}");
        }
    }
}

#[test]
fn outages_are_as_frequent_as_configured_and_leave_no_recording() {
    let config =
        WorldConfig { duration_s: 0.001, outage_probability: 0.3, ..WorldConfig::default() };
    let world = World::new(&config).unwrap();

    let mut outages = 0;
    for index in 0..200 {
        let event = world.event(index);
        for (link, reception) in event.latents.links.iter().zip(&event.receptions) {
            assert_eq!(link.outage, reception.is_none());
            assert!(reception.iter().all(|recording| recording.samples.len() == 24));
            outages += usize::from(link.outage);
        }
    }

    // 1,400 draws: 420 ± 17.
    assert!((335..=505).contains(&outages), "{outages}");
}

#[test]
fn transmitters_are_within_the_margin_of_the_network() {
    let world = World::new(&WorldConfig::default()).unwrap();
    let places: Vec<_> = world
        .receivers()
        .iter()
        .map(|receiver| world.frame().to_local(&receiver.position))
        .collect();
    let area = Area::around(&places, 25.0);

    let (width_km, height_km) = (
        area.north_east.east_km - area.south_west.east_km,
        area.north_east.north_km - area.south_west.north_km,
    );
    assert!((width_km - 196.0).abs() < 1.0 && (height_km - 170.0).abs() < 1.0);
    for index in 0..100 {
        let place = world.frame().to_local(&world.latents(index).position);
        assert!((area.south_west.east_km..=area.north_east.east_km).contains(&place.east_km));
        assert!((area.south_west.north_km..=area.north_east.north_km).contains(&place.north_km));
    }
}

#[test]
fn network_around_the_globe_is_refused() {
    let mut stations = Network::NorthWestItaly.stations();
    stations[2].receiver.position = Position::new(-40.0, -175.0).unwrap();
    let config = WorldConfig { network: Network::Stations(stations), ..plain() };

    let error = World::new(&config).unwrap_err();

    assert_eq!(error, SimError::BeyondHorizon { name: "Torino".to_owned() });
}

#[test]
fn margin_beyond_the_horizon_is_refused() {
    let config = WorldConfig { margin_km: 6_000.0, ..plain() };

    assert!(matches!(World::new(&config), Err(SimError::Area(GeoError::BeyondHorizon { .. }))));
}

/// The same event by perfect and by real oscillators: between them lies a carrier, at the offset.
#[test]
fn oscillators_shift_the_recording_by_their_difference() {
    let perfect = WorldConfig {
        transmitters: TransmitterConfig { oscillator_ppm: 0.0, ..Default::default() },
        ..plain()
    };
    let real = WorldConfig {
        receiver_chain: ReceiverChainConfig { oscillator_ppm: 0.5, ..plain().receiver_chain },
        ..plain()
    };
    let (_, perfect) = World::new(&perfect).unwrap().simulate(0, Content::SignalOnly);

    let (latents, real) = World::new(&real).unwrap().simulate(0, Content::SignalOnly);

    for (link, (real, perfect)) in latents.links.iter().zip(real.iter().zip(&perfect)) {
        let carrier: Vec<Complex32> =
            real.iter().zip(perfect).map(|(a, b)| (a * b.conj()) / b.norm_sqr()).collect();
        let advance: Complex32 = carrier.windows(2).map(|pair| pair[1] * pair[0].conj()).sum();
        let offset_hz = f64::from(advance.arg()) / std::f64::consts::TAU * 24_000.0;
        // Rounding of the angle to `f32` allows a thousandth of a hertz.
        assert!((offset_hz - link.frequency_offset_hz).abs() < 0.01, "{offset_hz}");
        assert!(offset_hz.abs() > 0.1, "{offset_hz}");
    }
}

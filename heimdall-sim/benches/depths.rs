//! Events per second at each depth of simulation, on all cores.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heimdall_features::{FeatureConfig, FeatureExtractor};
use heimdall_sim::{LinkEstimator, World, WorldConfig};

/// How long each depth is measured.
const DURATION: Duration = Duration::from_secs(5);

/// Simulates events until the time is over, and counts them.
fn events_per_second(threads: usize, world: &World, simulate: impl Fn(usize) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while start.elapsed() < DURATION {
                    simulate(next.fetch_add(1, Ordering::Relaxed) % world.len());
                }
            });
        }
    });
    next.into_inner() as f64 / start.elapsed().as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = WorldConfig {
        sessions: 1_000_000,
        events_per_session: 1,
        duration_s: 0.4,
        ..WorldConfig::default()
    };
    let world = World::new(&config)?;
    let extractor = FeatureExtractor::new(&FeatureConfig::default(), config.sample_rate_hz)?;
    let estimator = LinkEstimator::new(&config, &extractor)?;
    let threads = thread::available_parallelism()?.get();
    let receivers = world.receivers().len();
    println!(
        "{threads} threads, {receivers} receivers, {} s at {} kHz",
        config.duration_s,
        config.sample_rate_hz / 1000.0
    );
    println!("{:<12} {:>12}", "depth", "events/s");

    let link = events_per_second(threads, &world, |index| {
        black_box(world.link_event(index, &estimator));
    });
    println!("{:<12} {link:>12.0}", "link level");
    let samples = events_per_second(threads, &world, |index| {
        black_box(world.event(index));
    });
    println!("{:<12} {samples:>12.0}", "samples");
    let features = events_per_second(threads, &world, |index| {
        for recording in world.event(index).receptions.iter().flatten() {
            black_box(extractor.extract(&recording.samples).is_ok());
        }
    });
    println!("{:<12} {features:>12.0}", "features");
    Ok(())
}

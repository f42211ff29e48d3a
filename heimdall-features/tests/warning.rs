//! Normalizing each recording by itself loses the level, and says so once: a program of its own, as the
//! warning comes once in each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heimdall_features::{MelSpectrogram, Normalization, normalize_features};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts warnings of this crate.
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("heimdall_features")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() == Level::WARN {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn lost_level_is_told_once() {
    let warnings = Arc::new(AtomicUsize::new(0));
    let spectrogram =
        MelSpectrogram { bands: 2, frames: 1, levels_db: vec![-50.0, -60.0], noise_psd_db: -90.0 };
    let normalize = |normalization| {
        let normalized = normalize_features(&spectrogram, &normalization);
        assert_eq!(normalized.map(|levels| levels.len()), Ok(2));
        warnings.load(Ordering::Relaxed)
    };

    tracing::subscriber::with_default(Warnings(Arc::clone(&warnings)), || {
        assert_eq!(normalize(Normalization::NoiseFloor), 0);
        assert_eq!(normalize(Normalization::Sample), 1);
        assert_eq!(normalize(Normalization::Sample), 1);
    });
}

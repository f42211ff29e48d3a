//! Frames are computed without allocating.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use heimdall_features::{
    FeatureConfig, FeatureExtractor, FilterBankConfig, FilterBankKind, Framing, Real,
    SpectralConfig, SpectralExtractor, SpectralRows,
};
use num_complex::Complex32;

/// Counts what a thread asks the system's allocator for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

#[expect(unsafe_code, reason = "an allocator cannot be written without it; this one only counts")]
// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn carrier(length: usize) -> Vec<Complex32> {
    (0..length).map(|n| Complex32::cis(0.1 * n as f32)).collect()
}

fn assert_streaming_allocates_nothing<T: Real>(config: &SpectralConfig, samples: &[Complex32]) {
    let extractor = SpectralExtractor::<T>::new(config, 12_000.0).expect("it is valid");
    let mut stream = extractor.stream(Some(samples.len())).expect("it has a frame");
    let mut frames = 0;
    let counted = allocations(|| {
        for chunk in samples.chunks(1_000) {
            stream.push(chunk, |_| frames += 1).expect("samples are finite");
        }
    });
    // Behind the end of a recording come zeros, once.
    let at_end = allocations(|| stream.finish(|_| frames += 1).expect("it has a frame"));
    assert!(at_end <= 1, "{at_end} allocations at the end, {config:?}");
    let expected = extractor.frame_count(samples.len()).expect("it has a frame");
    assert_eq!((counted, frames), (0, expected), "{config:?}");
}

#[test]
fn number_of_allocations_does_not_depend_on_the_number_of_frames() {
    assert!(allocations(|| drop(vec![1])) > 0, "allocations are counted");

    let samples = carrier(200_000);
    let bank =
        FilterBankConfig { bands: 40, kind: FilterBankKind::MelFolded, ..Default::default() };
    let all_rows = [
        SpectralRows::Bins,
        SpectralRows::Bands { bank: bank.clone() },
        SpectralRows::Cepstrum { bank, coefficients: 13 },
    ];
    let framings = [
        Framing::Hop { hop_length: 128, center: false },
        Framing::Hop { hop_length: 128, center: true },
        Framing::Count { frames: 1_000 },
        // Frames that are means of several transforms.
        Framing::Count { frames: 50 },
    ];
    for rows in all_rows {
        for framing in framings {
            let rows = rows.clone();
            let config =
                SpectralConfig { fft_length: 512, framing, rows, ..SpectralConfig::default() };
            assert_streaming_allocates_nothing::<f32>(&config, &samples);
            assert_streaming_allocates_nothing::<f64>(&config, &samples);
            // Beside a carrier, every frame has low levels that are computed again.
            let exact = SpectralConfig { exact_levels: true, ..config };
            assert_streaming_allocates_nothing::<f32>(&exact, &samples);
        }
    }

    let extractor =
        FeatureExtractor::new(&FeatureConfig::default(), 24_000.0).expect("it is valid");
    let counted = |length: usize| {
        allocations(|| drop(extractor.extract(&samples[..length]).expect("samples are finite")))
    };
    // 32 single transforms, and 1561 in groups, which take two sums more.
    let (few, many) = (counted(2_000), counted(200_000));
    assert!(few <= 20 && many <= few + 2, "{few} and {many} allocations");
}

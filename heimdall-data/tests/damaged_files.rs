//! Files of all kinds with random changes: what is fuzzed for minutes, for a moment.

#[path = "../src/recording/kiwi_fixture.rs"]
mod kiwi_fixture;
#[expect(unreachable_pub, reason = "it is in a crate of its own, too")]
#[path = "../../fuzz/src/reading.rs"]
mod reading;
#[expect(unreachable_pub, reason = "it is in a crate of its own, too")]
#[path = "../../fuzz/src/seed.rs"]
mod seed;

use reading::{Kind, read};
use seed::seeds;

/// Changed files of each kind.
const FILES: u64 = 10_000;
/// Bytes and words at which readers make decisions.
const NOTABLE: [u8; 8] = [0, 1, b'"', b'[', 0x7f, 0x80, 0xfe, 0xff];

/// Pseudo-random numbers (Marsaglia, "Xorshift RNGs", *Journal of Statistical Software* 8(14), 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Changes, removes and copies some bytes.
fn damage(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(5) {
        // Headers stand at the start.
        let length = if random.below(2) == 0 { bytes.len().min(600) } else { bytes.len() };
        let at = random.below(length.max(1)).min(bytes.len().saturating_sub(1));
        match random.below(6) {
            _ if bytes.is_empty() => bytes.push(random.below(256) as u8),
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] = NOTABLE[random.below(NOTABLE.len())],
            2 => bytes[at] ^= 1 << random.below(8),
            3 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(8)))),
            4 => bytes.truncate(at),
            _ => {
                let copied = bytes[at..bytes.len().min(at + 1 + random.below(16))].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copied);
            }
        }
    }
    bytes
}

fn damaged_files_are_read_or_refused(kind: Kind) {
    let seeds = seeds(kind);
    for seed in &seeds {
        read(kind, seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..FILES {
        let seed = seeds[random.below(seeds.len())].clone();
        read(kind, &damage(seed, &mut random));
    }
}

#[test]
fn damaged_kiwi_files_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::KiwiWav);
}

#[test]
fn damaged_arrays_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::Npy);
}

#[test]
fn damaged_sidecars_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::Sidecar);
}

#[test]
fn damaged_archives_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::SigmfArchive);
}

#[test]
fn damaged_collections_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::SigmfCollection);
}

#[test]
fn damaged_metadata_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::SigmfMeta);
}

#[test]
fn damaged_tables_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::Table);
}

#[test]
fn damaged_wav_files_are_read_or_refused() {
    damaged_files_are_read_or_refused(Kind::Wav);
}

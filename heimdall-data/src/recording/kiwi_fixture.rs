//! KiwiSDR files with known content, for tests.

use heimdall_features::UtcTime;

/// Nanoseconds in a week.
const WEEK_NS: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// What a file is made of.
#[derive(Clone, Debug)]
pub(crate) struct KiwiFile {
    /// When the first sample of the first fresh block was taken.
    pub(crate) start: UtcTime,
    /// Satellite time minus UTC, in seconds.
    pub(crate) leap_s: i64,
    /// Sample rate, in Hz.
    pub(crate) rate_hz: f64,
    /// Stamps `(age of the fix, second of week, nanosecond)` of blocks before the first fresh one.
    pub(crate) stale: Vec<(u8, u32, u32)>,
    /// Fresh blocks.
    pub(crate) block_count: usize,
    /// Age of the last fix in fresh blocks.
    pub(crate) fix_age: u8,
}

impl KiwiFile {
    /// A second or so, from a time in UTC on.
    pub(crate) fn starting(start: UtcTime) -> Self {
        let (rate_hz, stale) = (12_000.6, vec![(0, 0, 0), (0, 358_742, 520_645_442)]);
        Self { start, leap_s: 18, rate_hz, stale, block_count: 30, fix_age: 1 }
    }

    /// Writes the file, chunk after chunk.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        let rate_field = self.rate_hz.round() as u32;
        let mut format = vec![1, 0, 2, 0];
        format.extend(rate_field.to_le_bytes());
        format.extend((4 * rate_field).to_le_bytes());
        format.extend([4, 0, 16, 0]);
        push_chunk(&mut bytes, b"fmt ", &format);

        for block in 0..self.stale.len() + self.block_count {
            let (fix_age, second, nanosecond) = match self.stale.get(block) {
                Some(&stamp) => stamp,
                None => self.stamp(block - self.stale.len()),
            };
            let mut stamp = vec![fix_age, 0];
            stamp.extend(second.to_le_bytes());
            stamp.extend(nanosecond.to_le_bytes());
            push_chunk(&mut bytes, b"kiwi", &stamp);

            let parts = (block * 512..(block + 1) * 512).flat_map(|sample| {
                let (re, im) = iq(sample);
                [re.to_le_bytes(), im.to_le_bytes()].concat()
            });
            push_chunk(&mut bytes, b"data", &parts.collect::<Vec<u8>>());
        }
        let riff_size = (bytes.len() - 8) as u32;
        bytes[4..8].copy_from_slice(&riff_size.to_le_bytes());
        bytes
    }

    fn stamp(&self, block: usize) -> (u8, u32, u32) {
        // 1980-01-06 was the first day of the first week.
        let start_s = self.start.seconds - 315_964_800 + self.leap_s;
        let elapsed_ns = (block as f64 * 512e9 / self.rate_hz).round() as i64;
        let week_ns = (i128::from(start_s) * 1_000_000_000
            + i128::from(self.start.nanoseconds)
            + i128::from(elapsed_ns))
        .rem_euclid(i128::from(WEEK_NS));
        (self.fix_age, (week_ns / 1_000_000_000) as u32, (week_ns % 1_000_000_000) as u32)
    }
}

/// The sample that a file has at an index, counted from its first block on.
pub(crate) fn iq(sample: usize) -> (i16, i16) {
    ((sample * 37 % 20_011) as i16 - 10_000, (sample * 53 % 20_021) as i16 - 10_000)
}

fn push_chunk(bytes: &mut Vec<u8>, id: &[u8; 4], body: &[u8]) {
    bytes.extend(id);
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
}

//! Spectrograms as pictures inside the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::PipelineError;

/// Colors from low to high, red, green and blue: dark blue, violet, red, orange, pale yellow.
const COLORS: [[f32; 3]; 5] = [
    [13.0, 8.0, 60.0],
    [94.0, 20.0, 110.0],
    [188.0, 55.0, 84.0],
    [249.0, 142.0, 9.0],
    [252.0, 255.0, 164.0],
];

/// Draws levels as an `img` element, the lowest band at the bottom.
///
/// # Shapes
///
/// - `levels_db`: `[bands, frames]`, in dB; `range_db` spans the colors
///
/// # Errors
///
/// [`PipelineError::Picture`] if the picture cannot be encoded.
pub(crate) fn spectrogram(
    levels_db: &[f32],
    frames: usize,
    range_db: (f32, f32),
) -> Result<String, PipelineError> {
    let pixels: Vec<u8> = levels_db
        .chunks_exact(frames)
        .rev()
        .flatten()
        .flat_map(|&level_db| color((level_db - range_db.0) / (range_db.1 - range_db.0)))
        .collect();
    let bands = levels_db.len() / frames;

    let mut bytes = Vec::new();
    let size = |count: usize| u32::try_from(count).expect("features are far below 2³² wide");
    let mut encoder = png::Encoder::new(&mut bytes, size(frames), size(bands));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(PipelineError::Picture)?;
    writer.write_image_data(&pixels).map_err(PipelineError::Picture)?;
    writer.finish().map_err(PipelineError::Picture)?;
    Ok(format!(
        "<img alt=\"spectrogram\" style=\"aspect-ratio: 16 / 9\" src=\"data:image/png;base64,{}\">",
        STANDARD.encode(&bytes)
    ))
}

/// The color at a share of the range; what lies outside has the color of the end.
fn color(share: f32) -> [u8; 3] {
    let place = share.clamp(0.0, 1.0) * (COLORS.len() - 1) as f32;
    // The clamp keeps the index within 0 … 3.
    let index = (place as usize).min(COLORS.len() - 2);
    let weight = place - index as f32;
    let (low, high) = (COLORS[index], COLORS[index + 1]);
    // Mixed colors lie within 0 … 255.
    std::array::from_fn(|c| (low[c] + weight * (high[c] - low[c])).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_has_a_pixel_for_each_level() {
        let markup = spectrogram(&[0.0, 10.0, 20.0, 30.0, 40.0, 50.0], 2, (0.0, 40.0)).unwrap();

        let encoded = markup.split("base64,").nth(1).unwrap().trim_end_matches("\">");
        let bytes = STANDARD.decode(encoded).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; 18];
        reader.next_frame(&mut pixels).unwrap();

        // The first row of the picture is the last band: 40 dB and more are the brightest color.
        assert_eq!(pixels[..6], [252, 255, 164, 252, 255, 164]);
        assert_eq!(pixels[12..15], [13, 8, 60]);
    }
}

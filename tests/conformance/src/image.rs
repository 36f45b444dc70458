//! Images as far as two encoders agree on them: format, size, and colours seen from afar.

use anyhow::{Context, Result};
use image::imageops::thumbnail;
use image::{ImageFormat, RgbaImage};

/// How many parts an image is looked at in, each way.
const PARTS: u32 = 4;
/// How far a part's colour may lie from the other's, in each of its channels.
const COLOUR_SLACK: u8 = 16;

/// In what two images differ; an error means that one of them is none.
pub(crate) fn differences(reference: &[u8], subject: &[u8]) -> Result<Vec<String>> {
    let (left_format, left) = decode(reference).context("the reference's body")?;
    let (right_format, right) = decode(subject).context("the subject's body")?;
    let mut found = Vec::new();
    if left_format != right_format {
        found.push(format!("image format: {left_format:?} → {right_format:?}"));
    }
    if left.dimensions() != right.dimensions() {
        found.push(format!("image size: {:?} → {:?}", left.dimensions(), right.dimensions()));
    }
    let (left, right) = (colours(&left), colours(&right));
    if left.iter().zip(&right).any(|(left, right)| left.abs_diff(*right) > COLOUR_SLACK) {
        found.push(format!("image colours, of {PARTS}x{PARTS} parts: {left:?} → {right:?}"));
    }
    Ok(found)
}

/// Format and pixels.
pub(crate) fn decode(bytes: &[u8]) -> Result<(ImageFormat, RgbaImage)> {
    let format = image::guess_format(bytes).context("no image")?;
    Ok((format, image::load_from_memory_with_format(bytes, format)?.into_rgba8()))
}

fn colours(image: &RgbaImage) -> Vec<u8> {
    thumbnail(image, PARTS, PARTS).into_raw()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, Rgba, imageops};

    use super::*;

    fn bytes(image: &RgbaImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(image.clone()).into_rgb8().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn another_encoding_is_the_same_and_another_picture_is_not() {
        let picture = RgbaImage::from_fn(40, 20, |x, y| {
            Rgba([if x < 20 { 255 } else { 0 }, if y < 10 { 0 } else { 255 }, 9, 255])
        });
        let png = bytes(&picture, ImageFormat::Png);
        assert!(differences(&png, &png).unwrap().is_empty());
        assert_eq!(differences(&png, &bytes(&picture, ImageFormat::Jpeg)).unwrap().len(), 1);
        assert_eq!(
            differences(&png, &bytes(&imageops::flip_vertical(&picture), ImageFormat::Png)).unwrap().len(),
            1
        );
        let cut = imageops::crop_imm(&picture, 0, 0, 40, 19).to_image();
        assert_eq!(differences(&png, &bytes(&cut, ImageFormat::Png)).unwrap().len(), 1);
        assert!(differences(&png, b"text").is_err());
    }
}

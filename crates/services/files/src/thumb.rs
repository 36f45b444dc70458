//! Thumbs: what becomes of an image at a size like `100x100t` (CONTRACT §6.2). Plain functions on bytes;
//! which sizes are allowed, where thumbs are kept, and how many are made at once is the callers' business.
//!
//! Making one takes up to [`MOST_SOURCE_PIXELS`] and [`MOST_DECODED_BYTES`] for the source, 256 MiB while it
//! is scaled, and seconds of a thread. An image beyond that is an error, as is one that cannot be read;
//! then the original is served.

mod geometry;

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbaImage};

use self::geometry::Plan;

/// An image of more pixels is not decoded. Cameras of telephones make up to 50 million.
pub const MOST_SOURCE_PIXELS: u64 = 50_000_000;
/// An image that takes more once it is decoded is not.
pub const MOST_DECODED_BYTES: u64 = 256 * 1024 * 1024;
/// A thumb has no more pixels, nor has what lies between it and the source: each takes 16 bytes there.
pub const MOST_THUMB_PIXELS: u64 = 16 * 1024 * 1024;

/// Nobody sees what a higher one adds; PocketBase has it too.
const JPEG_QUALITY: u8 = 95;
/// Of the search for 256 colours: from 1, the best, to 30.
const GIF_SPEED: i32 = 10;

/// A size as it is listed in a field: `WxH` and how an image of another shape gets into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    width: u32,
    height: u32,
    shape: Shape,
}

/// What happens to an image that is wider or higher than the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `WxH`: the middle is kept.
    Centre,
    /// `WxHt`: the top is kept.
    Top,
    /// `WxHb`: the bottom is kept.
    Bottom,
    /// `WxHf`: all of it is kept; the thumb is narrower or lower than the size.
    Fit,
    /// `Wx0` and `0xH`: the other side follows from the image.
    Ratio,
}

/// What an image is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `image/png`
    Png,
    /// `image/jpeg`, `image/jpg`
    Jpeg,
    /// `image/gif`
    Gif,
    /// `image/webp`
    Webp,
}

/// A thumb that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumb {
    /// The file.
    pub bytes: Vec<u8>,
    /// What it is.
    pub mime: &'static str,
}

/// Why there is no thumb.
#[derive(Debug, thiserror::Error)]
pub enum ThumbError {
    /// The image, or what it would become, is over a bound.
    #[error("the image or its thumb is too large")]
    TooLarge,
    /// The bytes are no image of the kind that they are said to be.
    #[error("the image cannot be read: {0}")]
    Unreadable(image::ImageError),
    /// The thumb could not be written down.
    #[error("the thumb cannot be written: {0}")]
    Unwritable(image::ImageError),
}

/// Makes the thumb of an image: of the first frame, if there are several, as a camera was held.
pub fn make(bytes: &[u8], size: Size, source: Source) -> Result<Thumb, ThumbError> {
    let image = decode(bytes, source)?;
    let plan = Plan::new(size, image.width(), image.height());
    let scaled = scale(image, plan)?;
    encode(scaled, source)
}

// === impl Size ===

impl Size {
    /// A size as it was written down; none for what is no size, and for `0x0`.
    pub fn parse(text: &str) -> Option<Size> {
        let (width, rest) = text.split_once('x')?;
        let (height, shape) = match rest.as_bytes().last()? {
            b't' => (&rest[..rest.len() - 1], Shape::Top),
            b'b' => (&rest[..rest.len() - 1], Shape::Bottom),
            b'f' => (&rest[..rest.len() - 1], Shape::Fit),
            _ => (rest, Shape::Centre),
        };
        match (side(width)?, side(height)?) {
            (0, 0) => None,
            (width, height) if width == 0 || height == 0 => Some(Size { width, height, shape: Shape::Ratio }),
            (width, height) => Some(Size { width, height, shape }),
        }
    }
}

/// Digits alone; `parse` would take a sign too.
fn side(text: &str) -> Option<u32> {
    text.bytes().all(|letter| letter.is_ascii_digit()).then(|| text.parse().ok())?
}

// === impl Source ===

impl Source {
    /// The kind that a media type names; none for one that has no thumbs.
    pub fn of_mime(mime: &str) -> Option<Source> {
        match mime {
            "image/png" => Some(Source::Png),
            "image/jpeg" | "image/jpg" => Some(Source::Jpeg),
            "image/gif" => Some(Source::Gif),
            "image/webp" => Some(Source::Webp),
            _ => None,
        }
    }

    fn format(self) -> ImageFormat {
        match self {
            Source::Png => ImageFormat::Png,
            Source::Jpeg => ImageFormat::Jpeg,
            Source::Gif => ImageFormat::Gif,
            Source::Webp => ImageFormat::WebP,
        }
    }
}

// === the steps ===

fn decode(bytes: &[u8], source: Source) -> Result<DynamicImage, ThumbError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), source.format());
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MOST_SOURCE_PIXELS || decoder.total_bytes() > MOST_DECODED_BYTES {
        return Err(ThumbError::TooLarge);
    }
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn unreadable(error: image::ImageError) -> ThumbError {
    match error {
        image::ImageError::Limits(_) => ThumbError::TooLarge,
        other => ThumbError::Unreadable(other),
    }
}

fn scale(image: DynamicImage, plan: Plan) -> Result<DynamicImage, ThumbError> {
    if plan.most_pixels() > MOST_THUMB_PIXELS {
        return Err(ThumbError::TooLarge);
    }
    let (part, (width, height), cut) = (plan.part, plan.scaled, plan.cut);
    let scaled = if image.color().has_alpha() {
        let mut pixels = image.into_rgba8();
        weigh_by_alpha(&mut pixels);
        let part = imageops::crop_imm(&pixels, part.x, part.y, part.width, part.height);
        let mut scaled = imageops::resize(&*part, width, height, FilterType::Triangle);
        unweigh_by_alpha(&mut scaled);
        DynamicImage::ImageRgba8(scaled)
    } else {
        let pixels = image.into_rgb8();
        let part = imageops::crop_imm(&pixels, part.x, part.y, part.width, part.height);
        DynamicImage::ImageRgb8(imageops::resize(&*part, width, height, FilterType::Triangle))
    };
    Ok(scaled.crop_imm(cut.x, cut.y, cut.width, cut.height))
}

/// A pixel counts as much as it is seen: else the colour that hides in a transparent one would bleed into
/// its neighbours.
fn weigh_by_alpha(pixels: &mut RgbaImage) {
    for pixel in pixels.pixels_mut() {
        let [red, green, blue, alpha] = pixel.0;
        let weigh = |colour: u8| ((u16::from(colour) * u16::from(alpha) + 127) / 255) as u8;
        pixel.0 = [weigh(red), weigh(green), weigh(blue), alpha];
    }
}

fn unweigh_by_alpha(pixels: &mut RgbaImage) {
    for pixel in pixels.pixels_mut().filter(|pixel| pixel.0[3] != 0) {
        let [red, green, blue, alpha] = pixel.0;
        let alpha_half = u16::from(alpha) / 2;
        let unweigh = |colour: u8| ((u16::from(colour) * 255 + alpha_half) / u16::from(alpha)).min(255) as u8;
        pixel.0 = [unweigh(red), unweigh(green), unweigh(blue), alpha];
    }
}

fn encode(image: DynamicImage, source: Source) -> Result<Thumb, ThumbError> {
    let mut bytes = Vec::new();
    let (written, mime) = match source {
        Source::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
            (image.into_rgb8().write_with_encoder(encoder), "image/jpeg")
        }
        Source::Gif => {
            let mut encoder = GifEncoder::new_with_speed(&mut bytes, GIF_SPEED);
            (encoder.encode_frame(image::Frame::new(image.into_rgba8())), "image/gif")
        }
        Source::Png | Source::Webp => (image.write_with_encoder(PngEncoder::new(&mut bytes)), "image/png"),
    };
    written.map_err(ThumbError::Unwritable)?;
    Ok(Thumb { bytes, mime })
}

#[cfg(test)]
mod tests {
    use image::{ImageEncoder as _, Rgb, RgbImage, Rgba};

    use super::*;

    fn size(text: &str) -> Size {
        Size::parse(text).unwrap()
    }

    fn written(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// Red above, blue below.
    fn flag(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(
            width,
            height,
            |_, y| if y < height / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) },
        )
    }

    fn read(thumb: &Thumb) -> RgbaImage {
        image::load_from_memory(&thumb.bytes).unwrap().into_rgba8()
    }

    /// A PNG that says it is this large, and holds next to nothing.
    fn bomb(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = written(flag(1, 1), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let mut sum = 0xffff_ffff_u32;
        for byte in &bytes[12..29] {
            sum ^= u32::from(*byte);
            (0..8).for_each(|_| sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()));
        }
        bytes[29..33].copy_from_slice(&(!sum).to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "x",
            "10",
            "10x",
            "x10",
            "0x0",
            "0x0t",
            "-1x1",
            "+1x1",
            "1x1x",
            "1X1",
            "1x1tt",
            "1x1T",
            " 1x1",
            "1x1 ",
            "1.5x1",
            "99999999999x1",
            "1x\u{663}",
            "tx1",
            "1xt",
        ] {
            assert_eq!(Size::parse(text), None, "{text:?}");
        }
        assert_eq!(Size::parse("010x0t"), Size::parse("10x0"));
    }

    #[test]
    fn each_kind_of_image_becomes_its_own_or_a_png() {
        for (format, source, mime) in [
            (ImageFormat::Png, Source::Png, "image/png"),
            (ImageFormat::Jpeg, Source::Jpeg, "image/jpeg"),
            (ImageFormat::Gif, Source::Gif, "image/gif"),
            (ImageFormat::WebP, Source::Webp, "image/png"),
        ] {
            let thumb = make(&written(flag(120, 110), format), size("20x10"), source).unwrap();
            assert_eq!(thumb.mime, mime);
            assert_eq!(image::guess_format(&thumb.bytes).unwrap().to_mime_type(), mime);
            assert_eq!(read(&thumb).dimensions(), (20, 10));
        }
    }

    #[test]
    fn top_and_bottom_keep_what_they_say() {
        let bytes = written(flag(100, 400), ImageFormat::Png);
        let corner = |text: &str| *read(&make(&bytes, size(text), Source::Png).unwrap()).get_pixel(5, 5);
        assert_eq!(corner("10x10t"), Rgba([255, 0, 0, 255]));
        assert_eq!(corner("10x10b"), Rgba([0, 0, 255, 255]));
    }

    #[test]
    fn the_first_frame_of_an_animation_is_taken() {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for colour in [[255, 0, 0, 255], [0, 255, 0, 255]] {
            let frame = RgbaImage::from_pixel(30, 30, Rgba(colour));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
        drop(encoder);
        let thumb = read(&make(&bytes, size("10x10"), Source::Gif).unwrap());
        assert_eq!(thumb.get_pixel(5, 5).0, [255, 0, 0, 255]);
    }

    #[test]
    fn an_image_is_turned_as_the_camera_was_held() {
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        flag(200, 100).write_with_encoder(encoder).unwrap();
        let thumb = read(&make(&bytes, size("0x40"), Source::Jpeg).unwrap());
        assert_eq!(thumb.dimensions(), (20, 40));
        // A quarter to the right: what was above is at the right.
        let (left, right) = (thumb.get_pixel(2, 20), thumb.get_pixel(17, 20));
        assert!(left.0[2] > 200 && right.0[0] > 200, "{left:?} {right:?}");
    }

    #[test]
    fn the_colour_of_what_is_transparent_is_not_seen() {
        let image = RgbaImage::from_fn(200, 200, |x, _| {
            if x % 2 == 0 { Rgba([0, 255, 0, 0]) } else { Rgba([255, 0, 0, 255]) }
        });
        let thumb = make(&written(image, ImageFormat::Png), size("20x20"), Source::Png).unwrap();
        let [red, green, _, alpha] = read(&thumb).get_pixel(10, 10).0;
        assert!(red > 250 && green < 5 && alpha.abs_diff(128) < 10, "{red} {green} {alpha}");
    }

    #[test]
    fn bombs_are_too_large_before_they_are_decoded() {
        for (width, height) in [(10_000, 10_000), (2_000_000_000, 1), (1 << 31, 1 << 31)] {
            let refused = make(&bomb(width, height), size("10x10"), Source::Png);
            assert!(refused.is_err(), "{width}x{height}");
        }
        assert!(matches!(make(&bomb(10_000, 10_000), size("10x10"), Source::Png), Err(ThumbError::TooLarge)));
    }

    #[test]
    fn a_thumb_that_would_be_too_large_is_refused() {
        let bytes = written(flag(1_000, 10), ImageFormat::Png);
        for text in ["100000x100000", "0x100000", "4294967295x4294967295t", "20000x1000"] {
            assert!(matches!(make(&bytes, size(text), Source::Png), Err(ThumbError::TooLarge)), "{text}");
        }
        assert!(make(&bytes, size("100000x100000f"), Source::Png).is_ok(), "it fits as it is");
    }

    #[test]
    fn what_is_no_image_is_unreadable() {
        let png = written(flag(100, 100), ImageFormat::Png);
        for (bytes, source) in
            [(&png[..], Source::Jpeg), (&png[..40], Source::Png), (&[], Source::Gif), (b"RIFF", Source::Webp)]
        {
            assert!(
                matches!(make(bytes, size("10x10"), source), Err(ThumbError::Unreadable(_))),
                "{source:?}"
            );
        }
    }
}

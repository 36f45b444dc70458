//! Thumbs beside those of the real PocketBase, if there is one.

use std::io::Cursor;

use files::thumb::{Size, Source, make};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageEncoder as _, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};
use testkit::{Client, PocketBase, ROOT_EMAIL, ROOT_PASSWORD, Request};

const SIZES: [&str; 16] = [
    "40x50", "40x50t", "40x50b", "40x50f", "0x30", "37x0", "400x500", "400x500f", "400x0", "7x333f", "500x3",
    "3x500b", "0x1", "1x0", "33x0t", "120x110",
];

/// How far a colour may be off, on average: two encoders of JPEG, and 256 colours of the image beside 256 fixed
/// ones.
fn tolerance(source: Source) -> f64 {
    match source {
        Source::Png | Source::Webp => 1.0,
        Source::Jpeg => 4.0,
        Source::Gif => 24.0,
    }
}

#[test]
fn thumbs_are_those_of_pocketbase() {
    let Ok(server) = PocketBase::start() else {
        assert!(!testkit::is_ci(), "no PocketBase");
        return;
    };
    let pocketbase = Album::new(server.client());
    for (name, source, bytes) in images() {
        let url = pocketbase.upload(name, &bytes);
        for text in SIZES {
            let theirs = pocketbase.client.send(&Request::new("GET", format!("{url}?thumb={text}"))).unwrap();
            let ours = make(&bytes, Size::parse(text).unwrap(), source).unwrap();
            assert_eq!(theirs.header("Content-Type"), Some(ours.mime), "{name} {text}");
            let (theirs, ours) = (pixels(&theirs.body), pixels(&ours.bytes));
            assert_eq!(ours.dimensions(), theirs.dimensions(), "{name} {text}");
            let off = difference(&ours, &theirs);
            // Of a JPEG so small there is little left but how it was encoded.
            let is_comparable = source != Source::Jpeg || ours.width() * ours.height() >= 100;
            assert!(!is_comparable || off <= tolerance(source), "{name} {text}: {off:.2} off");
        }
    }
}

fn images() -> Vec<(&'static str, Source, Vec<u8>)> {
    let mut turned = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut turned, 95);
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    picture(300, 170).write_with_encoder(encoder).unwrap();

    let clear = RgbaImage::from_fn(211, 150, |x, y| {
        let [red, green, blue] = colour(x, y, 211, 150);
        Rgba([red, green, blue, (x * 255 / 211) as u8])
    });
    vec![
        ("wide.png", Source::Png, written(picture(300, 200), ImageFormat::Png)),
        ("high.png", Source::Png, written(picture(133, 777), ImageFormat::Png)),
        ("small.png", Source::Png, written(picture(61, 43), ImageFormat::Png)),
        ("low.png", Source::Png, written(picture(500, 20), ImageFormat::Png)),
        ("dot.png", Source::Png, written(picture(1, 1), ImageFormat::Png)),
        ("same.png", Source::Png, written(picture(120, 110), ImageFormat::Png)),
        (
            "grey.png",
            Source::Png,
            written(DynamicImage::from(picture(150, 160)).into_luma16(), ImageFormat::Png),
        ),
        ("clear.png", Source::Png, written(clear, ImageFormat::Png)),
        ("photo.jpg", Source::Jpeg, written(picture(640, 480), ImageFormat::Jpeg)),
        ("turned.jpg", Source::Jpeg, turned),
        ("old.gif", Source::Gif, written(picture(200, 140), ImageFormat::Gif)),
        ("new.webp", Source::Webp, written(picture(200, 140), ImageFormat::WebP)),
    ]
}

/// Smooth, and no two corners alike.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb(colour(x, y, width, height)))
}

fn colour(x: u32, y: u32, width: u32, height: u32) -> [u8; 3] {
    [(x * 255 / width) as u8, (y * 255 / height) as u8, ((x + y) * 127 / (width + height)) as u8]
}

fn written(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn pixels(bytes: &[u8]) -> RgbaImage {
    image::load_from_memory(bytes).unwrap().into_rgba8()
}

/// By how much a colour that is seen is off, on average.
fn difference(one: &RgbaImage, other: &RgbaImage) -> f64 {
    let seen = |pixel: &Rgba<u8>| {
        let [red, green, blue, alpha] = pixel.0.map(f64::from);
        [red * alpha / 255.0, green * alpha / 255.0, blue * alpha / 255.0, alpha]
    };
    let pairs =
        one.pixels().zip(other.pixels()).flat_map(|(one, other)| seen(one).into_iter().zip(seen(other)));
    let sum: f64 = pairs.map(|(one, other)| (one - other).abs()).sum();
    sum / f64::from(4 * one.width() * one.height())
}

/// A collection with one field of files, all sizes listed.
struct Album {
    client: Client,
    token: String,
}

impl Album {
    fn new(client: Client) -> Album {
        let mut album = Album { client, token: String::new() };
        let sign_in = json!({"identity": ROOT_EMAIL, "password": ROOT_PASSWORD});
        let target = "/api/collections/_superusers/auth-with-password";
        let answer = album.ask(Request::new("POST", target).json(sign_in.to_string()));
        album.token = answer["token"].as_str().unwrap().to_owned();
        let field =
            json!({"name": "f", "type": "file", "maxSelect": 1, "maxSize": 9_000_000, "thumbs": SIZES});
        let collection = json!({"name": "album", "type": "base", "fields": [field]});
        album.ask(Request::new("POST", "/api/collections").json(collection.to_string()));
        album
    }

    /// Where the file is served.
    fn upload(&self, name: &str, bytes: &[u8]) -> String {
        let head = format!(
            "--cut\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let body = [head.as_bytes(), bytes, b"\r\n--cut--\r\n"].concat();
        let request = Request::new("POST", "/api/collections/album/records");
        let request = Request { body, ..request.header("Content-Type", "multipart/form-data; boundary=cut") };
        let record = self.ask(request);
        format!("/api/files/album/{}/{}", record["id"].as_str().unwrap(), record["f"].as_str().unwrap())
    }

    fn ask(&self, request: Request) -> Value {
        let answer = self.client.send(&request.header("Authorization", &self.token)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

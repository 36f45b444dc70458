//! `multipart/form-data`: text parts become values, file parts wait in the spool or are read past.

use futures_util::stream;
use multer::{Field, Multipart};

use super::{BodyError, Chunks, FormData, TakeFiles, Upload};

/// Parts of one body; more are refused, as in the contract's server.
const MAX_PARTS: usize = 1000;

pub(super) async fn read(
    content_type: &[u8],
    chunks: Chunks,
    mut max_value_bytes: u64,
    files: TakeFiles<'_>,
) -> Result<FormData, BodyError> {
    let content_type = std::str::from_utf8(content_type).map_err(|_| no_boundary())?;
    let boundary = multer::parse_boundary(content_type).map_err(|_| no_boundary())?;
    let pieces = stream::try_unfold(chunks, |mut chunks| async move {
        Ok::<_, BodyError>(chunks.next().await?.map(|piece| (piece, chunks)))
    });
    let mut parts = Multipart::new(pieces, boundary);
    let mut data = FormData::default();
    for _ in 0..=MAX_PARTS {
        let Some(part) = parts.next_field().await.map_err(into_body_error)? else { return Ok(data) };
        add_part(&mut data, part, &mut max_value_bytes, files).await?;
    }
    Err(BodyError::malformed("too many parts"))
}

async fn add_part(
    data: &mut FormData,
    mut part: Field<'_>,
    value_bytes_left: &mut u64,
    files: TakeFiles<'_>,
) -> Result<(), BodyError> {
    let name = part.name().map(str::to_owned).filter(|name| !name.is_empty());
    let file_name = file_name(&part).filter(|name| !name.is_empty());
    match (name, file_name) {
        (Some(field), Some(file_name)) => {
            let file = match files {
                TakeFiles::Not => {
                    skip(&mut part).await?;
                    None
                }
                TakeFiles::Into(spool, address) => {
                    let mut writer = spool.begin(address)?;
                    while let Some(piece) = part.chunk().await.map_err(into_body_error)? {
                        writer.write(&piece).await?;
                    }
                    Some(writer.finish().await?)
                }
            };
            data.uploads.push(Upload { field, file_name, file });
            Ok(())
        }
        (Some(name), None) => {
            let mut bytes = Vec::new();
            while let Some(piece) = part.chunk().await.map_err(into_body_error)? {
                let left = value_bytes_left.checked_sub(piece.len() as u64);
                *value_bytes_left = left.ok_or(BodyError::TooLarge)?;
                bytes.extend_from_slice(&piece);
            }
            let text = String::from_utf8(bytes);
            let text = text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
            data.add(name, text);
            Ok(())
        }
        (None, _) => skip(&mut part).await,
    }
}

/// The name of a part's file, plain or in the extended form (RFC 8187), which some clients send alone.
fn file_name(part: &Field<'_>) -> Option<String> {
    if let Some(name) = part.file_name() {
        return Some(name.to_owned());
    }
    let disposition = part.headers().get(http::header::CONTENT_DISPOSITION)?.to_str().ok()?;
    let mut parameters = disposition.split(';').map(str::trim);
    let value = parameters.find_map(|parameter| parameter.strip_prefix("filename*="))?;
    let (charset, rest) = value.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    percent_encoding::percent_decode_str(encoded).decode_utf8().ok().map(String::from)
}

async fn skip(part: &mut Field<'_>) -> Result<(), BodyError> {
    while part.chunk().await.map_err(into_body_error)?.is_some() {}
    Ok(())
}

fn no_boundary() -> BodyError {
    BodyError::malformed("no multipart boundary")
}

fn into_body_error(error: multer::Error) -> BodyError {
    match error {
        multer::Error::StreamReadFailed(inner) => match inner.downcast::<BodyError>() {
            Ok(error) => *error,
            Err(other) => BodyError::Malformed(other.to_string().into()),
        },
        other => BodyError::Malformed(other.to_string().into()),
    }
}

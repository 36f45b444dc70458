//! Files up and down. Bytes are compared before anything is timed; then only lengths are looked at.

mod downloads;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Caller;
use crate::data;
use crate::http1::{self, Answer, Body, Connection};
use crate::machine;
use crate::rounds::{Contestant, Sample};
use crate::servers;

/// The files that are downloaded.
const FILES: &str = "files";
/// Those that come by the load, and go again after each round.
const UPLOADS: &str = "uploads";
const BOUNDARY: &str = "groundswell-bench";

#[derive(Clone, Copy)]
pub(crate) enum FileSize {
    /// 64 KiB.
    Small,
    /// 1 MiB.
    Large,
}

impl FileSize {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 64 * 1024,
            Self::Large => 1024 * 1024,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Small => 64,
            Self::Large => 16,
        }
    }

    /// The bytes of file `n`: none is like another, and none compresses.
    fn content(self, n: usize) -> Vec<u8> {
        (0..self.bytes() / 4)
            .flat_map(|k| u32::try_from(data::random(self.name(), n << 20 | k)).unwrap_or(0).to_le_bytes())
            .collect()
    }
}

/// Makes the collections and the files to download, once.
pub(crate) fn prepare(contestant: &Contestant) -> Result<()> {
    let client = contestant.client(Caller::Superuser);
    let file = json!({ "name": "file", "type": "file", "maxSelect": 1, "maxSize": 2 * 1024 * 1024 });
    let fields = json!([{ "name": "title", "type": "text" }, file]);
    for name in [FILES, UPLOADS] {
        data::create_once(
            &client,
            &json!({ "name": name, "type": "base", "fields": fields, "listRule": "", "viewRule": "",
                     "createRule": "", "updateRule": "", "deleteRule": "" }),
        )?;
    }
    for size in [FileSize::Small, FileSize::Large] {
        let there = paths(contestant, size)?.len();
        for n in there..size.count() {
            upload(contestant, FILES, size.name(), &size.content(n))?;
        }
    }
    Ok(())
}

/// Every file of this size must come back as it went; what it is said to be.
pub(crate) fn downloaded(contestant: &Contestant, size: FileSize) -> Result<Value> {
    let paths = paths(contestant, size)?;
    if paths.len() != size.count() {
        bail!("{} files instead of {}", paths.len(), size.count());
    }
    let mut kinds = Vec::new();
    // In the order of their making, which nothing promises: each must be one of those that went.
    let mut expected: Vec<_> = (0..size.count()).map(|n| size.content(n)).collect();
    for path in paths {
        let answer = get(contestant, &path)?;
        let at = expected.iter().position(|content| *content == answer.body);
        expected.swap_remove(at.with_context(|| format!("{path} has other bytes than went up"))?);
        kinds.push(answer.content_type);
    }
    kinds.dedup();
    Ok(json!({ "files": size.count(), "bytes": size.bytes(), "types": kinds }))
}

/// What goes up must come back as it went; how it came.
pub(crate) fn uploaded(contestant: &Contestant, size: FileSize) -> Result<Value> {
    let content = size.content(0);
    let record = upload(contestant, UPLOADS, "proof", &content)?;
    let answer = get(contestant, &path_of(UPLOADS, &record)?)?;
    if answer.body != content {
        bail!("the upload came back with other bytes");
    }
    let id = record["id"].as_str().context("a record without an id")?;
    contestant.client(Caller::Guest).call(
        "DELETE",
        &format!("/api/collections/{UPLOADS}/records/{id}"),
        None,
    )?;
    Ok(json!({ "bytes": content.len(), "type": answer.content_type }))
}

/// One round of downloads.
pub(crate) fn download(
    contestant: &Contestant,
    size: FileSize,
    connections: usize,
    duration: Duration,
) -> Result<Sample> {
    let address = http1::address_of(contestant.server.base_url());
    let requests: Vec<_> =
        paths(contestant, size)?.iter().map(|path| http1::request(address, "GET", path, None)).collect();
    let load = downloads::Load { address, requests: &requests, length: size.bytes(), connections, duration };
    downloads::run(&load, contestant.server.pid())
}

/// Defines no `request`, so that `wrk` makes it once.
pub(crate) fn upload_script(size: FileSize) -> String {
    let mut script = format!("local kibibytes, boundary = {}, {BOUNDARY:?}\n", size.bytes() / 1024);
    let _ = script.write_str(UPLOAD);
    script
}

/// Takes away what the load brought, and waits until the disk has it back.
pub(crate) fn remove_uploads(contestant: &Contestant) -> Result<()> {
    /// More than what stays, the files to download; far less than a round brings.
    const REMAINDER: u64 = 64 * 1024 * 1024;
    const LIMIT: Duration = Duration::from_secs(120);
    let server = &contestant.server;
    let truncate = format!("/api/collections/{UPLOADS}/truncate");
    contestant.client(Caller::Superuser).call("DELETE", &truncate, None)?;
    let is_empty = || machine::folder_size(&server.storage()) < REMAINDER;
    servers::until(Instant::now() + LIMIT, || Ok(is_empty().then_some(())))
        .context("the files of deleted records stay on the disk")
}

fn upload(contestant: &Contestant, collection: &str, title: &str, content: &[u8]) -> Result<Value> {
    let mut form = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\n{title}\r\n\
         --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"data.bin\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    form.extend_from_slice(content);
    form.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let body = Body { content_type: &content_type, bytes: &form };
    let path = format!("/api/collections/{collection}/records");
    let answer = send(contestant, "POST", &path, Some(&body))?;
    Ok(serde_json::from_slice(&answer.body)?)
}

fn get(contestant: &Contestant, path: &str) -> Result<Answer> {
    send(contestant, "GET", path, None)
}

fn send(contestant: &Contestant, method: &str, path: &str, body: Option<&Body<'_>>) -> Result<Answer> {
    let address = http1::address_of(contestant.server.base_url());
    let answer = Connection::open(address)?.send(&http1::request(address, method, path, body))?;
    if answer.status != 200 {
        bail!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(answer)
}

/// Of the files to download. Their names end in random letters, so each server has its own.
fn paths(contestant: &Contestant, size: FileSize) -> Result<Vec<String>> {
    let filter = format!("filter=title%3D%27{}%27&perPage=100", size.name());
    let list = contestant.client(Caller::Guest).call(
        "GET",
        &format!("/api/collections/{FILES}/records?{filter}"),
        None,
    )?;
    let records = list["items"].as_array().context("a list without items")?;
    records.iter().map(|record| path_of(FILES, record)).collect()
}

fn path_of(collection: &str, record: &Value) -> Result<String> {
    let (id, name) = (record["id"].as_str(), record["file"].as_str());
    let (id, name) = id.zip(name).with_context(|| format!("no file in {record}"))?;
    Ok(format!("/api/files/{collection}/{id}/{name}"))
}

/// The bytes need not be random, but no text: what is found out about the content is the same for both.
const UPLOAD: &str = r#"
local kibibyte = {}
for n = 1, 1024 do kibibyte[n] = string.char(any(256)) end
local content = string.rep(table.concat(kibibyte), kibibytes)
wrk.method = "POST"
wrk.path = "/api/collections/uploads/records"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
wrk.body = "--" .. boundary .. '\r\nContent-Disposition: form-data; name="file"; filename="data.bin"\r\n'
  .. "Content-Type: application/octet-stream\r\n\r\n" .. content .. "\r\n--" .. boundary .. "--\r\n"
"#;

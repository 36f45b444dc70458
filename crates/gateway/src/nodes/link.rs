//! A gateway's stream from one node: what it must know, taken as it comes, and begun anew when it ends.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::time::{sleep, timeout};

use super::EVENTS_PATH;
use super::message::{Hello, Notice};
use super::service_nodes::{Node, ServiceNodes};
use crate::proxy::Forward;

/// How long a stream may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(2);
/// How long it may be silent. It says something every 200 ms.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// How long to wait before the next is begun.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest line: some texts of the settings, or names of records.
const MOST_LINE_BYTES: usize = 256 << 10;

/// Follows a node for ever.
pub(super) async fn keep(nodes: &ServiceNodes, node: &Node) {
    let forward = nodes.forward();
    loop {
        let Err(why) = follow(nodes, node, &forward).await;
        nodes.take_loss(node, why);
        sleep(PAUSE).await;
    }
}

async fn follow(nodes: &ServiceNodes, node: &Node, forward: &Forward) -> Result<Infallible, &'static str> {
    let target = match node.seen() {
        Some((code, number)) => format!("{EVENTS_PATH}?node={code}&after={number}"),
        None => EVENTS_PATH.to_owned(),
    };
    let request = nodes.own_request(&target).map_err(|_| "the request for its stream cannot be signed")?;
    let begun = timeout(BEGINS_WITHIN, nodes.send(forward, node.alone().clone(), request)).await;
    let response = begun.map_err(|_| "its stream does not begin")?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err("it refuses our signature: [nodes] keys or the clocks differ");
        }
        _ => return Err("it does not answer"),
    }
    let (mut body, mut waiting, mut has_begun) = (response.into_body(), Vec::new(), false);
    loop {
        let frame = timeout(SILENT_FOR, body.frame()).await.map_err(|_| "its stream is silent")?;
        let frame = frame.ok_or("its stream ended")?.map_err(|_| "its stream broke off")?;
        let Ok(bytes) = frame.into_data() else { continue };
        waiting.extend_from_slice(&bytes);
        while let Some(end) = memchr::memchr(b'\n', &waiting) {
            let rest = waiting.split_off(end + 1);
            let line = std::mem::replace(&mut waiting, rest);
            let line = str::from_utf8(&line[..end]).map_err(|_| "its stream is no text")?;
            take(nodes, node, line, &mut has_begun)?;
        }
        if waiting.len() > MOST_LINE_BYTES {
            return Err("its stream has a line without an end");
        }
    }
}

fn take(nodes: &ServiceNodes, node: &Node, line: &str, has_begun: &mut bool) -> Result<(), &'static str> {
    if !*has_begun {
        nodes.take_hello(node, Hello::read(line).ok_or("its stream does not begin as ours do")?);
        *has_begun = true;
    } else if line.is_empty() {
        nodes.take_notice(node, None);
    } else {
        nodes
            .take_notice(node, Some(Notice::read(line).ok_or("its stream has a line that is none of ours")?));
    }
    Ok(())
}

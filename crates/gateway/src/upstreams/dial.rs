//! A connection to a server, up to where HTTP begins.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Server;
use crate::net::Protocol;

/// A server that is silent for so long is asked whether it is still there: one that vanished takes no room for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What lies beneath HTTP.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects, and agrees on what is spoken. HTTP/2 only where the pool has it and `may_http2`.
pub(crate) async fn dial(server: &Server, may_http2: bool) -> io::Result<(Wire, Protocol)> {
    let wants_http2 = may_http2 && server.has_http2;
    let stream = TcpStream::connect(server.url.target()).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    if !server.url.has_tls() {
        let protocol = if wants_http2 { Protocol::Http2 } else { Protocol::Http1 };
        return Ok((Wire::Plain(stream), protocol));
    }
    let Some((tls, name)) = &server.tls else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the server has no name that TLS could prove",
        ));
    };
    let stream = tls.connector(wants_http2).connect(name.clone(), stream).await?;
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Ok((Wire::Tls(Box::new(stream)), protocol))
}

//! The PROXY protocol, versions 1 and 2: a proxy that hands connections on says first whose they are
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>). Not a byte past its header is read, since what
//! follows is TLS or HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a header may take: the protocol asks for time for a packet to be sent anew, at least three seconds.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a header of version 2 may take after its first 16 bytes. The addresses take 36; the rest is what proxies tell
/// beside them, such as the names of a client's certificate, which nobody here reads.
const MAX_REST_BYTES: usize = 4096;

/// As the protocol has it, with its end.
const MAX_LINE_BYTES: usize = 107;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;

/// How far a header is.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// So many bytes of it are sure to come, from its beginning.
    Wants(usize),
    /// It is whole, and says whose the connection is: without an address, the proxy's own.
    Whole(Option<SocketAddr>),
}

/// Not a header that is understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no header of the PROXY protocol")]
struct NoHeader;

/// Reads a header, which is to tell whose a connection is. None for the proxy's own, as its checks are.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    match tokio::time::timeout(HEADER_TIMEOUT, read_header(stream)).await {
        Ok(address) => address,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the header of the PROXY protocol is late")),
    }
}

async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::new();
    loop {
        let header = look(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match header {
            Header::Whole(address) => return Ok(address),
            Header::Wants(count) => {
                let known = bytes.len();
                bytes.resize(count, 0);
                stream.read_exact(&mut bytes[known..]).await?;
            }
        }
    }
}

fn look(bytes: &[u8]) -> Result<Header, NoHeader> {
    if bytes.len() < SIGNATURE.len() {
        return Ok(Header::Wants(SIGNATURE.len()));
    }
    if bytes.starts_with(SIGNATURE) {
        return look_at_version_2(bytes);
    }
    if bytes.starts_with(b"PROXY ") {
        return look_at_version_1(bytes);
    }
    Err(NoHeader)
}

/// A line. Its length is not told before its end: it is read byte by byte, once in a connection.
fn look_at_version_1(bytes: &[u8]) -> Result<Header, NoHeader> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        let more = bytes.len() + 1;
        return if more > MAX_LINE_BYTES { Err(NoHeader) } else { Ok(Header::Wants(more)) };
    };
    let line = std::str::from_utf8(line).map_err(|_| NoHeader)?;
    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next() {
        // What follows is to be ignored.
        Some("UNKNOWN") => return Ok(Header::Whole(None)),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(NoHeader),
    };
    let mut address = || words.next()?.parse().ok().filter(|address: &IpAddr| address.is_ipv4() == is_v4);
    let (source, _destination) = (address().ok_or(NoHeader)?, address().ok_or(NoHeader)?);
    let mut port =
        || words.next().filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let (port, _port) = (port().ok_or(NoHeader)?, port().ok_or(NoHeader)?);
    let is_over = words.next().is_none();
    is_over.then(|| Header::Whole(Some(SocketAddr::new(source, port)))).ok_or(NoHeader)
}

fn look_at_version_2(bytes: &[u8]) -> Result<Header, NoHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Header::Wants(FIXED_BYTES));
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_REST_BYTES {
        return Err(NoHeader);
    }
    if rest.len() < length {
        return Ok(Header::Wants(FIXED_BYTES + length));
    }
    let source = match (fixed[12], fixed[13]) {
        // The proxy speaks for itself, of whatever kind.
        (0x20, _) => None,
        // It does not say, or was itself reached by a socket in its file system.
        (0x21, 0x00 | 0x31) => None,
        (0x21, 0x11) => Some(source::<4>(rest, 12)?),
        (0x21, 0x21) => Some(source::<16>(rest, 36)?),
        _ => return Err(NoHeader),
    };
    Ok(Header::Whole(source))
}

/// The first of two addresses and of two ports, which take so many bytes.
fn source<const N: usize>(rest: &[u8], bytes: usize) -> Result<SocketAddr, NoHeader>
where
    IpAddr: From<[u8; N]>,
{
    let addresses = rest.get(..bytes).ok_or(NoHeader)?;
    let (Some(source), Some(port)) = (addresses.first_chunk::<N>(), addresses[2 * N..].first_chunk()) else {
        return Err(NoHeader);
    };
    Ok(SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*port)))
}

/// What fuzzers call, and tests with a few random bytes: no bytes lead to a panic, to a header without an end or to one
/// that wants what is there.
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "its fuzzer builds this file in"))]
pub(crate) fn try_bytes(bytes: &[u8]) {
    let mut known = 0;
    while let Ok(Header::Wants(count)) = look(&bytes[..known]) {
        assert!(count > known && count <= FIXED_BYTES + MAX_REST_BYTES);
        if count > bytes.len() {
            return;
        }
        known = count;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn version_2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, kind], &length, rest].concat()
    }

    /// What is read of a connection that begins so, and what is left for others.
    async fn read_all(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        drop(client);
        let address = read(&mut server).await;
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        (address, rest)
    }

    fn v4() -> Vec<u8> {
        vec![192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80]
    }

    #[tokio::test]
    async fn a_header_says_whose_the_connection_is_and_nothing_more_is_read() {
        let v6 = [&[0x20, 1, 0xd, 0xb8], [0; 11].as_slice(), &[1], &[0; 16], &[0, 9, 0, 80]].concat();
        let with_more = [v4(), vec![3, 0, 1, 0xff]].concat();
        for (header, expected) in [
            (version_2(0x21, 0x11, &v4()), "192.0.2.7:4660"),
            (version_2(0x21, 0x11, &with_more), "192.0.2.7:4660"),
            (version_2(0x21, 0x21, &v6), "[2001:db8::1]:9"),
            (version_2(0x20, 0x11, &v4()), ""),
            (version_2(0x20, 0x00, &[]), ""),
            (version_2(0x21, 0x00, b"xy"), ""),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(), "192.0.2.7:4660"),
            (b"PROXY TCP6 2001:db8::1 ::1 9 80\r\n".to_vec(), "[2001:db8::1]:9"),
            (b"PROXY UNKNOWN\r\n".to_vec(), ""),
            (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), ""),
        ] {
            let (address, rest) = read_all(&[header, b"GET /".to_vec()].concat()).await;
            let address = address.unwrap().map(|address| address.to_string()).unwrap_or_default();
            assert_eq!((address.as_str(), rest.as_slice()), (expected, b"GET /".as_slice()));
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            version_2(0x11, 0x11, &v4()),
            version_2(0x22, 0x11, &v4()),
            version_2(0x21, 0x12, &v4()),
            version_2(0x21, 0x11, &v4()[..11]),
            version_2(0x21, 0x21, &v4()),
            version_2(0x21, 0x11, &vec![0; MAX_REST_BYTES + 1]),
            version_2(0x21, 0x11, &v4())[..20].to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80 \r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +466 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 ::1 9 80\r\n".to_vec(),
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(),
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat(),
        ] {
            assert!(read_all(&bytes).await.0.is_err(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_is_not_waited_for() {
        let (mut client, mut server) = tokio::io::duplex(64);
        client.write_all(b"PROXY TCP4").await.unwrap();
        assert_eq!(read(&mut server).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_corpus_of_the_fuzzer_passes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/proxy_protocol");
        let files = std::fs::read_dir(folder).unwrap();
        let tried = files.map(|file| try_bytes(&std::fs::read(file.unwrap().path()).unwrap())).count();
        assert!(tried >= 5, "{tried} files");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..4) {
            let begin: &[u8] = match kind {
                0 => b"",
                1 => b"PROXY TCP4 ",
                2 => SIGNATURE,
                _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00",
            };
            try_bytes(&[begin, &tail].concat());
        }
    }
}

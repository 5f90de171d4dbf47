//! Zones and names for the DNS responder, from the configuration.

use std::net::IpAddr;
use std::time::Duration;

use millrace_config::model::{self, Config, DnsName};
use millrace_fastpath::tables::names::{
    HashKey, NameBinding, Names, Record, RecordData, Soa, WireName, Zone,
};
use millrace_fastpath::tables::services::ServiceId;

use super::BuildError;

/// The names of all zones, with those that lead to services bound to them; no names when the role is off. `ids` are those
/// of the services, in the order of the file.
pub(crate) fn names(config: &Config, key: HashKey, ids: &[ServiceId]) -> Result<Names, BuildError> {
    let zones = match config.dns.as_ref().filter(|_| config.roles.dns) {
        Some(dns) => {
            dns.zones.iter().map(|zone| self::zone(config, dns, zone, ids)).collect::<Result<Vec<_>, _>>()?
        }
        None => Vec::new(),
    };
    Ok(Names::build(key, &zones)?)
}

fn zone(
    config: &Config,
    dns: &model::Dns,
    zone: &model::Zone,
    ids: &[ServiceId],
) -> Result<Zone, BuildError> {
    let mut bindings = Vec::new();
    for (service, id) in config.services.iter().zip(ids) {
        for name in service.names.iter().filter(|name| innermost(dns, name) == Some(&zone.name)) {
            bindings.push(binding(*id, name, &service.address)?);
        }
    }
    let records = zone.records.iter().map(|record| {
        Ok(Record { owner: wire(&record.name)?, ttl_seconds: seconds(record.ttl), data: data(&record.data)? })
    });
    Ok(Zone {
        apex: wire(&zone.name)?,
        soa: Soa {
            primary: wire(&zone.soa.primary)?,
            contact: wire(&zone.soa.contact)?,
            serial: zone.soa.serial,
            refresh_seconds: seconds(zone.soa.refresh),
            retry_seconds: seconds(zone.soa.retry),
            expire_seconds: seconds(zone.soa.expire),
            minimum_ttl_seconds: seconds(zone.soa.minimum_ttl),
        },
        ttl_seconds: seconds(zone.ttl),
        cold_ttl_seconds: seconds(zone.cold_ttl),
        records: records.collect::<Result<_, BuildError>>()?,
        bindings,
    })
}

/// The zone that a name lies in, if one lies in another.
fn innermost<'a>(dns: &'a model::Dns, name: &DnsName) -> Option<&'a DnsName> {
    let around = dns.zones.iter().map(|zone| &zone.name).filter(|zone| name.is_in(zone));
    around.max_by_key(|zone| zone.labels().count())
}

fn binding(service: ServiceId, name: &DnsName, addresses: &[IpAddr]) -> Result<NameBinding, BuildError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(*address),
            IpAddr::V6(address) => v6.push(*address),
        }
    }
    Ok(NameBinding { name: wire(name)?, service, v4, v6 })
}

fn data(data: &model::RecordData) -> Result<RecordData, BuildError> {
    Ok(match data {
        model::RecordData::A(address) => RecordData::A(*address),
        model::RecordData::Aaaa(address) => RecordData::Aaaa(*address),
        model::RecordData::Ns(name) => RecordData::Ns(wire(name)?),
        model::RecordData::Txt(strings) => RecordData::Txt(strings.clone()),
    })
}

fn wire(name: &DnsName) -> Result<WireName, BuildError> {
    WireName::from_wire(&name.to_wire())
        .map_err(|reason| BuildError::Name { name: name.as_str().to_owned(), reason })
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

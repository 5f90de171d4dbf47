//! Zones and names for the DNS responder, from the configuration.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use millrace_config::model::{self, Config, DnsName, PortIndex, ViewIndex};
use millrace_config::zonefile::ZoneFile;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::dns::RecordType;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::names::{
    HashKey, NameBinding, Names, Record, RecordData, Soa, WireName, Zone,
};
use millrace_fastpath::tables::services::ServiceId;
use millrace_fastpath::tables::views::{View, Views};

use super::BuildError;

/// The zones and names that clients see.
#[derive(Clone, Debug, Default)]
pub struct DnsNames {
    /// As those without a view see them.
    pub(super) names: Names,
    /// As those of each view do.
    pub(super) views: Views,
}

/// The names of all zones, with those that lead to services bound to them: as clients without a view see them, and as
/// those of each view do. No names when the role is off. Files are those of the configuration's zones, by their index;
/// `ids` are those of the services, in the order of the file.
pub(crate) fn names(
    config: &Config,
    mut files: HashMap<usize, ZoneFile>,
    key: HashKey,
    ids: &[ServiceId],
    interfaces: impl Fn(PortIndex) -> Vec<InterfaceId>,
) -> Result<DnsNames, BuildError> {
    let Some(dns) = config.dns.as_ref().filter(|_| config.roles.dns) else {
        return Ok(DnsNames::default());
    };
    let mut zones = Vec::new();
    for (index, zone) in dns.zones.iter().enumerate() {
        zones.push(self::zone(zone, files.remove(&index).unwrap_or_default())?);
    }
    // A zone of the view's own takes the place of everybody's.
    let seen = |view: Option<ViewIndex>| -> Result<Names, BuildError> {
        let own = |name: &DnsName| dns.zones.iter().any(|zone| zone.view == view && zone.name == *name);
        let chosen: Vec<(&DnsName, &Zone)> = (dns.zones.iter().zip(&zones))
            .filter(|(zone, _)| zone.view == view || (zone.view.is_none() && !own(&zone.name)))
            .map(|(zone, built)| (&zone.name, built))
            .collect();
        let built: Vec<&Zone> = chosen.iter().map(|(_, zone)| *zone).collect();
        let mut names = Names::build(key, &built)?;
        for (service, id) in config.services.iter().zip(ids) {
            for name in service.names.iter().filter(|name| chosen.iter().any(|(apex, _)| name.is_in(apex))) {
                names.bind(&binding(*id, name, &service.address)?)?;
            }
        }
        Ok(names)
    };
    let mut views = Vec::new();
    for (index, view) in dns.views.iter().enumerate() {
        views.push(View {
            name: view.name.as_str().to_owned(),
            interfaces: view.ports.iter().flat_map(|port| interfaces(*port)).collect(),
            prefixes: view.clients.iter().map(|prefix| (Addr::from(prefix.addr()), prefix.len())).collect(),
            names: seen(Some(ViewIndex(index)))?,
        });
    }
    Ok(DnsNames { names: seen(None)?, views: Views::new(views) })
}

/// A zone without the names of services, which are bound once its table is built.
fn zone(zone: &model::Zone, file: ZoneFile) -> Result<Zone, BuildError> {
    let soa = match (&zone.soa, file.soa) {
        (Some(soa), _) => Soa {
            primary: wire(&soa.primary)?,
            contact: wire(&soa.contact)?,
            serial: soa.serial,
            refresh_seconds: seconds(soa.refresh),
            retry_seconds: seconds(soa.retry),
            expire_seconds: seconds(soa.expire),
            minimum_ttl_seconds: seconds(soa.minimum_ttl),
        },
        (None, Some(soa)) => Soa {
            primary: owner(&soa.primary)?,
            contact: owner(&soa.contact)?,
            serial: soa.serial,
            refresh_seconds: soa.refresh_seconds,
            retry_seconds: soa.retry_seconds,
            expire_seconds: soa.expire_seconds,
            minimum_ttl_seconds: soa.minimum_ttl_seconds,
        },
        (None, None) => return Err(BuildError::SoaMissing { zone: zone.name.as_str().to_owned() }),
    };
    let mut records = Vec::with_capacity(zone.records.len() + file.records.len());
    for record in &zone.records {
        let data = data(&record.data)?;
        records.push(Record { owner: wire(&record.name)?, ttl_seconds: seconds(record.ttl), data });
    }
    for record in file.records {
        let owner = owner(&record.owner)?;
        let kind = RecordType(record.type_number);
        let data = RecordData::from_wire(kind, &record.data);
        let data = data.ok_or_else(|| BuildError::Data { name: owner.to_string(), kind })?;
        records.push(Record { owner, ttl_seconds: record.ttl_seconds, data });
    }
    Ok(Zone {
        apex: wire(&zone.name)?,
        soa,
        ttl_seconds: seconds(zone.ttl),
        cold_ttl_seconds: seconds(zone.cold_ttl),
        records,
        bindings: Vec::new(),
    })
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
        model::RecordData::Cname(name) => RecordData::Cname(wire(name)?),
        model::RecordData::Other { type_number, data } => {
            RecordData::Other { kind: RecordType(*type_number), data: data.clone() }
        }
    })
}

fn owner(name: &[u8]) -> Result<WireName, BuildError> {
    WireName::from_wire(name)
        .map_err(|reason| BuildError::Name { name: String::from_utf8_lossy(name).into_owned(), reason })
}

fn wire(name: &DnsName) -> Result<WireName, BuildError> {
    WireName::from_wire(&name.to_wire())
        .map_err(|reason| BuildError::Name { name: name.as_str().to_owned(), reason })
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

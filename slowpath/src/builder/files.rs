//! The files that the configuration names for the tables: zones, the secrets of cookies, and the keys of QUIC connection ids.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millrace_config::Report;
use millrace_config::domainfile::DomainFile;
use millrace_config::model::{
    Bier, Config, Cookies, SecretRef, Subdomain, Topology, cookie_secrets, quic_key,
};
use millrace_config::zonefile::{ZoneFile, ZoneFileError};
use millrace_fastpath::dns::CookieSecret;
use millrace_fastpath::wire::quic_lb::Key;
use siphasher::sip::SipHasher13;

/// What those files say.
#[derive(Clone, Debug, Default)]
pub struct TableFiles {
    /// Zone files, by the index of their zone in the configuration.
    pub zones: HashMap<usize, ZoneFile>,
    /// The shared secrets of cookies, the one that makes them first; none where the appliance has its own.
    pub cookie_secrets: Vec<CookieSecret>,
    /// The keys of QUIC connection ids, by the name that the configuration has for their file.
    pub quic_keys: QuicKeys,
    /// The topologies of BIER.
    pub domains: Domains,
    /// Of each file's text, by the name that the configuration has for it.
    pub digests: BTreeMap<PathBuf, Digest>,
}

/// The topologies of BIER, by the index of their sub-domain in the configuration. They fit it.
pub type Domains = HashMap<usize, Arc<DomainFile>>;

/// The keys of QUIC connection ids, by the configuration's names of their files.
pub type QuicKeys = BTreeMap<PathBuf, Key>;

/// What is kept of a file's text, to tell whether it is another one: a file may have a million records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    fn of(text: &[u8]) -> Self {
        Self(SipHasher13::new().hash(text))
    }
}

/// Why a file can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system doesn't give it.
    #[error("{} can't be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// It isn't a zone file that can be taken.
    #[error("{}, {reason}", path.display())]
    Zone {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: ZoneFileError,
    },
    /// It isn't a topology that this appliance is in.
    #[error("{0}")]
    Topology(Box<Report>),
    /// It has no secrets, or something else.
    #[error("{} isn't one to three lines of 32 hexadecimal digits", path.display())]
    Secrets {
        /// The file.
        path: PathBuf,
    },
    /// It has no key, or something else.
    #[error("{} isn't one line of 32 hexadecimal digits", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
}

impl TableFiles {
    /// Reads what the configuration names. Relative paths begin at `folder`, that of the configuration file.
    ///
    /// # Errors
    /// The first file that can't be had.
    pub fn read(config: &Config, folder: &Path) -> Result<Self, FileError> {
        let mut files = Self::default();
        let digests = &mut files.digests;
        let mut read = |name: &Path| {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    digests.insert(name.to_owned(), Digest::of(&bytes));
                    Ok((path, bytes))
                }
                Err(reason) => Err(FileError::Unreadable { path, reason }),
            }
        };
        let layouts =
            config.services.iter().flat_map(|service| &service.quic).flat_map(|quic| quic.layouts());
        for SecretRef::File(file) in
            layouts.filter(|_| config.roles.balancer).filter_map(|one| one.key.as_ref())
        {
            let (path, text) = read(file)?;
            let key = std::str::from_utf8(&text).ok().and_then(quic_key);
            files.quic_keys.insert(file.clone(), Key(key.ok_or(FileError::Key { path })?));
        }
        for (index, bier, subdomain, topology) in topologies(config) {
            let (path, text) = read(&topology.file)?;
            let fitting = |file: DomainFile| {
                file.domain(subdomain.id, subdomain.bsl)?;
                file.own_links(config, bier, subdomain, topology.router.as_str())?;
                let tunnel = subdomain.encapsulation.tunnel().unwrap_or(subdomain.tunnel);
                file.takes_tunnels(tunnel, subdomain.remote_backups)?;
                Ok(file)
            };
            let file = DomainFile::parse(&path.display().to_string(), &text).and_then(fitting);
            let file = file.map_err(|report| FileError::Topology(Box::new(report)))?;
            files.domains.insert(index, Arc::new(file));
        }
        let Some(dns) = config.dns.as_ref().filter(|_| config.roles.dns) else { return Ok(files) };
        for (index, zone) in dns.zones.iter().enumerate() {
            let Some(file) = &zone.file else { continue };
            let (path, text) = read(file)?;
            let ttl_seconds = u32::try_from(zone.ttl.as_secs()).unwrap_or(u32::MAX);
            let parsed = ZoneFile::parse(&text, &zone.name, ttl_seconds);
            files.zones.insert(index, parsed.map_err(|reason| FileError::Zone { path, reason })?);
        }
        if let Some(Cookies::Shared(SecretRef::File(file))) = &dns.cookies {
            let (path, text) = read(file)?;
            let secrets = std::str::from_utf8(&text).ok().and_then(cookie_secrets);
            files.cookie_secrets = secrets.ok_or(FileError::Secrets { path })?;
        }
        Ok(files)
    }
}

/// The sub-domains whose ways are computed.
fn topologies(config: &Config) -> impl Iterator<Item = (usize, &Bier, &Subdomain, &Topology)> {
    config.bier.iter().flat_map(|bier| {
        let each = bier.subdomains.iter().enumerate();
        each.filter_map(move |(at, one)| Some((at, bier, one, one.topology.as_ref()?)))
    })
}

#[cfg(test)]
mod tests {
    use millrace_fastpath::addr::Addr;
    use millrace_fastpath::tables::names::HashKey;
    use millrace_fastpath::wire::quic_lb::{Codec, Layout, ServerId};

    use super::*;
    use crate::builder::{BuildError, TableBuilder};
    use crate::testing::{EDGE, ports};

    /// The test's configuration with its zone in a file that has this text, read from a folder.
    fn read(text: &str, change: impl Fn(&str) -> String) -> (Config, Result<TableFiles, FileError>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("z.zone"), text).unwrap();
        let secret = "e5e973e5a6b2a43f48e7dc849e37bfcf\n";
        std::fs::write(folder.path().join("c.secret"), secret).unwrap();
        std::fs::write(folder.path().join("two.secrets"), secret.repeat(2)).unwrap();
        let (before, rest) = EDGE.split_once("soa = ").unwrap();
        let (_, after) = rest.split_once('\n').unwrap();
        let config = Config::parse("t", &change(&format!("{before}file = \"z.zone\"\n{after}"))).unwrap();
        let files = TableFiles::read(&config, folder.path());
        (config, files)
    }

    const ZONE: &str = "@ SOA ns1 ops 9 3600 600 604800 5\nwww 60 A 192.0.2.80\n*.w CNAME hello\n";

    #[test]
    fn a_zone_is_served_from_file_and_configuration_together() {
        let (config, files) = read(ZONE, str::to_owned);
        let builder = TableBuilder::new(&config, &ports(), files.unwrap(), HashKey(1, 2)).unwrap();
        let names = &builder.tables().names;
        let get = |name: &[u8]| names.get(name);
        assert!(get(b"\x03www\x02fn\x07example\0").is_some() && get(b"\x03ns1\x02fn\x07example\0").is_some());
        assert_eq!(get(b"\x05hello\x02fn\x07example\0").unwrap().service(), builder.find("hello"));
        assert!(get(b"\x01*\x01w\x02fn\x07example\0").unwrap().is_alias());
        let serial = &names.zones()[0].negative()[12 + 16 + 16..][..4];
        assert_eq!(serial, [0, 0, 0, 9], "the file's SOA");
    }

    #[test]
    fn the_configurations_soa_goes_before_the_files() {
        let soa = "soa = { primary = \"ns1.fn.example.\", contact = \"ops.fn.example.\", serial = 77 }\nfile";
        let (config, files) = read(ZONE, |text| text.replacen("file", soa, 1));
        let builder = TableBuilder::new(&config, &ports(), files.unwrap(), HashKey(1, 2)).unwrap();
        assert_eq!(builder.tables().names.zones()[0].negative()[12 + 16 + 16..][..4], [0, 0, 0, 77]);
    }

    #[test]
    fn what_a_file_lacks_or_has_too_much_is_told() {
        let build = |text: &str| {
            let (config, files) = read(text, str::to_owned);
            TableBuilder::new(&config, &ports(), files.unwrap(), HashKey(1, 2)).map(|_| ()).unwrap_err()
        };
        assert_eq!(build("www A 192.0.2.80\n"), BuildError::SoaMissing { zone: "fn.example.".into() });
        let message = |text: &str| build(&format!("{ZONE}{text}")).to_string();
        assert!(message("sub NS ns.sub\n").contains("delegations"));
        assert!(message("www.example.org. A 192.0.2.1\n").contains("outside"));
        assert!(message("hello A 192.0.2.1\n").contains("has addresses of its own"));
        assert!(message("d DNAME example.org.\n").contains("DNAME"));
        let error = read("www A 192.0.2\n", str::to_owned).1.unwrap_err().to_string();
        assert!(error.contains("z.zone, line 1: "), "{error}");
        let error = read(ZONE, |text| text.replace("z.zone", "y.zone")).1.unwrap_err().to_string();
        assert!(error.contains("y.zone can't be read: "), "{error}");
    }

    #[test]
    fn shared_secrets_are_read() {
        let with = |file: &str| {
            let keys = format!("[dns]\ncookies = true\ncookie_secrets = \"file:{file}\"");
            read(ZONE, |text| text.replacen("[dns]", &keys, 1)).1
        };
        assert_eq!(with("c.secret").unwrap().cookie_secrets.len(), 1);
        assert!(matches!(with("z.zone"), Err(FileError::Secrets { .. })));
    }

    #[test]
    fn keys_of_connection_ids_are_read_and_make_the_service_what_it_is() {
        let with = |file: &str| {
            let service = "[[service]]\nname = \"q\"\naddress = [\"203.0.113.77\"]\nports = [\"udp/443\"]";
            let backends = "backends = [{ address = \"198.51.100.77\", server_id = \"0x0007\" }]";
            let quic = format!(
                "quic = {{ rotation = 2, server_id_bytes = 2, nonce_bytes = 5, key = \"file:{file}\" }}"
            );
            read(ZONE, |text| format!("{text}\n{service}\n{backends}\n{quic}\n"))
        };
        let (config, files) = with("c.secret");
        let builder = TableBuilder::new(&config, &ports(), files.unwrap(), HashKey(1, 2)).unwrap();
        let entry = builder.tables().services.entry(builder.find("q").unwrap()).unwrap().clone();
        let key = Key(0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes());
        let codec = Codec::new(Layout::new(2, 2, 5, Some(key)).unwrap());
        let find = |server: &[u8]| {
            let id = codec.make(ServerId::new(server).unwrap(), &[1, 2, 3, 4, 5]).unwrap();
            entry.server_ids().unwrap().find(&id).map(|at| entry.instances[at].addresses)
        };
        let address = Addr::from(std::net::Ipv4Addr::new(198, 51, 100, 77));
        assert_eq!((find(&[0, 7]), find(&[0, 8])), (Some([Some(address), None]), None));
        for wrong in ["two.secrets", "z.zone"] {
            let error = with(wrong).1.unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong} isn't one line of 32")), "{error}");
        }
    }
}

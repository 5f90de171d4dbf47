//! What differs between two configurations, in the operator's words, and which of it can be applied while the appliance
//! runs.
//!
//! A configuration is seen as a set of things (a service, a zone, a route, ...), each with a name and facts, one a key of
//! the file. Two things are the same one if they have the same name, wherever they stand in the file. Moving a
//! line, spelling a default out or writing a number another way is no difference. A port is its device: one that has the
//! device of a port whose name is gone is that port under another name, and its VLANs with it.
//!
//! ```
//! use millrace_config::{Config, Diff};
//!
//! let text = r#"
//! schema_version = 1
//! site = { name = "edge-42" }
//! limits = { wakes_burst = 50 }
//! [[port]]
//! name = "wan"
//! device = "net_af_xdp0,iface=wan"
//! addresses = ["192.0.2.1/24"]
//! "#;
//! let running = Config::parse("edge.toml", text)?;
//! let next = Config::parse("edge.toml", &text.replace("50", "80").replace("net_af_xdp0", "net_af_xdp1"))?;
//! let diff = Diff::new(&running, &next);
//! assert_eq!(
//!     diff.to_string(),
//!     "! port wan: device net_af_xdp0,iface=wan -> net_af_xdp1,iface=wan (needs a restart)\n\
//!      ~ limits: wakes_burst 50 -> 80\n"
//! );
//! assert_eq!(diff.restarts().count(), 1);
//! # Ok::<(), millrace_config::Report>(())
//! ```

mod things;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::grammar::words;
use crate::model::{Config, Port};
use things::{Fact, Thing, things};

words! {
    /// The kinds of things that a configuration is made of.
    pub enum What {
        /// Which edge location this is.
        "site" => Site,
        /// What the physical cores do.
        "cores" => Cores,
        /// Hugepages and frames.
        "memory" => Memory,
        /// An Ethernet port.
        "port" => Port,
        /// A tagged network on a port.
        "vlan" => Vlan,
        /// A static route.
        "route" => Route,
        /// A static neighbour.
        "neighbour" => Neighbour,
        /// Which parts run.
        "roles" => Roles,
        /// What holds for all of DNS.
        "dns" => Dns,
        /// Clients that see zones of their own.
        "view" => View,
        /// A zone.
        "zone" => Zone,
        /// A static record of a zone.
        "record" => Record,
        /// A file that the configuration names for DNS or BIER, by its text.
        "file" => File,
        /// Code that runs on serving nodes.
        "function" => Function,
        /// A name and address that lead to a function or to backends.
        "service" => Service,
        /// Port translation.
        "nat" => Nat,
        /// Bounds of tables and rates.
        "limits" => Limits,
        /// What holds for all of BIER.
        "bier" => Bier,
        /// A sub-domain of BIER.
        "subdomain" => Subdomain,
        /// A BIER router beside us, in a sub-domain.
        "bier-neighbour" => BierNeighbour,
        /// A bit of BIER-TE, in a sub-domain and a set.
        "bier-adjacency" => BierAdjacency,
        /// A flow that enters BIER here.
        "overlay" => Overlay,
        /// Who listens to a group behind us.
        "listener" => Listener,
        /// A network whose hosts are asked what they listen to.
        "querier" => Querier,
        /// What holds for all of the content hub.
        "hub" => Hub,
        /// A group whose contents the hub takes in.
        "hub-accept" => HubAccept,
        /// A site that the hub sends to.
        "hub-site" => HubSite,
        /// A node of a site.
        "hub-node" => HubNode,
        /// The link to the orchestrator.
        "orchestrator" => Orchestrator,
        /// A serving node.
        "node" => Node,
        /// Metrics, control socket and log.
        "telemetry" => Telemetry,
    }
}

words! {
    /// What became of a thing.
    pub enum Kind {
        /// It is new.
        "added" => Added,
        /// It is gone.
        "removed" => Removed,
        /// It says something else.
        "changed" => Changed,
    }
}

/// All differences from one configuration to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// In the order of [`What`], then by name.
    pub changes: Vec<Change>,
}

/// What became of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is.
    pub what: What,
    /// Its name; empty for what there is one of.
    pub name: String,
    /// What became of it.
    pub kind: Kind,
    /// The keys that differ; all of them for what is new or gone.
    pub keys: Vec<KeyChange>,
    /// Whether it can't be applied while the appliance runs.
    pub restart: bool,
}

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key within the thing, such as `hold.deadline_ms`.
    pub key: &'static str,
    /// Its value so far; `None` where it has none.
    pub from: Option<String>,
    /// Its value from now on.
    pub to: Option<String>,
    /// Whether this key can't be applied while the appliance runs.
    pub restart: bool,
}

impl Diff {
    /// What has to change to get from `old` to `new`.
    pub fn new(old: &Config, new: &Config) -> Self {
        let (mut before, after) = (index(old, new), index(new, old));
        let renamed: BTreeMap<_, _> = renamed(old, new).collect();
        let mut changes = BTreeMap::new();
        for (name, thing) in after {
            let former = renamed.get(&name);
            let change = match before.remove(former.unwrap_or(&name)) {
                None => one_sided(Kind::Added, thing.add_restarts, thing.facts),
                Some(known) => compare(known.facts, thing.facts),
            };
            let change = match former {
                Some((What::Port, former)) => under_another_name(former, &name.1, change),
                _ => change,
            };
            changes.insert(name, change);
        }
        for (name, thing) in before {
            changes.insert(name, one_sided(Kind::Removed, thing.remove_restarts, thing.facts));
        }
        let change = |((what, name), (kind, keys, restart)): ((What, String), Differs)| Change {
            what,
            name,
            kind,
            keys,
            restart,
        };
        let differs = |(_, keys, _): &Differs| !keys.is_empty();
        Self { changes: changes.into_iter().filter(|(_, one)| differs(one)).map(change).collect() }
    }

    /// Adds files that both configurations name and whose text is another now. Configurations know no more of them than
    /// their names, and a [`Diff::new`] nothing of this.
    pub fn add_files<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>) {
        let text = KeyChange {
            key: "text",
            from: Some("old".to_owned()),
            to: Some("new".to_owned()),
            restart: false,
        };
        self.changes.extend(files.into_iter().map(|file| Change {
            what: What::File,
            name: file.display().to_string(),
            kind: Kind::Changed,
            keys: vec![text.clone()],
            restart: false,
        }));
        self.changes.sort_by(|one, other| (one.what, &one.name).cmp(&(other.what, &other.name)));
    }

    /// Whether both configurations mean the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes that need a restart of the appliance.
    pub fn restarts(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.restart)
    }

    /// Whether there are other ports, or ports by other names.
    pub fn touches_ports(&self) -> bool {
        let one_sided = |change: &Change| change.what == What::Port && change.kind != Kind::Changed;
        self.changes.iter().any(one_sided) || self.renamed_ports().next().is_some()
    }

    /// The ports that have another name from now on: the names of before and of now.
    pub fn renamed_ports(&self) -> impl Iterator<Item = (&str, &str)> {
        let ports = self.changes.iter().filter(|change| change.what == What::Port);
        let keys = ports.filter(|change| change.kind == Kind::Changed).flat_map(|change| &change.keys);
        keys.filter(|key| key.key == PORT_NAME).filter_map(|key| key.from.as_deref().zip(key.to.as_deref()))
    }

    /// Whether any DNS answer may differ: names, zones, or the addresses that names lead to.
    pub fn touches_names(&self) -> bool {
        self.changes.iter().any(|change| match change.what {
            What::Roles | What::Dns | What::View | What::Zone | What::Record | What::File => true,
            // A view may be that of its port's clients.
            What::Port | What::Vlan => change.kind != Kind::Changed,
            What::Service => change.keys.iter().any(|key| matches!(key.key, "names" | "address")),
            _ => false,
        })
    }

    /// The first `max` changes as JSON: an array of objects with `change`, `what`, `name`, `restart` and `keys`, an array
    /// of objects with `key`, `from`, `to` (text or null) and `restart`.
    pub fn to_json(&self, max: usize) -> Value {
        let key = |key: &KeyChange| json!({ "key": key.key, "from": key.from, "to": key.to, "restart": key.restart });
        let change = |change: &Change| {
            json!({
                "change": change.kind.as_str(),
                "what": change.what.as_str(),
                "name": change.name,
                "restart": change.restart,
                "keys": change.keys.iter().map(key).collect::<Vec<_>>(),
            })
        };
        self.changes.iter().take(max).map(change).collect()
    }
}

type Differs = (Kind, Vec<KeyChange>, bool);

/// The key of a port that is known by its device.
const PORT_NAME: &str = "name";

/// The ports whose device had another name in `old`, the VLANs of those that both have, and their queriers: what each is
/// called in `new`, and what it was called. A name that goes on is no other port's.
fn renamed(old: &Config, new: &Config) -> impl Iterator<Item = ((What, String), (What, String))> {
    let lacks = |config: &Config, port: &Port| config.ports.iter().all(|other| other.name != port.name);
    let fresh = new.ports.iter().filter(move |port| lacks(old, port));
    let pairs = fresh.filter_map(move |port| {
        let former = old.ports.iter().find(|former| former.device == port.device)?;
        lacks(new, former).then_some((former, port))
    });
    pairs.flat_map(|(former, port)| {
        let names = [former, port].map(|port| port.name.to_string());
        let [before, now] = names.clone();
        let vlans = port.vlans.iter().flat_map(move |vlan| {
            let [before, now] = names.clone().map(|name| format!("{name}.{}", vlan.tag));
            [What::Vlan, What::Querier].map(|what| ((what, now.clone()), (what, before.clone())))
        });
        [What::Port, What::Querier]
            .map(|what| ((what, now.clone()), (what, before.clone())))
            .into_iter()
            .chain(vlans)
    })
}

fn under_another_name(former: &str, name: &str, (kind, mut keys, restart): Differs) -> Differs {
    let (from, to) = (Some(former.to_owned()), Some(name.to_owned()));
    keys.insert(0, KeyChange { key: PORT_NAME, from, to, restart: false });
    (kind, keys, restart)
}

/// The things of `config` by kind and name.
fn index(config: &Config, other: &Config) -> BTreeMap<(What, String), Thing> {
    let mut index = BTreeMap::new();
    things(config, other, &mut |what, name, thing| {
        index.insert((what, name), thing);
    });
    index
}

fn one_sided(kind: Kind, restart: bool, facts: Vec<Fact>) -> Differs {
    let keys = facts.into_iter().map(|fact| {
        let value = Some(fact.value);
        let (from, to) = if kind == Kind::Added { (None, value) } else { (value, None) };
        KeyChange { key: fact.key, from, to, restart }
    });
    (kind, keys.collect(), restart)
}

fn compare(old: Vec<Fact>, new: Vec<Fact>) -> Differs {
    let mut old: BTreeMap<&str, Fact> = old.into_iter().map(|fact| (fact.key, fact)).collect();
    let mut keys = Vec::new();
    for fact in new {
        let from = old.remove(fact.key).map(|known| known.value);
        if from.as_ref() != Some(&fact.value) {
            keys.push(KeyChange { key: fact.key, from, to: Some(fact.value), restart: fact.restarts });
        }
    }
    let gone =
        |fact: Fact| KeyChange { key: fact.key, from: Some(fact.value), to: None, restart: fact.restarts };
    keys.extend(old.into_values().map(gone));
    let restart = keys.iter().any(|key| key.restart);
    (Kind::Changed, keys, restart)
}

/// One line a change: `+` for what is new, `-` for what is gone, `~` for what changed, `!` for what needs a restart.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.kind {
            _ if self.restart => '!',
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        write!(f, "{mark} {}", self.what)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        for (at, key) in self.keys.iter().enumerate() {
            f.write_str(if at == 0 { ": " } else { "; " })?;
            f.write_str(key.key)?;
            match (&key.from, &key.to) {
                (Some(from), Some(to)) => write!(f, " {from} -> {to}")?,
                (Some(value), None) if self.kind == Kind::Removed => write!(f, " {value}")?,
                (Some(from), None) => write!(f, " {from} -> none")?,
                (None, Some(value)) if self.kind == Kind::Added => write!(f, " {value}")?,
                (None, Some(to)) => write!(f, " none -> {to}")?,
                (None, None) => {}
            }
            if key.restart && self.kind == Kind::Changed {
                f.write_str(" (needs a restart)")?;
            }
        }
        match self.kind {
            Kind::Changed => Ok(()),
            kind if self.restart => write!(f, " ({kind}; needs a restart)"),
            _ => Ok(()),
        }
    }
}

//! What operators ask of a hub: `millrace hub put`, `list`, `status` and `verify`. The same questions are answered by a running
//! appliance, over its control socket, and by whoever opens the folder of a store while none runs.
//!
//! ```text
//!  {"put":{"place":{"file":"/srv/image.bin"},"group":"camera"}}    [{"place":"/srv/image.bin","taken":{...}}]
//!  "list"                                                          [{"name":"image.bin",...}]
//!  "status"                                                        {"budget_bytes":...,"contents":[...]}
//!  {"verify":{"name":"image.bin"}}                                 [{"root":"...","damaged":[]}]
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::distribution::{NodeId, Outcome};
use crate::error::Error;
#[cfg(feature = "net")]
use crate::folder::TakeError;
use crate::folder::{TakenIn, take_file, take_folder};
use crate::incoming::Named;
use crate::keys::SigningKey;
use crate::manifest::{Label, Manifest};
use crate::root::Root;
use crate::store::Store;
use crate::time::Millis;
use crate::tree::GROUP;

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// Take something in; answered by a list of [`Put`]s.
    Put(Box<What>),
    /// What is here; answered by a list of [`ContentRow`]s.
    List,
    /// How everything is; answered by a [`Status`].
    Status,
    /// Read what is here and hold it against its hashes; answered by a list of [`Verified`].
    Verify {
        /// Only contents of this name; all without.
        #[serde(default)]
        name: Option<String>,
    },
}

/// What is to be taken in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct What {
    /// Where it is.
    pub place: Place,
    /// What it is called; without, as the file is. Not for several.
    #[serde(default)]
    pub name: Option<String>,
    /// The group of nodes that it is for; all nodes if empty. In a folder and in a bucket folders name groups.
    #[serde(default)]
    pub group: String,
    /// Its version; without, the next one of its name. Not for several.
    #[serde(default)]
    pub version: Option<u64>,
}

/// Where contents are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A file of the machine that answers; its whole path.
    File(PathBuf),
    /// A folder there, and the folders in it, which name groups.
    Folder(PathBuf),
    /// What a server gives over HTTP.
    Url(String),
    /// A part of a bucket of an S3-compatible store.
    Bucket(S3),
}

/// A part of a bucket, and how it is reached. See `BucketOptions`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct S3 {
    /// The store's address.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// What contents' keys begin with.
    pub prefix: String,
    /// The region to sign for.
    pub region: String,
    /// Id and secret of the access key.
    pub access: Option<(String, String)>,
}

/// Without the secret: questions are logged.
impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.endpoint, self.bucket, self.prefix)
    }
}

/// What became of something that was to be taken in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// Where it came from.
    pub place: String,
    /// What it is now.
    pub taken: Option<ContentRow>,
    /// Why it isn't here.
    pub refused: Option<String>,
}

/// A content that has a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContentRow {
    /// What it is called,
    pub name: String,
    /// and for which group of nodes it is; empty for all.
    pub group: String,
    /// Its version.
    pub version: u64,
    /// Its hash.
    pub root: Root,
    /// Its bytes,
    pub size: u64,
    /// and how many of them are here.
    pub held: u64,
    /// Whether all are here, and verified.
    pub complete: bool,
    /// Whether it was removed to make room: only its name is known.
    pub removed: bool,
    /// Whether it stays, because nodes are owed it, or late ones may come.
    pub pinned: bool,
    /// The key that signed it, in hexadecimal digits.
    pub signed_by: Option<String>,
}

/// How a hub is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Bytes that contents may take,
    pub budget_bytes: u64,
    /// and that they take.
    pub used_bytes: u64,
    /// Whether the ledger couldn't be written lately: a crash would cost what came since.
    pub behind: bool,
    /// Whether contents are sent to nodes.
    pub sends: bool,
    /// The contents, and how far each is at the nodes.
    pub contents: Vec<ContentStatus>,
    /// The rules by which contents are taken in from the network.
    #[serde(default)]
    pub rules: Vec<RuleStatus>,
    /// The sites that contents are sent to.
    #[serde(default)]
    pub sites: Vec<SiteStatus>,
    /// What was counted since the store was opened.
    pub counters: BTreeMap<String, u64>,
}

/// What was taken in by a rule since the appliance started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The rule: by what, group, source and profile.
    pub rule: String,
    /// Senders that are heard now.
    pub senders: usize,
    /// What was counted.
    pub counters: BTreeMap<String, u64>,
}

/// What was sent to a site since the appliance started, and what its nodes said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// The site.
    pub site: String,
    /// What left the hub: a packet for each set of nodes in BIER, or for each node.
    pub trunk: LegStatus,
    /// What each node was sent.
    pub legs: BTreeMap<u32, LegStatus>,
    /// Requests for repairs.
    pub nacks: u64,
    /// Acknowledgements.
    pub acks: u64,
    /// Bytes of both.
    pub feedback_bytes: u64,
    /// The greatest round-trip time of its nodes, as it is estimated.
    pub grtt_seconds: f64,
    /// First copies and repairs that each node is sent in a second, of all contents that it doesn't have yet.
    #[serde(default)]
    pub bytes_per_second: BTreeMap<u32, f64>,
    /// Feedback that changed nothing, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// Packets that couldn't be sent, by reason.
    pub unsent: BTreeMap<String, u64>,
}

/// Packets and their bytes: NORM messages, without what carries them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegStatus {
    /// First copies,
    pub first_packets: u64,
    /// in bytes.
    pub first_bytes: u64,
    /// Repairs,
    pub repair_packets: u64,
    /// in bytes.
    pub repair_bytes: u64,
    /// Commands,
    pub control_packets: u64,
    /// in bytes.
    pub control_bytes: u64,
}

/// How far a content is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContentStatus {
    /// The content.
    #[serde(flatten)]
    pub content: ContentRow,
    /// The nodes that it is or was for.
    pub nodes: Vec<NodeRow>,
}

/// How far a content is at a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The node.
    pub node: u32,
    /// What became of it there.
    pub state: NodeState,
    /// Byte ranges that it was known to lack when it was given up.
    pub lacks: Vec<Range<u64>>,
    /// What its session knows, while there is one.
    #[serde(flatten)]
    pub session: Option<NodeProgress>,
}

/// What became of a content at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It hasn't said that it has everything.
    Owed,
    /// It has.
    Acked,
    /// It was given up.
    Failed,
}

/// What a session knows of a content at a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeProgress {
    /// The site.
    pub site: String,
    /// Bytes of first copies that were sent to it,
    pub sent_bytes: u64,
    /// bytes of repairs,
    pub repair_bytes: u64,
    /// and bytes that it is known to miss.
    pub owed_bytes: u64,
    /// Whether it is served apart from the others.
    pub apart: bool,
    /// First copies and repairs that it is sent in a second, over the last few; none once it has everything or is given up, and
    /// before that is known.
    #[serde(default)]
    pub bytes_per_second: Option<f64>,
    /// How long the rest takes at this rate; none while nothing moves.
    #[serde(default)]
    pub seconds_left: Option<f64>,
}

/// A content that was held against its hashes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// The content.
    pub root: Root,
    /// Its names.
    pub names: Vec<String>,
    /// Its bytes,
    pub size: u64,
    /// and those that aren't right, or aren't here: they are fetched again.
    pub damaged: Vec<Range<u64>>,
}

/// The sessions of a running hub.
pub trait Sessions: Send + Sync {
    /// A content is here that wasn't before: nodes are to get it.
    fn arrived(&self, manifest: &Manifest);

    /// What is known of a content at the nodes that it is being sent to.
    fn progress(&self, root: Root, version: u64) -> BTreeMap<NodeId, NodeProgress>;

    /// What was taken in by each rule.
    fn rules(&self) -> Vec<RuleStatus>;

    /// What was sent to each site.
    fn sites(&self) -> Vec<SiteStatus>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The folder can't be read, or there is no thread to ask the network.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The bucket can't be had.
    #[cfg(feature = "net")]
    #[error("the bucket: {0}")]
    Bucket(#[from] object_store::Error),
    /// This build can't ask the network.
    #[cfg(not(feature = "net"))]
    #[error("this build takes in from files only")]
    NoNet,
    /// A name or a version, and several contents.
    #[error("a folder's and a bucket's contents have the names of their files, and the versions that follow")]
    Several,
    /// Not a name, or not a group's.
    #[error("{0:?} can't be the name of a content or of a group")]
    Name(String),
    /// No content has this name.
    #[error("there is no content named {0:?}")]
    Unknown(String),
    /// The store doesn't do it.
    #[error(transparent)]
    Store(#[from] Error),
    /// The answer can't be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Who answers. Clones answer for the same store.
#[derive(Clone)]
pub struct Desk {
    store: Arc<Store>,
    key: Option<Arc<SigningKey>>,
    sessions: Option<Arc<dyn Sessions>>,
}

impl Desk {
    /// Answers for a store; the key signs what is put in.
    pub fn new(store: Arc<Store>, key: Option<Arc<SigningKey>>) -> Self {
        Self { store, key, sessions: None }
    }

    /// The same, for a hub that sends: its sessions hear of what is put in.
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<dyn Sessions>) -> Self {
        Self { sessions: Some(sessions), ..self }
    }

    /// Answers, when it has done what was asked: it may take as long as reading all of it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]. What was to be put in and wasn't is none if it was one of several, but stands in the answer.
    pub fn answer(&self, ask: Ask) -> Result<Value, Refusal> {
        Ok(match ask {
            Ask::Put(what) => serde_json::to_value(self.put(*what)?)?,
            Ask::List => serde_json::to_value(self.list())?,
            Ask::Status => serde_json::to_value(self.status())?,
            Ask::Verify { name } => serde_json::to_value(self.verify(name.as_deref())?)?,
        })
    }

    /// How the hub is, as [`Ask::Status`] tells, without its contents: for metrics.
    pub fn totals(&self) -> Status {
        self.status_of(Vec::new())
    }

    /// Takes something in.
    fn put(&self, what: What) -> Result<Vec<Put>, Refusal> {
        let several = matches!(what.place, Place::Folder(_) | Place::Bucket(_));
        if several && (what.name.is_some() || what.version.is_some() || !what.group.is_empty()) {
            return Err(Refusal::Several);
        }
        let key = self.key.as_deref();
        let now = Millis::now();
        let taken = match &what.place {
            Place::File(path) => {
                let last = path.file_name().unwrap_or_default().to_string_lossy();
                let result = take_file(&self.store, path, named(&what, &last)?, key, now);
                vec![TakenIn { place: path.display().to_string(), result }]
            }
            Place::Folder(path) => take_folder(&self.store, path, key, now)?,
            Place::Url(_) | Place::Bucket(_) => self.take_from_net(&what)?,
        };
        self.store.checkpoint(Millis::now())?;
        Ok(taken.into_iter().map(|one| self.note(one)).collect())
    }

    #[cfg(not(feature = "net"))]
    fn take_from_net(&self, _: &What) -> Result<Vec<TakenIn>, Refusal> {
        Err(Refusal::NoNet)
    }

    /// Takes in what is elsewhere. On a runtime of its own: who asks waits for it on a thread.
    #[cfg(feature = "net")]
    fn take_from_net(&self, what: &What) -> Result<Vec<TakenIn>, Refusal> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match &what.place {
            Place::Url(url) => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let last = path.rsplit('/').next().unwrap_or_default();
                let named = named(what, last)?;
                let taking = crate::download::take_url(&self.store, url, named, self.key.clone());
                let result: Result<_, TakeError> = runtime.block_on(taking);
                Ok(vec![TakenIn { place: url.clone(), result }])
            }
            Place::Bucket(s3) => {
                let bucket = crate::bucket::Bucket::new(crate::bucket::BucketOptions {
                    endpoint: s3.endpoint.clone(),
                    bucket: s3.bucket.clone(),
                    prefix: s3.prefix.clone(),
                    region: s3.region.clone(),
                    access: s3.access.clone(),
                })?;
                Ok(runtime.block_on(bucket.scan(&self.store, self.key.as_ref()))?)
            }
            Place::File(_) | Place::Folder(_) => Ok(Vec::new()),
        }
    }

    fn note(&self, one: TakenIn) -> Put {
        let (taken, refused) = match one.result {
            Ok(manifest) => {
                if let Some(sessions) = &self.sessions {
                    sessions.arrived(&manifest);
                }
                (Some(self.row(&manifest, Millis::now())), None)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        Put { place: one.place, taken, refused }
    }

    fn list(&self) -> Vec<ContentRow> {
        let now = Millis::now();
        self.store.names().iter().map(|manifest| self.row(manifest, now)).collect()
    }

    fn row(&self, manifest: &Manifest, now: Millis) -> ContentRow {
        let what = manifest.description();
        let progress = self.store.progress(what.root, now);
        let digits = |byte: &u8| format!("{byte:02x}");
        ContentRow {
            name: what.name.to_string(),
            group: what.group.to_string(),
            version: what.version,
            root: what.root,
            size: what.size,
            held: progress.map_or(0, |progress| progress.held),
            complete: progress.is_some_and(|progress| progress.complete),
            removed: progress.is_none(),
            pinned: progress.is_some_and(|progress| progress.pinned),
            signed_by: manifest.signed_by().map(|key| key.0.iter().map(digits).collect()),
        }
    }

    fn status(&self) -> Status {
        let now = Millis::now();
        let contents = self.store.names().into_iter().map(|manifest| {
            let content = self.row(&manifest, now);
            let nodes = self.nodes(content.root, content.version);
            ContentStatus { content, nodes }
        });
        self.status_of(contents.collect())
    }

    fn status_of(&self, contents: Vec<ContentStatus>) -> Status {
        let (used_bytes, budget_bytes) = self.store.budget();
        let counts = self.store.counts();
        let counters = counts.rows().map(|(name, _, count)| (name.to_owned(), count)).collect();
        Status {
            budget_bytes,
            used_bytes,
            behind: self.store.is_behind(),
            sends: self.sessions.is_some(),
            contents,
            rules: self.sessions.as_ref().map(|sessions| sessions.rules()).unwrap_or_default(),
            sites: self.sessions.as_ref().map(|sessions| sessions.sites()).unwrap_or_default(),
            counters,
        }
    }

    fn nodes(&self, root: Root, version: u64) -> Vec<NodeRow> {
        let Some(distribution) = self.store.distribution(root, version) else { return Vec::new() };
        let sessions = self.sessions.as_ref();
        let mut progress = sessions.map(|sessions| sessions.progress(root, version)).unwrap_or_default();
        let row = |(node, outcome): (NodeId, Outcome)| {
            let (state, lacks) = match outcome {
                Outcome::Owed => (NodeState::Owed, Vec::new()),
                Outcome::Acked => (NodeState::Acked, Vec::new()),
                Outcome::Failed(lacks) => (NodeState::Failed, lacks),
            };
            NodeRow { node: node.0, state, lacks, session: progress.remove(&node) }
        };
        distribution.nodes.into_iter().map(row).collect()
    }

    /// Reads everything, or what has a name. What is found wrong is missing from then on.
    fn verify(&self, name: Option<&str>) -> Result<Vec<Verified>, Refusal> {
        let mut roots: BTreeMap<Root, Vec<String>> = BTreeMap::new();
        for manifest in self.store.names() {
            let what = manifest.description();
            roots.entry(what.root).or_default().push(what.name.to_string());
        }
        match name {
            Some(name) => roots.retain(|_, names| names.iter().any(|one| one == name)),
            None => roots.extend(unnamed(&self.store, &roots)),
        }
        if let (true, Some(name)) = (roots.is_empty(), name) {
            return Err(Refusal::Unknown(name.to_owned()));
        }
        // What was removed to make room has nothing to verify.
        roots.retain(|root, _| self.store.progress(*root, Millis::now()).is_some());
        let verified = roots.into_iter().map(|(root, names)| {
            let size = self.read_all(root)?;
            let damaged = match self.store.missing(root) {
                Ok(missing) => missing.as_slice().to_vec(),
                Err(Error::Unknown(_)) => std::iter::once(0..size).collect(),
                Err(error) => return Err(error.into()),
            };
            Ok(Verified { root, names, size, damaged })
        });
        verified.collect()
    }

    /// Reads all groups of a content, so that the store finds those that are wrong. Returns its bytes.
    fn read_all(&self, root: Root) -> Result<u64, Error> {
        let mut reader = match self.store.reader(root, Millis::now()) {
            Ok(reader) => reader,
            // What is still arriving is verified when it is complete; what lacks is told.
            Err(Error::Incomplete(_) | Error::Unknown(_)) => {
                return Ok(self.store.progress(root, Millis::now()).map_or(0, |progress| progress.size));
            }
            Err(error) => return Err(error),
        };
        let size = reader.size();
        let mut bytes = vec![0; GROUP as usize];
        let mut at = 0;
        while at < size {
            let len = (size - at).min(GROUP);
            match reader.read(at, &mut bytes[..len as usize], Millis::now()) {
                Ok(()) | Err(Error::Incomplete(_)) => at += len,
                Err(error) => return Err(error),
            }
        }
        Ok(size)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("store", &self.store).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Contents that no name leads to any more.
fn unnamed(store: &Store, named: &BTreeMap<Root, Vec<String>>) -> Vec<(Root, Vec<String>)> {
    let roots = store.contents().into_iter().filter(|root| !named.contains_key(root));
    roots.map(|root| (root, Vec::new())).collect()
}

/// What is to be put in under which name.
fn named(what: &What, last: &str) -> Result<Named, Refusal> {
    let text = what.name.as_deref().unwrap_or(last);
    let name = Label::name(text).ok_or_else(|| Refusal::Name(text.to_owned()))?;
    let group = Label::group(&what.group).ok_or_else(|| Refusal::Name(what.group.clone()))?;
    Ok(Named { name, group, version: what.version })
}

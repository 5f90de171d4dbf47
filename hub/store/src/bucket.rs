//! Contents from an S3-compatible store: what lies below a prefix is taken in. `PREFIX/image.bin` is for all nodes,
//! `PREFIX/cameras/image.bin` for the group `cameras`, as in a folder.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio_stream::StreamExt;

use crate::blocking::blocking;
use crate::download::{CONNECT_MAX, SILENCE_MAX};
use crate::error::Error;
use crate::folder::{TakeError, TakenIn};
use crate::incoming::Named;
use crate::keys::SigningKey;
use crate::manifest::{Label, Manifest};
use crate::store::Store;
use crate::taken::Seen;
use crate::time::Millis;

/// A part of a bucket that is looked at again and again.
#[derive(Debug)]
pub struct Bucket {
    objects: Arc<dyn ObjectStore>,
    /// Where it is, for people and for the ledger.
    url: String,
    prefix: Path,
}

/// How a bucket is reached.
#[derive(Clone)]
pub struct BucketOptions {
    /// The store's address, such as `https://s3.example.net`.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// What contents' keys begin with; empty for all of the bucket.
    pub prefix: String,
    /// The region to sign for; most stores that aren't Amazon's take any.
    pub region: String,
    /// Id and secret of the access key; none for a bucket that everybody may read.
    pub access: Option<(String, String)>,
}

impl Bucket {
    /// A bucket at such an address. Nothing is asked of it yet.
    ///
    /// # Errors
    ///
    /// The options contradict each other.
    pub fn new(options: BucketOptions) -> Result<Self, object_store::Error> {
        install_provider();
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_MAX)
            .with_read_timeout(SILENCE_MAX);
        let builder = AmazonS3Builder::new()
            .with_client_options(client)
            .with_allow_http(options.endpoint.starts_with("http://"))
            .with_region(&options.region)
            .with_bucket_name(&options.bucket)
            .with_endpoint(&options.endpoint);
        let builder = match options.access {
            Some((id, secret)) => builder.with_access_key_id(id).with_secret_access_key(secret),
            None => builder.with_skip_signature(true),
        };
        let url = format!("{}/{}", options.endpoint, options.bucket);
        Ok(Self { objects: Arc::new(builder.build()?), url, prefix: Path::from(options.prefix) })
    }

    /// Looks through the bucket and takes in what is new or has changed.
    ///
    /// # Errors
    ///
    /// The bucket can't be listed. What can't be taken in is in the list.
    pub async fn scan(
        &self,
        store: &Arc<Store>,
        key: Option<&Arc<SigningKey>>,
    ) -> Result<Vec<TakenIn>, object_store::Error> {
        let mut taken = Vec::new();
        let mut list = self.objects.list(Some(&self.prefix));
        while let Some(object) = list.next().await.transpose()? {
            let place = format!("{}/{}", self.url, object.location);
            let mark = mark(&object);
            let is_here = |root| store.progress(root, Millis::now()).is_some();
            if store.seen(&place).is_some_and(|seen| seen.mark == mark && is_here(seen.root)) {
                continue;
            }
            let result = self.take(store, &object, key).await;
            if let Ok(manifest) = &result {
                store.note_seen(&place, Seen { mark, root: manifest.description().root }, Millis::now());
            }
            taken.push(TakenIn { place, result });
        }
        Ok(taken)
    }

    async fn take(
        &self,
        store: &Arc<Store>,
        object: &ObjectMeta,
        key: Option<&Arc<SigningKey>>,
    ) -> Result<Manifest, TakeError> {
        let named = self.named(&object.location).ok_or(TakeError::Name)?;
        let got = self.objects.get(&object.location).await?;
        let size = got.meta.size;
        let mut incoming = store.put(Some(size), Millis::now())?;
        let mut stream = got.into_stream();
        while let Some(bytes) = stream.next().await.transpose()? {
            incoming = blocking(move |now| {
                incoming.write(&bytes, now)?;
                Ok::<_, Error>(incoming)
            })
            .await?;
        }
        // If it was put anew since it was listed, this is the new one, and the next scan takes it once more. What is cut
        // short isn't taken.
        if incoming.size() != size {
            return Err(TakeError::Changed);
        }
        let key = key.cloned();
        Ok(blocking(move |now| incoming.finish(named, key.as_deref(), now)).await?)
    }

    fn named(&self, location: &Path) -> Option<Named> {
        let parts: Vec<_> = location.prefix_match(&self.prefix)?.collect();
        let (group, name) = match &parts[..] {
            [name] => ("", name.as_ref()),
            [group, name] => (group.as_ref(), name.as_ref()),
            _ => return None,
        };
        Some(Named { name: Label::name(name)?, group: Label::group(group)?, version: None })
    }
}

/// TLS takes the process's provider; whoever came first is right, all use the same one.
pub(crate) fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Changes whenever the object does: its tag, or length and time where a store has no tags.
fn mark(object: &ObjectMeta) -> String {
    let tag = object.e_tag.clone();
    tag.unwrap_or_else(|| format!("{} {}", object.size, object.last_modified.timestamp_millis()))
}

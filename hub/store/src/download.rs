//! A content from a server over HTTP.

use std::sync::Arc;
use std::time::Duration;

use crate::blocking::blocking;
use crate::bucket::install_provider;
use crate::error::Error;
use crate::folder::TakeError;
use crate::incoming::Named;
use crate::keys::SigningKey;
use crate::manifest::Manifest;
use crate::store::Store;

/// Takes in what a GET of this URL gives.
///
/// # Errors
///
/// [`TakeError`]; then nothing is left of it.
pub async fn take_url(
    store: &Arc<Store>,
    url: &str,
    named: Named,
    key: Option<Arc<SigningKey>>,
) -> Result<Manifest, TakeError> {
    install_provider();
    let client = reqwest::Client::builder().connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX).build()?;
    let mut answer = client.get(url).send().await?.error_for_status()?;
    let announced = answer.content_length();
    let here = Arc::clone(store);
    let mut incoming = blocking(move |now| here.put(announced, now)).await?;
    // What is cut short is an error of the answer.
    while let Some(bytes) = answer.chunk().await? {
        incoming = blocking(move |now| {
            incoming.write(&bytes, now)?;
            Ok::<_, Error>(incoming)
        })
        .await?;
    }
    Ok(blocking(move |now| incoming.finish(named, key.as_deref(), now)).await?)
}

/// A server that can't be reached is given up after this,
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);
/// and one that says nothing any more after this. How long all takes isn't bounded.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

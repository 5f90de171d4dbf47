//! A bucket of an S3-compatible store: s3s's server, over HTTP and with signatures.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use millrace_hub_store::{Bucket, BucketOptions, TakeError};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use super::*;

pub(crate) const ACCESS: [&str; 2] = ["AKIDEXAMPLE", "a secret of this test"];

/// Serves a folder whose folders are buckets; returns its address.
pub(crate) async fn serve(folder: &Path) -> String {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
    builder.set_auth(SimpleAuth::from_single(ACCESS[0], ACCESS[1]));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    format!("http://{address}")
}

fn bucket(endpoint: &str, secret: &str) -> Bucket {
    Bucket::new(BucketOptions {
        endpoint: endpoint.to_owned(),
        bucket: "images".to_owned(),
        prefix: "site-a".to_owned(),
        region: "eu-west-1".to_owned(),
        access: Some((ACCESS[0].to_owned(), secret.to_owned())),
    })
    .unwrap()
}

#[tokio::test]
async fn objects_below_a_prefix_are_taken_in_once() {
    let (objects, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let put = |key: &str, bytes: &[u8]| {
        let path = objects.path().join("images").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let (one, two) = (content(1, 5 * G + 99), content(2, 7));
    put("site-a/one.bin", &one);
    put("site-a/cameras/two.bin", &two);
    put("site-b/other.bin", b"another site's");
    put("site-a/x/y/z.bin", b"too deep");
    let endpoint = serve(objects.path()).await;
    let store = open(folder.path());
    let source = bucket(&endpoint, ACCESS[1]);
    let taken = source.scan(&store, None).await.unwrap();
    let wrong: Vec<_> = taken.iter().filter(|one| one.result.is_err()).collect();
    assert!(matches!(wrong[..], [one] if matches!(one.result, Err(TakeError::Name))), "{taken:?}");
    let names: Vec<_> =
        store.names().iter().map(|manifest| manifest.description().name.to_string()).collect();
    assert_eq!(names, ["one.bin", "two.bin"]);
    assert_eq!(read(&store, Root::of(&one)).unwrap(), one);
    assert_eq!(store.named(&label("cameras"), &label("two.bin")).unwrap().description().root, Root::of(&two));
    let arrived = store.counts().bytes_arrived;
    assert_eq!(source.scan(&store, None).await.unwrap().len(), 1, "only the one that can't be taken in");
    assert_eq!(store.counts().bytes_arrived, arrived);
    put("site-a/one.bin", &two);
    source.scan(&store, None).await.unwrap();
    let newest = store.named(&label(""), &label("one.bin")).unwrap();
    assert_eq!((newest.description().version, newest.description().root), (2, Root::of(&two)));
    // Without the right key nothing is taken, and that is said.
    assert!(bucket(&endpoint, "wrong").scan(&store, None).await.is_err());
}

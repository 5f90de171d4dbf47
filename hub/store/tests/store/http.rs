//! The cache over HTTP, asked by curl.

use std::process::Command;

use millrace_hub_store::{HttpOptions, Tree, serve};
use tokio::sync::oneshot;

use super::*;

/// A store that is served until the value is gone.
struct Site {
    folder: tempfile::TempDir,
    store: Arc<Store>,
    url: String,
    runtime: tokio::runtime::Runtime,
    stop: Option<oneshot::Sender<()>>,
    server: Option<tokio::task::JoinHandle<()>>,
}

impl Site {
    fn new(budget: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), limits(budget), NOW).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let options = HttpOptions { put_token: Some("token".into()), key: None };
        let server = serve(listener, store.clone(), options, async { drop(stopped.await) });
        let server = Some(runtime.spawn(server));
        Self { folder, store, url, runtime, stop: Some(stop), server }
    }

    /// What curl makes of a request: its exit code, the headers and the body.
    fn curl(&self, arguments: &[&str], path: &str) -> (i32, String, Vec<u8>) {
        let head = self.folder.path().join("head");
        let output = Command::new("curl")
            .args(["-s", "--max-time", "20", "-D"])
            .arg(&head)
            .args(arguments)
            .arg(format!("{}{path}", self.url))
            .output()
            .unwrap();
        let head = std::fs::read_to_string(head).unwrap().to_lowercase();
        (output.status.code().unwrap(), head, output.stdout)
    }

    /// The same, as status and body.
    fn ask(&self, arguments: &[&str], path: &str) -> (u16, Vec<u8>) {
        let (code, head, body) = self.curl(arguments, path);
        assert_eq!(code, 0, "{head}");
        (status(&head), body)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server).unwrap();
        }
    }
}

/// The last status: one of 100 may be before it.
fn status(head: &str) -> u16 {
    let line = head.lines().rfind(|line| line.starts_with("http/")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn contents_are_read_by_root_and_by_name_and_by_range() {
    let site = Site::new(1 << 30);
    let bytes = content(1, 5 * G + 321);
    let root = put(&site.store, "image", &bytes, NOW);
    let path = format!("/blobs/{root}");
    let (code, head, body) = site.curl(&[], &path);
    assert_eq!((code, status(&head), &body), (0, 200, &bytes));
    assert!(head.contains(&format!("etag: \"{root}\"")) && head.contains("accept-ranges: bytes"), "{head}");
    assert!(
        head.contains(&format!("content-length: {}", bytes.len())) && head.contains("immutable"),
        "{head}"
    );
    let (_, head, body) = site.curl(&[], "/content/image");
    assert_eq!((status(&head), &body), (200, &bytes));
    assert!(
        head.contains("cache-control: no-cache") && head.contains(&format!("millrace-version: {}", NOW.0))
    );
    // HEAD says the same and sends nothing.
    let (_, head, body) = site.curl(&["-I"], &path);
    assert_eq!(status(&head), 200);
    assert!(head.contains(&format!("content-length: {}", bytes.len())), "{head}");
    assert!(!body.windows(8).any(|window| window == &bytes[..8]));
    for (range, part) in [("0-0", 0..1), ("65530-65545", G - 6..G + 10), ("300000-", 300_000..bytes.len())] {
        let (_, head, body) = site.curl(&["-r", range], &path);
        assert_eq!((status(&head), &body[..]), (206, &bytes[part.clone()]), "{range}");
        let said = format!("content-range: bytes {}-{}/{}", part.start, part.end - 1, bytes.len());
        assert!(head.contains(&said), "{head}");
    }
    assert_eq!(site.ask(&["-r", "-7"], &path), (206, bytes[bytes.len() - 7..].to_vec()));
    let (_, head, body) = site.curl(&["-r", "999999999-"], &path);
    assert_eq!((status(&head), body.len()), (416, 0));
    assert!(head.contains(&format!("content-range: bytes */{}", bytes.len())), "{head}");
    let tag = format!("If-Range: \"{root}\"");
    assert_eq!(site.ask(&["-r", "5-6", "-H", &tag], &path), (206, bytes[5..7].to_vec()));
    assert_eq!(site.ask(&["-r", "5-6", "-H", "If-Range: \"other\""], &path), (200, bytes.clone()));
    let tag = format!("If-None-Match: \"{root}\"");
    assert_eq!(site.ask(&["-H", &tag], "/content/image"), (304, vec![]));
    assert_eq!(site.ask(&[], &format!("{path}/tree")), (200, Tree::of(&bytes).to_bytes()));
    let manifest = site.store.named(&label(""), &label("image")).unwrap();
    assert_eq!(site.ask(&[], "/manifest/image"), (200, manifest.as_bytes().to_vec()));
    // curl itself goes on with what it has a part of.
    let file = site.folder.path().join("download");
    std::fs::write(&file, &bytes[..100_000]).unwrap();
    assert_eq!(site.ask(&["-C", "-", "-o", file.to_str().unwrap()], &path).0, 206);
    assert_eq!(std::fs::read(file).unwrap(), bytes);
}

#[test]
fn what_is_not_here_or_not_asked_rightly_is_refused() {
    let site = Site::new(1 << 30);
    let begun = manifest("begun", 1, b"bytes");
    site.store.begin(&begun, NOW).unwrap();
    let begun = begun.description().root;
    for (arguments, path, wanted) in [
        (&[][..], "/content/none".to_owned(), 404),
        (&[], format!("/blobs/{}", Root::of(b"none")), 404),
        (&["--path-as-is"], "/blobs/../ledger.redb".to_owned(), 404),
        (&[], "/".to_owned(), 404),
        (&[], format!("/blobs/{begun}"), 503),
        (&["-X", "DELETE"], "/content/begun".to_owned(), 405),
        (&["-X", "POST", "-d", "x"], format!("/blobs/{begun}"), 405),
        (&["-T", "-"], "/content/new".to_owned(), 401),
        (&["-T", "-", "-H", "Authorization: Bearer wrong"], "/content/new".to_owned(), 401),
        (
            &["-T", "-", "-H", "Authorization: Bearer token", "-H", "Millrace-Version: x"],
            "/content/new".into(),
            400,
        ),
        (
            &["-T", "-", "-H", "Authorization: Bearer token", "-H", "Content-Range: bytes 0-1/2"],
            "/content/new".into(),
            400,
        ),
    ] {
        assert_eq!(site.ask(arguments, &path).0, wanted, "{arguments:?} {path}");
    }
    assert!(site.curl(&[], &format!("/blobs/{begun}")).1.contains("retry-after: 1"));
    let counts = site.store.counts();
    assert_eq!((counts.http_served, counts.http_refused), (0, 12));
    assert_eq!(site.store.names().len(), 1);
}

#[test]
fn contents_are_put_in_with_a_token() {
    let site = Site::new(4 << 20);
    let source = site.folder.path().join("source");
    let put = |path: &str, bytes: &[u8], more: &[&str]| {
        std::fs::write(&source, bytes).unwrap();
        let all = ["-T", source.to_str().unwrap(), "-H", "Authorization: Bearer token"];
        site.ask(&[&all, more].concat(), path)
    };
    let bytes = content(1, 3 * G + 77);
    let (status, said) = put("/content/cameras/image.bin", &bytes, &[]);
    let said = String::from_utf8(said).unwrap();
    assert_eq!(status, 201, "{said}");
    assert!(said.contains(&Root::of(&bytes).to_string()) && said.contains("\"version\":1"), "{said}");
    assert_eq!(site.ask(&[], "/content/cameras/image.bin"), (200, bytes.clone()));
    // The same again is the same; something else is the next version; of unknown length too.
    assert_eq!(put("/content/cameras/image.bin", &bytes, &[]).0, 200);
    let other = content(2, G);
    assert_eq!(put("/content/cameras/image.bin", &other, &["-H", "Transfer-Encoding: chunked"]).0, 201);
    let newest = site.store.named(&label("cameras"), &label("image.bin")).unwrap();
    assert_eq!((newest.description().version, newest.description().root), (2, Root::of(&other)));
    assert_eq!(put("/content/cameras/image.bin", &bytes, &["-H", "Millrace-Version: 1"]).0, 409);
    assert_eq!(put("/content/huge", &content(3, 5 << 20), &["-H", "Expect:"]).0, 507);
    assert_eq!(put("/content/empty", b"", &[]).0, 201);
    assert_eq!(site.ask(&[], "/content/empty"), (200, vec![]));
    assert_eq!(site.ask(&["-r", "0-"], "/content/empty").0, 416);
    let (_, list) = site.ask(&[], "/content");
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    assert_eq!((list["names"].as_array().unwrap().len(), list["contents"].as_array().unwrap().len()), (2, 3));
}

#[test]
fn a_group_that_went_bad_cuts_the_transfer_and_no_byte_of_it_is_sent() {
    let site = Site::new(1 << 30);
    let bytes = content(1, 40 * G);
    let root = put(&site.store, "image", &bytes, NOW);
    let mut flipped = bytes.clone();
    flipped[30 * G] ^= 1;
    std::fs::write(blob(site.folder.path(), root, ""), flipped).unwrap();
    let (code, head, body) = site.curl(&[], &format!("/blobs/{root}"));
    // 18: a partial file. What came is right.
    assert_eq!((code, status(&head)), (18, 200));
    assert!(body.len() <= 30 * G && bytes.starts_with(&body), "{}", body.len());
    assert_eq!(site.ask(&[], &format!("/blobs/{root}")).0, 503);
    site.store.write(root, 30 * GROUP, &bytes[30 * G..31 * G], NOW).unwrap();
    site.store.complete(root, NOW).unwrap();
    assert_eq!(site.ask(&[], &format!("/blobs/{root}")), (200, bytes));
}

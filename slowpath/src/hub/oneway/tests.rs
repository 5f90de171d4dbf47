use millrace_hub::flute::parse;
use millrace_hub_store::{Label, Limits, Root};

use super::*;

const NOW: Millis = Millis(1_700_000_000_000);

fn configuration(keys: &str) -> Configuration {
    let text = format!(
        "schema_version = 1\n[site]\nname = \"hub\"\n\
         [[port]]\nname = \"lan\"\ndevice = \"net_ring0\"\naddresses = [\"10.9.0.1/24\"]\n\
         [hub]\nstore_path = \"hub\"\nbudget_bytes = 200_000_000\n\
         [[hub.site]]\nprofile = \"flute\"\ncarriage = \"ethernet\"\nport = \"lan\"\ngroup = \"239.1.1.9\"\n\
         rate_bits_per_second = 40_000_000\n{keys}"
    );
    Configuration::parse("hub.toml", &text).unwrap_or_else(|report| panic!("{report}"))
}

fn open(config: &Configuration, store: &Arc<Store>, saved: Option<SavedOneWay>) -> OneWay {
    let site = &config.hub.as_ref().unwrap().sites[0];
    let lane = Arc::new(Lane::new(0, site.rate_bits_per_second));
    OneWay::new(config, site, site.flute.unwrap(), lane, Arc::clone(store), saved)
}

/// Takes a content in, to its end.
fn put(store: &Arc<Store>, name: &str, group: &str, bytes: &[u8]) -> Manifest {
    let (size, root) = (bytes.len() as u64, Root::of(bytes));
    let (name, group) = (Label::name(name).unwrap(), Label::group(group).unwrap());
    let manifest = Manifest::sign(Description { name, group, version: 1, size, root }, None);
    store.begin(&manifest, NOW).unwrap();
    store.write(root, 0, bytes, NOW).unwrap();
    store.complete(root, NOW).unwrap();
    manifest
}

fn store(folder: &Path) -> Arc<Store> {
    Store::open(folder, Limits { budget_bytes: 1 << 30, reserve_bytes: 0 }, NOW).unwrap()
}

fn objects(site: &OneWay) -> Vec<(u64, Root)> {
    site.saved().objects.iter().map(|(toi, root, _)| (*toi, *root)).collect()
}

#[test]
fn a_restart_keeps_numbers_and_takes_up_what_was_put_in_just_before() {
    let folder = tempfile::tempdir().unwrap();
    let (store, config) = (store(folder.path()), configuration(""));
    put(&store, "before", "", b"before");
    // A new site begins with what comes.
    let mut site = open(&config, &store, None);
    assert!(objects(&site).is_empty() && site.has_changed() && !site.has_changed());
    let one = put(&store, "one", "", b"one");
    (0..2).for_each(|_| site.announce(Duration::ZERO, &one));
    let (one, saved) = (one.description().root, site.saved());
    assert_eq!(objects(&site), [(1, one)]);
    let two = put(&store, "two", "", b"two").description().root;

    let site = open(&config, &store, Some(saved.clone()));
    assert_eq!(objects(&site), [(1, one), (2, two)]);
    // Cut otherwise, they aren't the objects that receivers know.
    let site = open(&configuration("code = \"none\"\n"), &store, Some(saved.clone()));
    assert_eq!(objects(&site), [(2, one), (3, two)]);
    let done = SavedOneWay {
        objects: Vec::new(),
        done: site
            .store
            .names()
            .iter()
            .map(|one| (one.description().root, one.description().version))
            .collect(),
        ..saved
    };
    assert!(objects(&open(&config, &store, Some(done))).is_empty());
}

#[test]
fn a_content_is_hashed_sent_and_done() {
    let folder = tempfile::tempdir().unwrap();
    let (store, config) = (store(folder.path()), configuration("passes = 1\ncode = \"none\"\n"));
    let mut site = open(&config, &store, None);
    let bytes = vec![7; 600_000];
    let manifest = put(&store, "a b.bin", "", &bytes);
    site.announce(Duration::ZERO, &manifest);
    for _ in 0..3 {
        assert!(site.sent.is_empty() && site.next_due() == Some(Duration::ZERO));
        assert!(site.hash());
    }
    assert!(!site.hash() && site.sent.len() == 1);
    let mut packets = Vec::new();
    while let Some(now) = site.sender.poll_timeout() {
        let packet = site.sender.poll_transmit(now).unwrap();
        let mut message = Vec::new();
        packet.write(&mut site.cache, &mut site.coder, &mut message).unwrap();
        packets.push(message);
    }
    let mut digest = FileDigest::default();
    digest.update(&bytes);
    let table = parse(&packets[0]).unwrap().content;
    let table = std::str::from_utf8(table).unwrap();
    assert!(table.contains(&digest.finish()) && table.contains("file:///a%20b.bin"), "{table}");
    // The site notes what its session says.
    let tables = Tables::default();
    site.turn(Duration::ZERO, &tables);
    assert!(site.sent.is_empty() && site.saved().done == [(manifest.description().root, 1)]);
    site.announce(Duration::ZERO, &manifest);
    assert!(objects(&site).is_empty(), "what was sent isn't sent again");
}

#[test]
fn what_is_for_a_group_needs_a_node_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let nobody = configuration("");
    let camera = configuration("nodes = [{ id = 2, address = \"10.9.0.2\", groups = [\"camera\"] }]\n");
    let (mut without, mut with) = (open(&nobody, &store, None), open(&camera, &store, None));
    for (group, bytes) in [("camera", b"1"), ("sensor", b"2"), ("", b"3")] {
        let manifest = put(&store, "image", group, bytes);
        without.announce(Duration::ZERO, &manifest);
        with.announce(Duration::ZERO, &manifest);
    }
    assert_eq!((objects(&without).len(), objects(&with).len()), (1, 2));
}

#[test]
fn what_cannot_be_read_is_counted_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let (store, config) = (store(folder.path()), configuration(""));
    let mut site = open(&config, &store, None);
    let (bad, good) = (put(&store, "bad", "", &[1; 9000]), put(&store, "good", "", &[2; 9000]));
    let root = bad.description().root.to_string();
    std::fs::write(folder.path().join("blobs").join(&root[..2]).join(&root), [3; 9000]).unwrap();
    [&bad, &good].into_iter().for_each(|manifest| site.announce(Duration::ZERO, manifest));
    while site.hash() {}
    assert_eq!(objects(&site), [(2, good.description().root)]);
    assert!(site.status().unsent["unreadable"] == 1 && site.saved().done.is_empty());
}

//! Nothing of a lab outlives it: removal in order, also on a signal, and the remains of labs whose process died.

use std::path::Path;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use tokio::signal::unix::{SignalKind, signal};

use super::command::{split, succeed};
use super::{Inner, NAME_PREFIX};

/// Labs that a signal has to remove.
static LABS: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// Has `lab` removed when this process is interrupted or terminated.
pub(super) fn remove_on_signal(lab: &Arc<Inner>) {
    let mut labs = LABS.lock().unwrap_or_else(PoisonError::into_inner);
    labs.retain(|known| known.strong_count() > 0);
    labs.push(Arc::downgrade(lab));
    static WATCH: Once = Once::new();
    WATCH.call_once(|| drop(std::thread::Builder::new().name("lab-signals".to_owned()).spawn(watch)));
}

fn watch() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let code = runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => 128 + 2,
            _ = terminate.recv() => 128 + 15,
        }
    });
    let labs: Vec<_> =
        LABS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
    for lab in labs {
        lab.remove(false);
    }
    std::process::exit(code);
}

/// Removes the namespaces of labs whose process is gone (it was killed, or the machine lost power to it).
pub(super) fn remove_remains() {
    let Ok(list) = std::fs::read_dir("/run/netns") else { return };
    for entry in list.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove_namespace(&name);
        }
    }
}

/// Removes one namespace with all its links, and the files `ip netns exec` shows inside it.
pub(super) fn remove_namespace(name: &str) {
    // Both may be gone already: two labs may find the same remains.
    let _ = succeed(&mut split(&format!("ip netns delete {name}")));
    let _ = std::fs::remove_dir_all(Path::new(super::NETNS_ETC).join(name));
}

/// The process that a namespace belongs to, read from its name `mr<pid>-...`.
fn owner(namespace: &str) -> Option<u32> {
    namespace.strip_prefix(NAME_PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner("mr812-0-client"), Some(812));
        assert_eq!(owner("mrs-client"), None);
        assert_eq!(owner("blue"), None);
        assert_eq!(owner("mr812"), None);
    }
}

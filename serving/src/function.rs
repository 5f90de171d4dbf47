//! Components, compiled and linked before anybody asks for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use thiserror::Error;
use tracing::info;
use wasmtime::component::Component;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::machine::Machine;
use crate::state::State;

/// One version of a function: its code, linked, without any state.
pub struct Function {
    name: Arc<str>,
    pre: ProxyPre<State>,
}

impl Function {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn pre(&self) -> &ProxyPre<State> {
        &self.pre
    }

    /// Compiles a component and links it.
    ///
    /// # Errors
    /// It is no component, or wants what this node doesn't give.
    pub fn compile(machine: &Machine, name: &str, bytes: &[u8]) -> Result<Self, FunctionError> {
        let refused = |error| FunctionError::Refused { name: name.to_owned(), error };
        let component = Component::new(machine.engine(), bytes).map_err(refused)?;
        let pre = machine.linker().instantiate_pre(&component).and_then(ProxyPre::new).map_err(refused)?;
        Ok(Function { name: name.into(), pre })
    }
}

/// Why a function can't run here.
#[derive(Debug, Error)]
pub enum FunctionError {
    /// Nobody gave this node such a function.
    #[error("this node has no function {0:?}")]
    Unknown(String),
    /// Its file can't be read.
    #[error("cannot read {path} of function {name:?}: {error}")]
    Read {
        /// The function.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Its file isn't a component that this node can run.
    #[error("function {name:?} is not a component that this node can run: {error:#}")]
    Refused {
        /// The function.
        name: String,
        /// What the engine said.
        error: wasmtime::Error,
    },
    /// A mapping that isn't one.
    #[error("{0:?} is neither a directory nor NAME=FILE")]
    Mapping(String),
    /// Two files for one name.
    #[error("function {0:?} is given twice")]
    Twice(String),
}

/// Reads what stands for functions on a command line: `NAME=FILE`, or a directory whose `NAME.wasm` files are all
/// functions.
///
/// # Errors
/// A text that is neither, a directory that can't be read, or a name given twice.
pub fn mappings<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, PathBuf>, FunctionError> {
    let mut found = BTreeMap::new();
    let mut put = |name: String, path: PathBuf| match found.insert(name.clone(), path) {
        None => Ok(()),
        Some(_) => Err(FunctionError::Twice(name)),
    };
    for text in texts {
        if let Some((name, file)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) {
            put(name.to_owned(), PathBuf::from(file))?;
        } else if Path::new(text).is_dir() {
            let unreadable =
                |error| FunctionError::Read { name: String::new(), path: PathBuf::from(text), error };
            for entry in std::fs::read_dir(text).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                let name = path.file_stem().and_then(|stem| stem.to_str());
                if let Some(name) = name.filter(|_| path.extension().is_some_and(|end| end == "wasm")) {
                    put(name.to_owned(), path.clone())?;
                }
            }
        } else {
            return Err(FunctionError::Mapping(text.to_owned()));
        }
    }
    Ok(found)
}

/// The functions of this node, by name. A file that changed is compiled again at the next start of an instance;
/// instances that run keep the code they have.
pub struct Functions {
    machine: Machine,
    paths: BTreeMap<String, PathBuf>,
    compiled: Mutex<BTreeMap<String, Compiled>>,
}

struct Compiled {
    stamp: Stamp,
    function: Arc<Function>,
}

/// Tells one content of a file from another, as far as the file system knows.
type Stamp = (Option<SystemTime>, u64);

impl Functions {
    /// Functions from these files.
    #[must_use]
    pub fn new(machine: Machine, paths: BTreeMap<String, PathBuf>) -> Self {
        Functions { machine, paths, compiled: Mutex::new(BTreeMap::new()) }
    }

    /// Names of all functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.paths.keys().map(String::as_str)
    }

    /// The function's present version. Compiles it if this is the first sight of it, which may take seconds.
    ///
    /// # Errors
    /// See [`FunctionError`].
    pub fn get(&self, name: &str) -> Result<Arc<Function>, FunctionError> {
        let path = self.paths.get(name).ok_or_else(|| FunctionError::Unknown(name.to_owned()))?;
        let unreadable = |error| FunctionError::Read { name: name.to_owned(), path: path.clone(), error };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let stamp = (metadata.modified().ok(), metadata.len());
        // Held while compiling: whoever else wants a function then wants this one, or the same processors.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(name).filter(|known| known.stamp == stamp) {
            return Ok(Arc::clone(&known.function));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let began = std::time::Instant::now();
        let function = Arc::new(Function::compile(&self.machine, name, &bytes)?);
        info!(function = name, path = %path.display(), took = ?began.elapsed(), "compiled or loaded");
        compiled.insert(name.to_owned(), Compiled { stamp, function: Arc::clone(&function) });
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_files_and_directories() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.wasm"), b"").unwrap();
        std::fs::write(directory.path().join("readme.txt"), b"").unwrap();
        let text = directory.path().to_str().unwrap();
        let found = mappings(["b=/tmp/x.wasm", text]).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(matches!(mappings(["nowhere"]), Err(FunctionError::Mapping(_))));
        assert!(matches!(mappings(["a=x", text]), Err(FunctionError::Twice(_))));
    }

    #[test]
    fn what_is_no_component_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bad.wasm");
        std::fs::write(&path, b"not wasm").unwrap();
        let machine = Machine::new(None).unwrap();
        let functions = Functions::new(machine, [("bad".to_owned(), path)].into());
        let error = functions.get("bad").err().unwrap().to_string();
        assert!(error.contains("\"bad\" is not a component"), "{error}");
        assert!(matches!(functions.get("other"), Err(FunctionError::Unknown(_))));
    }
}

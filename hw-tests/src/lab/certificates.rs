//! Certificates for the orchestrator link, fresh for each lab: one authority, one server, one per client.

use std::path::{Path, PathBuf};

use super::command::{split, succeed};
use super::{Lab, LabError};

/// A certificate authority of this lab.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
    /// The authority's certificate, PEM.
    pub authority: PathBuf,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes the authority.
    ///
    /// # Errors
    /// [`LabError`] with what `openssl` said.
    pub fn new(lab: &Lab) -> Result<Self, LabError> {
        let folder = lab.folder().to_owned();
        let authority = folder.join("ca.pem");
        let mut command = request(&folder, "ca", "/CN=lab authority");
        command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        succeed(&mut command)?;
        Ok(Certificates { folder, authority })
    }

    /// A certificate for both ends of a connection, for `name` and, where given, an address. It is made once: who reads
    /// certificate and key would get one of each while they are made anew.
    ///
    /// # Errors
    /// [`LabError`] with what `openssl` said.
    pub fn identity(&self, name: &str, address: Option<&str>) -> Result<Identity, LabError> {
        let identity = Identity {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        if identity.certificate.exists() {
            return Ok(identity);
        }
        let address = address.map(|address| format!(",IP:{address}")).unwrap_or_default();
        let mut command = request(&self.folder, name, &format!("/CN={name}"));
        command.arg("-CA").arg(&self.authority).arg("-CAkey").arg(self.folder.join("ca.key"));
        command.args(["-addext", &format!("subjectAltName=DNS:{name}{address}")]);
        command.args(["-addext", "basicConstraints=critical,CA:false"]);
        command.args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"]);
        succeed(&mut command)?;
        Ok(identity)
    }
}

fn request(folder: &Path, name: &str, subject: &str) -> std::process::Command {
    let mut command =
        split("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj");
    command.arg(subject);
    command.arg("-keyout").arg(folder.join(format!("{name}.key")));
    command.arg("-out").arg(folder.join(format!("{name}.pem")));
    command
}

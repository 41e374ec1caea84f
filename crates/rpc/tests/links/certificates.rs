//! A certificate authority for one test.

use std::fs;

use alyx_config::{ClusterTls, Config};
use alyx_rpc::{Security, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub(crate) struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { dir, issuer }
    }

    /// A role whose certificate carries `name`.
    pub(crate) fn security(&self, name: &str, server_name: Option<&str>) -> Security {
        let files = self.issue(name);
        let mut config = Config::default().cluster;
        config.tls = Some(ClusterTls {
            ca: files.ca,
            cert: files.cert,
            key: files.key,
            server_name: server_name.map(str::to_owned),
        });
        Security::from_config(&config).expect("certificates")
    }

    pub(crate) fn security_with_token(&self, name: &str, token: &str) -> Security {
        Security::new(Some(token), Some(&self.issue(name))).expect("certificates")
    }

    /// A role with a certificate of this authority that trusts another one.
    pub(crate) fn security_trusting(&self, other: &Self, name: &str) -> Security {
        let mut files = self.issue(name);
        files.ca = other.dir.path().join("ca.pem");
        Security::new(None, Some(&files)).expect("certificates")
    }

    fn issue(&self, name: &str) -> TlsFiles {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("signed");
        let path = |ending: &str| self.dir.path().join(format!("{name}.{ending}"));
        fs::write(path("crt"), certificate.pem()).expect("written");
        fs::write(path("key"), key.serialize_pem()).expect("written");
        TlsFiles {
            ca: self.dir.path().join("ca.pem"),
            cert: path("crt"),
            key: path("key"),
            server_name: None,
        }
    }
}

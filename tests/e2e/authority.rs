//! A certificate authority of one test, whose files lie in the project.

use alyx_tests::Project;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Its certificate is in the file `name`.
    pub(crate) fn new(project: &Project, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
        project.write(name, &issuer.pem());
        Self(issuer)
    }

    /// Writes a certificate for `host` and its key.
    pub(crate) fn issue(&self, project: &Project, host: &str, (cert, key): (&str, &str)) {
        let pair = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        let certificate = parameters.signed_by(&pair, &self.0).expect("signed");
        project.write(cert, &certificate.pem());
        project.write(key, &pair.serialize_pem());
    }
}

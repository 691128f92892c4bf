//! TLS as a client: whom to trust, and with which cryptography.
//!
//! Every client of this program is given its configuration here. None leans on a provider that is
//! installed for the whole process: without one, a library that looks for it panics.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// Most bytes of certificates that are read.
pub const MAX_PEM: usize = 64 << 10;
/// Most certificates in one text.
const MAX_ROOTS: usize = 32;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text has no certificate, or a broken one.
    #[error("the root certificate is not one in PEM: {0}")]
    Pem(String),
    /// Neither this system nor the caller names anybody to trust, or a certificate is none.
    #[error(
        "no root certificate can be used ({0}): install the system's (ca-certificates), or give one"
    )]
    Roots(rustls::Error),
}

/// Certificates that are trusted beside the system's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraRoots(Vec<CertificateDer<'static>>);

impl ExtraRoots {
    /// Reads PEM text; at least one certificate, and at most [`MAX_PEM`] bytes.
    ///
    /// # Errors
    /// [`TlsError::Pem`].
    pub fn parse(text: &str) -> Result<Self, TlsError> {
        if text.len() > MAX_PEM {
            return Err(TlsError::Pem(format!("it has more than {MAX_PEM} bytes")));
        }
        let read: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(text.as_bytes()).take(MAX_ROOTS).collect();
        let certificates = read.map_err(|error| TlsError::Pem(error.to_string()))?;
        if certificates.is_empty() {
            return Err(TlsError::Pem("nothing in it begins with BEGIN CERTIFICATE".to_owned()));
        }
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            let added = store.add(certificate.clone());
            added.map_err(|error| TlsError::Pem(error.to_string()))?;
        }
        Ok(Self(certificates))
    }
}

/// A client that trusts this system's roots and others.
///
/// # Errors
/// [`TlsError::Roots`].
pub fn client(extra: &ExtraRoots) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Verifier::new_with_extra_roots(extra.0.iter().cloned(), Arc::clone(&provider))
        .map_err(TlsError::Roots)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Roots)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// A client that trusts nobody: for those that speak without TLS, on this machine.
///
/// # Panics
/// Never: ring has the safe versions.
#[must_use]
pub fn nobody() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("invariant: ring serves the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    /// A server's configuration for `localhost` and 127.0.0.1, and the root that vouches for it, as PEM.
    pub fn server() -> (ServerConfig, String) {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = authority.self_signed(&authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &authority, &authority_key).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        (config, authority.pem())
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(matches!(ExtraRoots::parse(text), Err(TlsError::Pem(_))), "{text}");
        }
        let long = "x".repeat(MAX_PEM + 1);
        assert!(ExtraRoots::parse(&long).is_err());
        let (_, pem) = server();
        client(&ExtraRoots::parse(&pem).unwrap()).unwrap();
        assert!(nobody().enable_sni);
    }
}

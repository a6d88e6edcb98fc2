//! TLS for doors: certificates and keys as PEM files, and who a client's certificate says it is.
//!
//! Loading happens once, at the start, with errors that name the file. Which door uses it is
//! [`crate::server`]'s to say; what an identity may do is the core's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_core::acl::Identity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked, and let in without.
    Want,
    /// They are not let in without one.
    #[default]
    Need,
}

/// Which files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients are believed.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of its kind.
    #[error(
        "{path}: {reason}; PEM is needed (a Java keystore: keytool -importkeystore to PKCS12, then openssl pkcs12 -nodes)"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Clients are asked for certificates that nobody could check.
    #[error(
        "client certificates are asked for, but tls_client_ca names no authority; set it, or tls_client_auth = \"none\""
    )]
    NoAuthority,
    /// The library refuses the whole.
    #[error("TLS: {0}")]
    Refused(String),
}

/// Loads what the files hold.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| at(&files.key, &error))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| at(&files.key, &error))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Refused(error.to_string()))?;
    let builder = match (files.client_auth, &files.client_ca) {
        (ClientAuth::None, _) => builder.with_no_client_auth(),
        (_, None) => return Err(TlsError::NoAuthority),
        (client_auth, Some(path)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| at(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match client_auth {
                ClientAuth::Want => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| at(path, &error))?)
        }
    };
    // Given as it is: whether the member's own certificate is good is for its clients to judge.
    let own = Own(Arc::new(CertifiedKey::new(chain, key)));
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(own))))
}

/// The identity that a verified client certificate proves: scheme `x509`, its subject as id, written
/// as Java writes it.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Option<Identity> {
    Some(Identity { scheme: "x509".into(), id: subject(certificate)? })
}

#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| at(path, &error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| at(path, &error))?;
    if found.is_empty() {
        return Err(at(path, &"no certificate"));
    }
    Ok(found)
}

fn at(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.into(), reason: reason.to_string() }
}

/// One element of DER: its tag and contents, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// A certificate's subject by RFC 2253: the last part first, commas between.
fn subject(certificate: &[u8]) -> Option<String> {
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    let (tag, _, rest) = element(fields)?;
    if tag == VERSION {
        fields = rest;
    }
    // Serial number, algorithm, issuer, validity; then the subject.
    for _ in 0..4 {
        (_, _, fields) = element(fields)?;
    }
    let (_, mut sets, _) = element(fields)?;
    let mut parts = Vec::new();
    while !sets.is_empty() {
        let (_, mut set, rest) = element(sets)?;
        sets = rest;
        let mut values = Vec::new();
        while !set.is_empty() {
            let (_, pair, rest) = element(set)?;
            set = rest;
            let (_, kind, value) = element(pair)?;
            let (_, value, _) = element(value)?;
            values.push(format!("{}={}", attribute(kind), escaped(&String::from_utf8_lossy(value))));
        }
        parts.push(values.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

/// The attribute's short name, or its number in dots.
fn attribute(identifier: &[u8]) -> String {
    match identifier {
        [0x55, 4, 3] => "CN".into(),
        [0x55, 4, 6] => "C".into(),
        [0x55, 4, 7] => "L".into(),
        [0x55, 4, 8] => "ST".into(),
        [0x55, 4, 9] => "STREET".into(),
        [0x55, 4, 10] => "O".into(),
        [0x55, 4, 11] => "OU".into(),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC".into(),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID".into(),
        _ => {
            let mut numbers = Vec::new();
            let mut number = 0_u64;
            for byte in identifier {
                number = number << 7 | u64::from(byte & 0x7f);
                if byte & 0x80 == 0 {
                    match numbers.is_empty() {
                        true => numbers.extend([(number / 40).min(2), number - 40 * (number / 40).min(2)]),
                        false => numbers.push(number),
                    }
                    number = 0;
                }
            }
            numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
        }
    }
}

fn escaped(value: &str) -> String {
    let mut out = String::new();
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        let is_edge = (letter == ' ' && (index == 0 || index == last)) || (letter == '#' && index == 0);
        if is_edge || ",+\"\\<>;".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject_of(names: &[(rcgen::DnType, &str)]) -> Option<String> {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            parameters.distinguished_name.push(kind.clone(), *value);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        subject(parameters.self_signed(&key).expect("a certificate").der())
    }

    #[test]
    fn a_subject_is_written_as_java_writes_it() {
        use rcgen::DnType::*;
        let names = [(CountryName, "NL"), (OrganizationName, "Acme, Inc."), (CommonName, "ann")];
        assert_eq!(subject_of(&names).as_deref(), Some("CN=ann,O=Acme\\, Inc.,C=NL"));
        let custom = [(CustomDnType(vec![1, 2, 840, 113549, 1, 9, 2]), "x"), (CommonName, " b ")];
        assert_eq!(subject_of(&custom).as_deref(), Some("CN=\\ b\\ ,1.2.840.113549.1.9.2=x"));
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
        let der: &[u8] = certificate.cert.der();
        for length in 0..der.len().min(120) {
            subject(&der[..length]);
            let mut bent = der.to_vec();
            bent[length] ^= 0x83;
            subject(&bent);
        }
        assert_eq!(subject(&[]), None);
        assert_eq!(subject(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn a_file_that_is_no_pem_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keystore.jks");
        std::fs::write(&path, [0xfe, 0xed, 0xfe, 0xed]).expect("a file");
        let files =
            TlsFiles { certificate: path.clone(), key: path, client_ca: None, client_auth: ClientAuth::None };
        let error = load(&files).expect_err("refused").to_string();
        assert!(error.contains("keystore.jks") && error.contains("PEM"), "{error}");
    }
}

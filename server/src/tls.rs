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
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};

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
    /// No handshake would succeed.
    #[error(
        "{key} is not the private key of the first certificate in {certificate}; tls_certificate begins with the \
         member's own, those of authorities follow"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
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
    // Given as it is: whether the member's own certificate is good is for its clients to judge, but
    // none could take one that goes with another key.
    let own = CertifiedKey::new(chain, key);
    if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = own.keys_match() {
        return Err(TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() });
    }
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(Own(Arc::new(own))))))
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

/// One element of DER, whole: its tag, its length in the only form that DER has, its contents.
struct Element<'a> {
    tag: u8,
    contents: &'a [u8],
    whole: &'a [u8],
}

/// The first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let number = length.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
            if length[0] == 0 || number < 0x80 {
                return None;
            }
            (number, rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    let (whole, rest) = (&bytes[..bytes.len() - rest.len()], rest);
    Some((Element { tag, contents, whole }, rest))
}

/// A certificate's subject by RFC 2253 as Java writes it: the last part first, commas between. `None`
/// if it cannot be read to the last byte: two subjects must not have one name.
fn subject(certificate: &[u8]) -> Option<String> {
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(certificate)?;
    let (body, _) = element(certificate.contents)?;
    let mut fields = body.contents;
    let (first, rest) = element(fields)?;
    if first.tag == VERSION {
        fields = rest;
    }
    // Serial number, algorithm, issuer, validity; then the subject.
    for _ in 0..4 {
        (_, fields) = element(fields)?;
    }
    let (name, _) = element(fields)?;
    let mut parts = elements(name.contents)?
        .into_iter()
        .map(|set| {
            let pairs = elements(set.contents)?.into_iter().map(|pair| part(pair.contents));
            Some(pairs.collect::<Option<Vec<_>>>()?.join("+"))
        })
        .collect::<Option<Vec<_>>>()?;
    parts.reverse();
    Some(parts.join(","))
}

/// Elements one behind the other.
fn elements(mut bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (next, rest) = element(bytes)?;
        all.push(next);
        bytes = rest;
    }
    Some(all)
}

/// One attribute and its value. The value of an attribute without a short name, and one that is no
/// text, is written as its bytes.
fn part(pair: &[u8]) -> Option<String> {
    let (kind, rest) = element(pair)?;
    let (value, rest) = element(rest)?;
    if !rest.is_empty() {
        return None;
    }
    match (short_name(kind.contents), is_text(&value)) {
        (Some(name), true) => Some(format!("{name}={}", escaped(&text(&value)?))),
        (name, _) => {
            let name = name.map_or_else(|| dotted(kind.contents), |name| Some(name.into()))?;
            let bytes: String = value.whole.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{name}=#{bytes}"))
        }
    }
}

/// The attributes that RFC 2253 names, and UID.
fn short_name(identifier: &[u8]) -> Option<&'static str> {
    match identifier {
        [0x55, 4, 3] => Some("CN"),
        [0x55, 4, 6] => Some("C"),
        [0x55, 4, 7] => Some("L"),
        [0x55, 4, 8] => Some("ST"),
        [0x55, 4, 9] => Some("STREET"),
        [0x55, 4, 10] => Some("O"),
        [0x55, 4, 11] => Some("OU"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => Some("DC"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => Some("UID"),
        _ => None,
    }
}

/// An object identifier as numbers with dots.
fn dotted(identifier: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in identifier {
        number = number.checked_mul(0x80)? | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            match numbers.is_empty() {
                true => numbers.extend([(number / 40).min(2), number - 40 * (number / 40).min(2)]),
                false => numbers.push(number),
            }
            number = 0;
        }
    }
    let is_whole = identifier.last().is_some_and(|byte| byte & 0x80 == 0);
    is_whole.then(|| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("."))
}

const UTF8: u8 = 12;
const PRINTABLE: u8 = 19;
const TELETEX: u8 = 20;
const IA5: u8 = 22;
const GENERAL: u8 = 27;
const BMP: u8 = 30;

/// Whether Java takes it for text. UniversalString is not among these.
fn is_text(value: &Element<'_>) -> bool {
    [UTF8, PRINTABLE, TELETEX, IA5, GENERAL, BMP].contains(&value.tag)
}

/// The text of a value; of the types of one byte a letter, Java takes each for Latin-1. (Older ones take
/// every type for UTF-8, and what is none for U+FFFD, so that many subjects have one name.)
fn text(value: &Element<'_>) -> Option<String> {
    match value.tag {
        UTF8 => std::str::from_utf8(value.contents).ok().map(str::to_owned),
        BMP => {
            let (pairs, odd) = value.contents.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            char::decode_utf16(units).collect::<Result<String, _>>().ok().filter(|_| odd.is_empty())
        }
        _ => Some(value.contents.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// Java escapes what RFC 2253 says, `=`, every `#`, NUL, and all white space at either end.
fn escaped(value: &str) -> String {
    let is_white = |letter: char| letter == ' ' || letter == '\r';
    let begin = value.len() - value.trim_start_matches(is_white).len();
    let end = value.trim_end_matches(is_white).len();
    let mut out = String::new();
    for (index, letter) in value.char_indices() {
        if letter == '\0' {
            out.push_str("\\00");
            continue;
        }
        if index < begin || index >= end || ",=+<>#;\"\\".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: Vec<(rcgen::DnType, rcgen::DnValue)>) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            parameters.distinguished_name.push(kind, value);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn subject_of(names: &[(rcgen::DnType, &str)]) -> Option<String> {
        let names = names.iter().map(|(kind, value)| (kind.clone(), (*value).into()));
        subject(&certificate(names.collect()))
    }

    // Here and where letters are escaped, OpenJDK 17.0.15's `X500Principal.getName` was asked.
    #[test]
    fn a_subject_is_written_as_java_writes_it() {
        use rcgen::DnType::*;
        let names = [(CountryName, "NL"), (OrganizationName, "Acme, Inc."), (CommonName, "ann")];
        assert_eq!(subject_of(&names).as_deref(), Some("CN=ann,O=Acme\\, Inc.,C=NL"));
        let email = CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]);
        let custom = [(email, "a@b"), (CommonName, "b")];
        assert_eq!(subject_of(&custom).as_deref(), Some("CN=b,1.2.840.113549.1.9.1=#0c03614062"));
    }

    #[test]
    fn letters_are_escaped_where_java_escapes_them() {
        for (value, expected) in [
            ("a=b#c", "a\\=b\\#c"),
            ("\"<a>\";\\+", "\\\"\\<a\\>\\\"\\;\\\\\\+"),
            ("  a b  ", "\\ \\ a b\\ \\ "),
            ("\ra\n", "\\\ra\n"),
            ("  ", "\\ \\ "),
            ("a\0", "a\\00"),
            ("\u{e9}\u{1f600} ", "\u{e9}\u{1f600}\\ "),
        ] {
            let subject = subject_of(&[(rcgen::DnType::CommonName, value)]);
            assert_eq!(subject.as_deref(), Some(format!("CN={expected}").as_str()), "{value:?}");
        }
    }

    #[test]
    fn text_is_read_by_its_type_and_what_is_none_of_it_has_no_subject() {
        use rcgen::DnValue;
        use rcgen::string::{BmpString, TeletexString, UniversalString};
        let named = |value: DnValue| certificate(vec![(rcgen::DnType::CommonName, value)]);
        let wide = BmpString::try_from("Zo\u{eb}").expect("in the plane");
        let of_bmp = named(DnValue::BmpString(wide));
        assert_eq!(subject(&of_bmp).as_deref(), Some("CN=Zo\u{eb}"));
        let quad = UniversalString::try_from("Z").expect("any");
        assert_eq!(subject(&named(DnValue::UniversalString(quad))).as_deref(), Some("CN=#1c040000005a"));
        let bent = |mut der: Vec<u8>, from: &[u8], to: &[u8]| {
            let places: Vec<usize> = (0..der.len()).filter(|at| der[*at..].starts_with(from)).collect();
            assert_eq!(places.len(), 2, "issuer and subject");
            for at in places {
                der[at..at + to.len()].copy_from_slice(to);
            }
            subject(&der)
        };
        let half = bent(of_bmp, &[0, b'Z', 0, b'o', 0, 0xeb], &[0xd8, 0, 0, b'o', 0, 0xeb]);
        assert_eq!(half, None, "half a letter");
        let latin = named(DnValue::TeletexString(TeletexString::try_from("Zoe~").expect("ASCII")));
        assert_eq!(bent(latin, b"Zoe~", b"Zo\xeb~").as_deref(), Some("CN=Zo\u{eb}~"));
        let of_utf8 = named("Zoe~".into());
        assert_eq!(bent(of_utf8, b"Zoe~", b"Zo\xeb~"), None, "not UTF-8");
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
    fn a_key_that_belongs_to_another_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let own = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
        let other = rcgen::KeyPair::generate().expect("a key");
        let certificate = write("own.pem", own.cert.pem());
        let with = |key: PathBuf| {
            let certificate = certificate.clone();
            load(&TlsFiles { certificate, key, client_ca: None, client_auth: ClientAuth::None })
        };
        with(write("own-key.pem", own.signing_key.serialize_pem())).expect("they belong together");
        let error = with(write("other-key.pem", other.serialize_pem())).expect_err("refused");
        assert!(matches!(error, TlsError::Mismatch { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains("other-key.pem") && error.contains("own.pem"), "{error}");
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

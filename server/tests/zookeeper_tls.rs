//! The ZooKeeper door with TLS: who has no certificate is not let in, and who has one is known by its
//! subject.

// Its other tests use more of it.
#[allow(dead_code)]
mod zookeeper_support;

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use zookeeper_support::{Member, PATIENCE, Session, Wire, create, put_bytes, read};

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_ACL: i32 = 7;
const WHO_AM_I: i32 = 107;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(parameters, key).expect("a certificate"))
    }

    fn certify(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "tests");
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        (parameters.signed_by(&key, &self.0).expect("a certificate"), key)
    }
}

fn connect(member: &Member, believed: &Authority, own: Option<(rcgen::Certificate, KeyPair)>) -> Wire {
    let mut roots = RootCertStore::empty();
    roots.add(believed.0.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
            let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a certificate")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let stream = TcpStream::connect(("127.0.0.1", member.tls_door())).expect("the door is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a live socket");
    Wire::over(StreamOwned::new(session, stream))
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

#[test]
fn a_certificate_lets_in_and_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let (certificate, key) = authority.certify("member");
    // Both in one file, as ZooKeeper's PEM stores have them.
    let own = write(folder.path(), "own.pem", &format!("{}{}", key.serialize_pem(), certificate.pem()));
    let believed = write(folder.path(), "ca.pem", &authority.0.pem());
    let member = Member::start(&[
        ("--zookeeper-tls-listen", "127.0.0.1:TLS_PORT"),
        ("--tls-certificate", &own),
        ("--tls-key", &own),
        ("--tls-client-ca", &believed),
    ]);

    let mut ann = connect(&member, &authority, Some(authority.certify("ann")));
    assert_ne!(ann.greet(&Session::default()).expect("a welcome").id, 0);
    ann.ask(1, WHO_AM_I, &[]);
    let answer = ann.receive().expect("an answer");
    let shown = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(shown.contains("x509") && shown.contains("CN=ann,O=tests"), "{shown}");

    // A node of hers alone: "auth" stands for whoever the connection has proved to be.
    ann.ask(2, CREATE, &create("/hers", b"secret", 0));
    assert_eq!(ann.receive().expect("an answer").error, 0);
    let mut record = Vec::new();
    put_bytes(&mut record, Some(b"/hers"));
    record.extend([0, 0, 0, 1, 0, 0, 0, 31]);
    put_bytes(&mut record, Some(b"auth"));
    put_bytes(&mut record, Some(b""));
    record.extend((-1_i32).to_be_bytes());
    ann.ask(3, SET_ACL, &record);
    assert_eq!(ann.receive().expect("an answer").error, 0);
    ann.ask(4, GET_DATA, &read("/hers", false));
    assert_eq!(ann.receive().expect("an answer").error, 0);
    let mut bob = connect(&member, &authority, Some(authority.certify("bob")));
    assert_ne!(bob.greet(&Session::default()).expect("a welcome").id, 0);
    bob.ask(1, GET_DATA, &read("/hers", false));
    assert_eq!(bob.receive().expect("an answer").error, -102);

    // Without a certificate, or with another authority's, nobody gets a welcome; nor without TLS.
    for own in [None, Some(stranger.certify("ann"))] {
        let mut wire = connect(&member, &authority, own);
        let welcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wire.greet(&Session::default())));
        assert!(!matches!(welcome, Ok(Some(_))), "let in without a certificate that is believed");
    }
    let mut bare =
        Wire::over(TcpStream::connect(("127.0.0.1", member.tls_door())).expect("the door is open"));
    let welcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bare.greet(&Session::default())));
    assert!(!matches!(welcome, Ok(Some(_))), "let in without TLS");
    bob.ask(2, GET_DATA, &read("/", false));
    assert_eq!(bob.receive().expect("an answer").error, 0);
}

//! A disk that was lost: refused, refused again whoever answers, and free for another id.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quorate_server::config::{Config, Settings};
use quorate_server::environment::Environment;
use quorate_server::replica::files::MemoryFiles;
use quorate_server::replica::founding::{Founded, FoundingError, Hello, cluster_id, found_or_join};
use quorate_server::replica::peer_listener::PeerSwitch;
use quorate_server::replica::peers::{
    Envelope, Inbound, Outbound, PeerError, PeerRequest, PeerResponse, PeerTransport, StreamKind, decode,
    encode,
};

const NAME: &str = "founding";

/// Everybody else: all say the same, or nothing.
#[derive(Debug)]
struct Others(Option<Hello>);

impl PeerTransport for Others {
    fn call(&self, _: &str, request: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let answer = self.0.clone().ok_or_else(|| PeerError::Unreachable("nobody is there".into()));
        async move {
            let (Envelope { cluster, from, to }, _) = decode::<PeerRequest>(&request)?;
            Ok(encode(&Envelope { cluster, from: to, to: from }, &PeerResponse::Hello(answer?)))
        }
        .boxed()
    }

    fn stream(&self, _: &str, _: StreamKind, _: Outbound) -> BoxFuture<'static, Result<Inbound, PeerError>> {
        async { Err(PeerError::Unreachable("nobody is there".into())) }.boxed()
    }
}

/// Members that know founder 1 by another disk; 4 is a learner.
fn members() -> Others {
    let births = BTreeMap::from([(1, 11), (2, 22), (3, 33)]);
    let members = BTreeMap::from([(1, true), (2, true), (3, true), (4, false)]);
    Others(Some(Hello::Member { births, members }))
}

fn config(member: u64, join: bool) -> Config {
    let settings = Settings {
        member_id: Some(member),
        data_dir: Some("/data".into()),
        initial_cluster: Some("1=1:7401/1:7400,2=2:7401/2:7400,3=3:7401/3:7400".into()),
        cluster_name: Some(NAME.into()),
        join: Some(join),
        client_listen: Some(format!("{member}:7400")),
        peer_listen: Some(format!("{member}:7401")),
        http_listen: Some(format!("{member}:7480")),
        ..Settings::default()
    };
    settings.into_config().expect("complete")
}

async fn start(
    files: &MemoryFiles,
    switch: &PeerSwitch,
    config: &Config,
    others: Others,
) -> Result<Founded, FoundingError> {
    let world = Environment::system();
    let others = std::sync::Arc::new(others);
    let starting = found_or_join(config, cluster_id(NAME), &world, others, switch, files);
    tokio::time::timeout(Duration::from_secs(30), starting).await.expect("it waits for ever")
}

fn is_lost<T>(outcome: &Result<T, FoundingError>) -> bool {
    matches!(outcome, Err(FoundingError::DiskLost { member: 1, .. }))
}

#[tokio::test]
async fn a_disk_that_was_refused_is_refused_again_whoever_answers() {
    let (files, switch) = (MemoryFiles::new(), PeerSwitch::default());
    assert!(is_lost(&start(&files, &switch, &config(1, false), members()).await.map(drop)));
    assert!(switch.current().is_err(), "others may take it for a founder");
    assert!(is_lost(&start(&files, &switch, &config(1, false), Others(None)).await.map(drop)));
    // Founders that have lost their disks, too.
    let founders = || Others(Some(Hello::Founding { birth: 7, births: BTreeMap::from([(1, 7)]) }));
    assert!(is_lost(&start(&files, &switch, &config(1, false), founders()).await.map(drop)));
    assert!(switch.current().is_err(), "others may take it for a founder");
}

#[tokio::test]
async fn what_the_refusal_advises_works_on_the_same_directory() {
    let (files, switch) = (MemoryFiles::new(), PeerSwitch::default());
    let refusal = start(&files, &switch, &config(1, false), members()).await.expect_err("its disk was lost");
    assert!(refusal.to_string().contains("member_id = 5, join = true"), "{refusal}");
    let founded = start(&files, &switch, &config(4, true), members()).await.expect("a learner");
    assert!(founded.is_new);
    assert_eq!(founded.births.len(), 1, "a joiner's own: {:?}", founded.births);
}

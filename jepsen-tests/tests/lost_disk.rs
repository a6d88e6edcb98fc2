//! A member with a deleted data directory: refused, replaced, and its old id never votes.

use std::time::Duration;

use jepsen_tests::cluster::{Cluster, Options};
use jepsen_tests::run::RunError;
use jepsen_tests::run_local;
use jepsen_tests::scenarios::{Failure, lost_disk};
use quorate::Client;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_lost_disk_is_refused_and_replaced() -> Result<(), Failure> {
    let measured = run_local(lost_disk::run())?;
    println!("{measured}");
    Ok(())
}

#[test]
fn a_learner_whose_disk_is_lost_begins_anew() -> Result<(), RunError> {
    run_local(async {
        let mut cluster = Cluster::start(Options::members(3)).await?;
        let client = Client::builder().endpoints(cluster.endpoints()).connect().await.expect("connected");
        client.create("/n", "").await.expect("created");
        let learner = cluster.add_slot(4, true)?;
        let (peer, its_client) = (learner.peer.clone(), learner.client.clone());
        cluster.launch(4)?;
        let add = ["cluster", "add", "4", "--peer", &peer, "--client", &its_client];
        assert!(cluster.quorate(&add).await?.status.success(), "added");
        cluster.wait_ready(4).await?;
        client.set("/n", "1").await.expect("set");
        cluster.wait_digests_agree(PATIENCE).await?;
        // Under its id, for it has never voted. The leader knows what it had of the log.
        cluster.kill(4)?;
        cluster.wipe(4)?;
        cluster.restart(4).await?;
        let promoted = cluster.quorate(&["cluster", "promote", "4"]).await?;
        assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
        client.set("/n", "2").await.expect("set");
        cluster.wait_digests_agree(PATIENCE).await?;
        Ok(())
    })
}

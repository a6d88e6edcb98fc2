//! What a dead member costs the others: the leader tries it now and then, not in a loop.

use jepsen_tests::cluster::{Cluster, Options};
use jepsen_tests::run::RunError;
use jepsen_tests::run_local;
use quorate::Client;

const WRITES: usize = 300;

#[test]
fn a_dead_member_is_not_tried_without_a_pause() -> Result<(), RunError> {
    run_local(async {
        let mut cluster = Cluster::start(Options::members(3)).await?;
        let leader = cluster.leader().await?;
        let dead = cluster.ids().into_iter().find(|id| *id != leader).expect("three members");
        cluster.kill(dead)?;
        let endpoint = cluster.member(leader).client.clone();
        let client = Client::builder().endpoints([endpoint]).connect().await.expect("connected");
        client.create("/n", "").await.expect("created");
        for _ in 0..WRITES {
            client.set("/n", "").await.expect("written");
        }
        let log = std::fs::read_to_string(&cluster.member(leader).log).expect("a log");
        let tries = log.lines().filter(|line| line.contains("sending error to RaftCore")).count();
        assert!(tries <= WRITES, "{tries} tries in the time of {WRITES} writes");
        Ok(())
    })
}

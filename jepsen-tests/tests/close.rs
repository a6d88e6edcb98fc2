//! A session's close is told to be done only when it is.

use std::time::Duration;

use jepsen_tests::cluster::{Cluster, Options};
use jepsen_tests::run_local;
use jepsen_tests::scenarios::Failure;
use quorate::{Client, CreateMode, Error};

/// Of the sessions here.
const TIMEOUT: Duration = Duration::from_secs(4);

async fn holder(cluster: &Cluster) -> quorate::Result<Client> {
    let client = Client::builder().endpoints(cluster.endpoints()).session_timeout(TIMEOUT).connect().await?;
    client.create("/held", "").mode(CreateMode::Ephemeral).await?;
    Ok(client)
}

#[test]
fn a_close_waits_for_members_that_stand_still_and_is_unknown_if_they_do_not_come_back() -> Result<(), Failure>
{
    run_local(async {
        let mut cluster = Cluster::start(Options::members(3)).await?;
        let witness = Client::builder().endpoints(cluster.endpoints()).connect().await?;

        let client = holder(&cluster).await?;
        cluster.ids().into_iter().try_for_each(|id| cluster.pause(id))?;
        let closing = client.close();
        tokio::time::sleep(TIMEOUT / 2).await;
        cluster.ids().into_iter().try_for_each(|id| cluster.resume(id))?;
        closing.await?;
        assert!(witness.exists("/held").await?.is_none(), "gone with the answer");

        let client = holder(&cluster).await?;
        cluster.ids().into_iter().try_for_each(|id| cluster.pause(id))?;
        let closed = client.close().await;
        assert!(matches!(closed, Err(Error::OutcomeUnknown)), "{closed:?}");
        cluster.ids().into_iter().try_for_each(|id| cluster.resume(id))?;
        Ok(())
    })
}

//! A member whose data directory was deleted refuses to start and says what to do; `quorate cluster
//! replace` brings the machine back under a new id; the old id cannot vote.

use std::time::Duration;

use quorate::Client;

use super::{Failure, Measured, PATIENCE, ensure, in_time};
use crate::cluster::{Cluster, Options, admin};

/// Runs the scenario.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run() -> Result<Measured, Failure> {
    let mut measured = Measured::default();
    let mut cluster = Cluster::start(Options::members(3)).await?;
    let client = Client::builder().endpoints(cluster.endpoints()).connect().await?;
    client.create("/kept", "before").await?;
    for number in 0..200 {
        client.create(&format!("/kept/{number}"), vec![7; 1000]).await?;
    }

    // Member 2 loses its disk while member 3 is away: with its vote, two would be a quorum.
    cluster.kill(2)?;
    cluster.wipe(2)?;
    cluster.kill(3)?;
    cluster.launch(2)?;
    let status = cluster.reap(2, PATIENCE).await?;
    let said = cluster.member(2).log_tail(12);
    ensure(!status.success(), || format!("member 2 ended with {status}"))?;
    ensure(said.contains("quorate cluster replace"), || {
        format!("member 2 does not say what to do:\n{said}")
    })?;
    measured.note(format!(
        "with an empty directory member 2 ends with {status} and names `quorate cluster replace`"
    ));
    let (code, _) = admin::http_get(&cluster.member(1).http, "/readyz").await.map_err(Failure::Broken)?;
    ensure(code == 503, || format!("member 1 alone says {code} to /readyz"))?;

    // Asked to join as a new member it still has its old id: it may not.
    cluster.restart(3).await?;
    in_time("a write after member 3 came back", client.set("/kept", "with 1 and 3").send()).await??;

    cluster.add_slot(4, true)?;
    cluster.launch(4)?;
    let (peer, address) = (cluster.member(4).peer.clone(), cluster.member(4).client.clone());
    let replaced = cluster
        .quorate(&[
            "--timeout",
            "120s",
            "cluster",
            "replace",
            "2",
            "4",
            "--peer",
            &peer,
            "--client",
            &address,
        ])
        .await?;
    ensure(replaced.status.success(), || {
        format!("cluster replace: {}\n{}", replaced.status, String::from_utf8_lossy(&replaced.stderr))
    })?;
    cluster.wait_ready(4).await?;
    let members = voters(&cluster, 1).await?;
    ensure(members == [1, 3, 4], || format!("voters after the replacement: {members:?}"))?;
    let zxid = cluster.wait_digests_agree(Duration::from_secs(30)).await?;
    measured.note(format!("member 4 replaces it; the digests of 1, 3 and 4 agree at zxid {zxid}"));

    // The new member's vote counts: with one of the old ones it is a quorum.
    cluster.kill(3)?;
    in_time("a write with members 1 and 4", client.set("/kept", "with 1 and 4").send()).await??;
    // The old id is gone for good: it is no member, and cannot be added.
    let again = cluster
        .quorate(&[
            "--timeout",
            "5s",
            "cluster",
            "add",
            "2",
            "--peer",
            &cluster.member(2).peer,
            "--client",
            &cluster.member(2).client,
        ])
        .await?;
    ensure(!again.status.success(), || "the old id could be added again".into())?;
    cluster.kill(4)?;
    cluster.launch(2)?;
    let status = cluster.reap(2, PATIENCE).await?;
    ensure(!status.success(), || format!("member 2 ended with {status}"))?;
    let (code, _) = admin::http_get(&cluster.member(1).http, "/readyz").await.map_err(Failure::Broken)?;
    ensure(code == 503, || format!("member 1, with only the old id beside it, says {code} to /readyz"))?;
    measured.note("the old id is refused as a founder, cannot be added, and makes no quorum");

    cluster.restart(4).await?;
    cluster.restart(3).await?;
    let kept = in_time("a read at the end", client.get("/kept").send()).await??;
    ensure(kept.data.as_deref() == Some(b"with 1 and 4"), || format!("{kept:?}"))?;
    client.close().await?;
    cluster.wait_digests_agree(Duration::from_secs(30)).await?;
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    Ok(measured)
}

/// The ids of the voters as a member sees them.
async fn voters(cluster: &Cluster, member: u64) -> Result<Vec<u64>, Failure> {
    let status = admin::status(&cluster.member(member).client).await.map_err(Failure::Broken)?;
    let voter = quorate_proto::v1::MemberRole::Voter as i32;
    Ok(status.members.iter().filter(|member| member.role == voter).map(|member| member.id).collect())
}

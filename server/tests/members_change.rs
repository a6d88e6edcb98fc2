//! Changes of the members: what one that came and went leaves behind.

#[allow(dead_code, reason = "these tests need only the members of it")]
mod zookeeper_support;

use quorate_proto::v1::cluster_client::ClusterClient;
use quorate_proto::v1::{AddLearnerRequest, RemoveMemberRequest};
use tonic::Code;
use zookeeper_support::Member;

#[tokio::test]
async fn the_id_of_a_member_that_was_removed_at_once_is_spent() {
    let member = Member::start(&[]);
    let door = format!("http://127.0.0.1:{}", member.client_door());
    let mut cluster = ClusterClient::connect(door).await.expect("the door is open");
    let learner =
        AddLearnerRequest { id: 4, peer_address: "127.0.0.1:1".into(), client_address: "127.0.0.1:2".into() };
    cluster.add_learner(learner.clone()).await.expect("added");
    cluster.remove_member(RemoveMemberRequest { id: 4 }).await.expect("removed");
    let again = cluster.add_learner(learner).await.expect_err("its id was used");
    assert_eq!(again.code(), Code::InvalidArgument, "{again}");
}

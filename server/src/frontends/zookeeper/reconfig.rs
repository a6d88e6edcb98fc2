//! `reconfig`: the members, changed in ZooKeeper's words.
//!
//! ```text
//! server.4=10.0.0.4:2888:3888:participant;2181
//! ```
//! The first port is the members', the second the gRPC clients', as in zoo.cfg; what stands behind the
//! semicolon is kept for clients to read. Checks come in ZooKeeper's order: the version, the words,
//! the right to write /zookeeper/config. What differs: ids are never reused, and a member that has
//! been given a vote keeps it until it leaves.
//!
//! Next room: replica/membership.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_core::acl::{self, Identity, Permissions};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::reply::ReadResult;
use quorate_core::request::ReadRequest;
use quorate_core::state::published_version;
use tokio::time::timeout;

use super::Door;
use super::requests::MembersAsked;
use crate::replica::membership::{Member, MembershipChange, PUBLISHED};
use crate::replica::types::MemberAddress;

/// A member that gets a vote must have caught up within this.
const SYNCED: Duration = Duration::from_secs(10);
/// This member learns of a change within this.
const KNOWN: Duration = Duration::from_secs(10);

/// One member to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Joining {
    peer: String,
    client: String,
    votes: bool,
    /// What stands behind the semicolon.
    clients: String,
}

/// Changes the members.
///
/// # Errors
/// `ReconfigDisabled`; `BadVersion` for another version than the present; `BadArguments` for words
/// that are none; `NoAuth` without the right; `NewConfigNoQuorum` if one that is to vote does not
/// catch up.
pub async fn change(door: &Door, identities: &[Identity], asked: &MembersAsked) -> Result<(), Error> {
    if !door.may_reconfigure {
        return Err(Error::new(ErrorKind::ReconfigDisabled, "zookeeper_reconfig is off"));
    }
    let published = published(door);
    let version = published_version(published.as_bytes()).and_then(|version| i64::try_from(version).ok());
    if asked.version != -1 && Some(asked.version) != version {
        return Err(Error::new(ErrorKind::BadVersion, "the members have changed since"));
    }
    let replica = door.coordinator.replica();
    let members = replica.members();
    let (joining, leaving) = plan(asked, &members)?;
    check_right(door, identities)?;
    for id in &leaving {
        replica.change_membership(MembershipChange::Remove { member: *id }).await?;
    }
    for (id, server) in &joining {
        let known = members.iter().find(|member| member.id.0 == *id);
        if known.is_none() {
            let address = MemberAddress {
                name: format!("member-{id}"),
                peer: server.peer.clone(),
                client: server.client.clone(),
                http: String::new(),
            };
            replica.change_membership(MembershipChange::AddLearner { member: *id, address }).await?;
        }
        if server.votes && !known.is_some_and(|member| member.is_voter) {
            let promotion = replica.change_membership(MembershipChange::Promote { member: *id });
            match timeout(SYNCED, promotion).await {
                Ok(promoted) => promoted?,
                Err(_) => return Err(Error::new(ErrorKind::NewConfigNoQuorum, "it has not caught up")),
            }
        }
    }
    let is_known = || {
        let now: BTreeSet<u64> = replica.agreed_members().0.iter().map(|member| member.id.0).collect();
        joining.keys().all(|id| now.contains(id)) && leaving.iter().all(|id| !now.contains(id))
    };
    let mut progress = door.coordinator.local().progress();
    // The membership is learnt a little before or after its entry applies.
    let learnt = timeout(KNOWN, async {
        while !is_known() {
            let _ = timeout(Duration::from_millis(50), progress.changed()).await;
        }
    });
    if learnt.await.is_err() {
        return Err(Error::new(
            ErrorKind::OutcomeUnknown,
            "the members have changed; this one has not heard of it",
        ));
    }
    let clients: BTreeMap<u64, String> =
        joining.into_iter().map(|(id, server)| (id, server.clients)).collect();
    door.coordinator.publish_members(&clients).await
}

/// The read whose answer is a reconfig's.
pub fn configuration() -> ReadRequest {
    ReadRequest::Get { path: PUBLISHED.into(), watch: None }
}

fn published(door: &Door) -> String {
    match door.coordinator.local().read(&[], &configuration()).result {
        Ok(ReadResult::Data { data: Some(data), .. }) => String::from_utf8_lossy(&data).into_owned(),
        _ => String::new(),
    }
}

fn check_right(door: &Door, identities: &[Identity]) -> Result<(), Error> {
    let superuser = [Identity { scheme: Identity::SUPER.into(), id: String::new() }];
    let request = ReadRequest::GetAcl { path: PUBLISHED.into() };
    match door.coordinator.local().read(&superuser, &request).result {
        Ok(ReadResult::Acl { acl, .. }) if acl::permits(&acl, Permissions::WRITE, identities) => Ok(()),
        _ => Err(Error::new(ErrorKind::NoAuth, PUBLISHED)),
    }
}

/// Who joins and who leaves.
fn plan(asked: &MembersAsked, members: &[Member]) -> Result<(BTreeMap<u64, Joining>, BTreeSet<u64>), Error> {
    let known: BTreeMap<u64, &Member> = members.iter().map(|member| (member.id.0, member)).collect();
    let list = asked.members.as_deref().or(asked.joining.as_deref()).unwrap_or_default();
    let mut joining = BTreeMap::new();
    for line in list.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        if asked.members.is_some() && !line.starts_with("server.") {
            continue; // a whole list may be what was read: with its version
        }
        let (id, server) = parse(line)?;
        joining.insert(id, server);
    }
    let leaving: BTreeSet<u64> = match &asked.members {
        Some(_) => known.keys().filter(|id| !joining.contains_key(id)).copied().collect(),
        None => {
            let ids = asked.leaving.as_deref().unwrap_or_default().split(',');
            let ids = ids.map(str::trim).filter(|id| !id.is_empty());
            let ids = ids.map(|id| id.parse().map_err(|_| bad(format!("{id:?} is no id"))));
            ids.collect::<Result<BTreeSet<u64>, Error>>()?
                .into_iter()
                // Whoever leaves and joins in one request stays.
                .filter(|id| known.contains_key(id) && !joining.contains_key(id))
                .collect()
        }
    };
    for (id, server) in &joining {
        if let Some(member) = known.get(id) {
            if (&member.address.peer, &member.address.client) != (&server.peer, &server.client) {
                return Err(bad(format!("server.{id} has another address; ids are never reused")));
            }
            if member.is_voter && !server.votes {
                return Err(bad(format!("server.{id} has a vote and keeps it until it leaves")));
            }
        }
        let taken = |address: &str| {
            let others =
                members.iter().filter(|member| member.id.0 != *id && !leaving.contains(&member.id.0));
            let others = others.map(|member| (&member.address.peer, &member.address.client));
            let joiners = joining.iter().filter(|(other, _)| *other != id);
            let joiners = joiners.map(|(_, other)| (&other.peer, &other.client));
            others.chain(joiners).any(|(peer, client)| peer == address || client == address)
        };
        if taken(&server.peer) || taken(&server.client) {
            return Err(bad(format!("server.{id} has another member's address")));
        }
    }
    let stay = known.values().filter(|member| member.is_voter && !leaving.contains(&member.id.0)).count();
    if stay == 0 {
        return Err(bad("one voter at least must stay".into()));
    }
    Ok((joining, leaving))
}

/// `server.N=HOST:PORT:PORT[:ROLE];[ADDRESS:]PORT`
fn parse(line: &str) -> Result<(u64, Joining), Error> {
    let wrong = || bad(format!("{line:?} is not server.N=HOST:PORT:PORT[:ROLE];[ADDRESS:]PORT"));
    let (name, value) = line.split_once('=').ok_or_else(wrong)?;
    let id =
        name.strip_prefix("server.").and_then(|id| id.parse().ok()).filter(|id| *id > 0).ok_or_else(wrong)?;
    let (members, clients) = value.split_once(';').ok_or_else(wrong)?;
    let port = clients.rsplit(':').next().unwrap_or_default();
    let mut parts = members.rsplit(':').peekable();
    let role = parts.next_if(|part| part.parse::<u16>().is_err()).unwrap_or("participant");
    let (Some(second), Some(first)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let mut host: Vec<&str> = parts.collect();
    host.reverse();
    let host = host.join(":");
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || ![first, second, port].into_iter().all(is_port) {
        return Err(wrong());
    }
    let votes = match role {
        "participant" => true,
        "observer" => false,
        _ => return Err(wrong()),
    };
    let (peer, client) = (format!("{host}:{first}"), format!("{host}:{second}"));
    Ok((id, Joining { peer, client, votes, clients: clients.into() }))
}

fn bad(reason: String) -> Error {
    Error::new(ErrorKind::BadArguments, reason)
}

#[cfg(test)]
mod tests {
    use quorate_core::id::MemberId;

    use super::*;

    fn member(id: u64, is_voter: bool) -> Member {
        let address = MemberAddress {
            name: String::new(),
            peer: format!("h{id}:1"),
            client: format!("h{id}:2"),
            http: String::new(),
        };
        Member { id: MemberId(id), address, is_voter }
    }

    fn asked(joining: &str, leaving: &str) -> MembersAsked {
        MembersAsked {
            joining: Some(joining.into()),
            leaving: Some(leaving.into()),
            members: None,
            version: -1,
        }
    }

    #[test]
    fn members_join_and_leave_in_zookeepers_words() {
        let members = [member(1, true), member(2, true), member(3, false)];
        let (joining, leaving) =
            plan(&asked("server.4=[::1]:1:2:observer;0.0.0.0:3", "3,9"), &members).expect("a plan");
        let server = &joining[&4];
        assert_eq!((server.peer.as_str(), server.client.as_str()), ("[::1]:1", "[::1]:2"));
        assert_eq!((server.votes, server.clients.as_str()), (false, "0.0.0.0:3"));
        assert_eq!(leaving, BTreeSet::from([3]));
        let whole = MembersAsked {
            joining: None,
            leaving: None,
            members: Some("server.1=h1:1:2:participant;5\nserver.5=h5:1:2;5\nversion=a".into()),
            version: -1,
        };
        let (joining, leaving) = plan(&whole, &members).expect("a plan");
        assert_eq!(joining.keys().copied().collect::<Vec<_>>(), [1, 5]);
        assert_eq!(leaving, BTreeSet::from([2, 3]));
    }

    #[test]
    fn who_leaves_and_joins_in_one_request_stays() {
        let members = [member(1, true), member(2, true)];
        let (joining, leaving) = plan(&asked("server.2=h2:1:2;3", "2"), &members).expect("a plan");
        assert_eq!((joining.keys().copied().collect::<Vec<_>>(), leaving), (vec![2], BTreeSet::new()));
        // As another it cannot come back, and its address stays its own.
        assert!(plan(&asked("server.2=elsewhere:1:2;3", "2"), &members).is_err());
        assert!(plan(&asked("server.2=h2:1:2;3,server.4=h2:1:4;3", "2"), &members).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let members = [member(1, true), member(2, true)];
        for line in [
            "some thing",
            "server.4=h:1:2",
            "server.4=h:1;3",
            "server.4=h:1:2:boss;3",
            "server.0=h:1:2;3",
            "server.4=h:0:2;3",
            "server.4=h1:1:2;3",
            "server.1=elsewhere:1:2;3",
            "server.1=h1:1:2:observer;3",
            "server.4=h:1:2;3,server.5=h:1:3;3",
            "server.4=h:1:2;3,server.5=h:2:3;3",
        ] {
            let error = plan(&asked(line, ""), &members).expect_err(line);
            assert_eq!(error.kind, ErrorKind::BadArguments, "{line}");
        }
        assert!(plan(&asked("", "1,2"), &members).is_err());
        assert!(plan(&asked("", "one"), &members).is_err());
    }
}

//! Founding and joining: may this member, with an empty disk, take part?
//!
//! A disk that was lost must never vote again under its old id: it may have promised what it no
//! longer remembers. So a member with an empty directory asks before it starts:
//!
//! ```text
//!   founder, empty disk ── Hello{birth} ──▶ every other founder
//!        all founding too          → exchange births, write them down, found the cluster
//!        a member that knows my birth     → it founded a moment before me: go on
//!        a member that knows another birth, or none → my disk was lost: refuse, say what to do
//!
//!   joiner, empty disk ── Hello{birth} ──▶ the members named in initial_cluster
//!        I am a learner there      → go on
//!        I am a voter there        → my disk was lost: refuse
//!        I am not there            → wait: the operator has to add me
//! ```
//!
//! A *birth* is a random number drawn when an empty directory is first used. A founding needs all
//! founders up, once. From then on a majority does. A disk that was refused notes it, and is refused
//! from then on, whoever else has lost a disk by then: refused founders together found nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quorate_core::breaks::{Break, is_broken};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::birth_file::{self, BirthFileError, BirthRecord};
use super::data_dir::LOCK;
use super::files::{Files, TEMPORARY_ENDING};
use super::peer_listener::PeerSwitch;
use super::peers::{
    Envelope, Inbound, PeerError, PeerHandler, PeerRequest, PeerResponse, PeerTransport, StreamKind, decode,
    encode,
};
use super::types::MemberAddress;
use crate::config::Config;
use crate::environment::Environment;

/// Pause between rounds of asking.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Rounds between two lines in the log.
const ROUNDS_A_LINE: u32 = 50;

/// A random number drawn when an empty directory is first used.
pub type Birth = u128;

/// What a member says of itself before Raft has a word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hello {
    /// My disk is empty, and I want to found the cluster.
    Founding {
        /// My birth.
        birth: Birth,
        /// The births that I have gathered, mine included.
        births: BTreeMap<u64, Birth>,
    },
    /// I am a member.
    Member {
        /// The founders' births.
        births: BTreeMap<u64, Birth>,
        /// Who is in the cluster, and whether it votes.
        members: BTreeMap<u64, bool>,
    },
    /// I am a member, but no quorum tells me now who the others are: ask again.
    Unsure,
}

/// Why a member may not take part.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The directory is empty but the member was in the cluster before.
    #[error(
        "member {member} has an empty data directory ({directory}) but took part in this cluster before.\n\
         A member that lost its disk must not vote again under its old id. Bring the disk back, or replace it:\n  \
         1. choose an id never used before, say {next}, and set member_id = {next}, join = true on this machine;\n  \
         2. run: quorate cluster replace {member} {next} --peer <HOST:PORT> --client <HOST:PORT>\n  \
         3. start this member."
    )]
    DiskLost {
        /// The member.
        member: u64,
        /// Its directory.
        directory: String,
        /// An id that is free.
        next: u64,
    },
    /// The directory holds something, but not our file.
    #[error(
        "{directory}: not empty, and its file \"founding\" is missing. This is no fresh directory: name another \
         one, or restore it whole from a copy made while the member was stopped"
    )]
    Foreign {
        /// The directory.
        directory: String,
    },
    /// It is another member's, or of another cluster.
    #[error(
        "{directory} belongs to member {member} of {cluster}: check member_id, cluster_name and data_dir. A disk \
         holds its own member's promises and serves no other"
    )]
    WrongDisk {
        /// The directory.
        directory: String,
        /// Whose it is.
        member: u64,
        /// Of which cluster.
        cluster: &'static str,
    },
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] BirthFileError),
    /// The founders do not agree on who founds.
    #[error(
        "member {peer} is not founding the same cluster: {reason}; check cluster_name and initial_cluster on both"
    )]
    Disagreement {
        /// The other.
        peer: u64,
        /// What it said.
        reason: String,
    },
}

/// What a member that may take part starts from.
#[derive(Clone, Debug)]
pub struct Founded {
    /// The founders' births.
    pub births: BTreeMap<u64, Birth>,
    /// Whether the disk has nothing of Raft's yet.
    pub is_new: bool,
}

/// The cluster's id: members of differently named clusters refuse each other.
pub fn cluster_id(name: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
    u128::from_be_bytes(bytes)
}

/// Reads what the disk knows of the founding; with an empty disk, asks until this member may take part.
///
/// # Errors
/// [`FoundingError`]: it may not, and what to do; or the disk refused.
pub async fn found_or_join(
    config: &Config,
    cluster: u128,
    environment: &Environment,
    transport: Arc<dyn PeerTransport>,
    switch: &PeerSwitch,
    files: &dyn Files,
) -> Result<Founded, FoundingError> {
    let record = match birth_file::read(files, &config.data_dir)? {
        Some(record) if has_promised_nothing(&record, cluster) && record.id != config.member.0 => {
            begin(config, cluster, environment, files)?
        }
        Some(record) => {
            check_owner(config, cluster, &record)?;
            if record.is_member {
                return Ok(Founded { births: record.births, is_new: false });
            }
            record
        }
        None => {
            check_empty(files, &config.data_dir)?;
            begin(config, cluster, environment, files)?
        }
    };
    let founding = Founding::new(config, cluster, record.birth, transport);
    if was_refused(&record) {
        return Err(founding.refuse_again(&record.births).await);
    }
    switch.set(founding.handler());
    match founding.permission().await {
        Ok(births) => Ok(Founded { births, is_new: true }),
        Err(refusal @ FoundingError::DiskLost { .. }) => {
            // Nobody may ever take it for a founder that starts for the first time.
            switch.clear();
            let births = founding.known_births();
            birth_file::write(files, &config.data_dir, &BirthRecord { births, ..record })?;
            Err(refusal)
        }
        Err(error) => Err(error),
    }
}

/// Begins in an empty directory, or in one that a member without a vote has left.
fn begin(
    config: &Config,
    cluster: u128,
    environment: &Environment,
    files: &dyn Files,
) -> Result<BirthRecord, FoundingError> {
    let birth = u128::from_le_bytes(environment.entropy());
    let record =
        BirthRecord { cluster, id: config.member.0, birth, births: BTreeMap::new(), is_member: false };
    birth_file::write(files, &config.data_dir, &record)?;
    Ok(record)
}

/// Whether whoever began in this directory never took part.
fn has_promised_nothing(record: &BirthRecord, cluster: u128) -> bool {
    !record.is_member && record.cluster == cluster
}

/// Whether the cluster knows its member by another disk.
fn was_refused(record: &BirthRecord) -> bool {
    record.births.get(&record.id).is_some_and(|birth| *birth != record.birth)
}

/// Notes that this member takes part: from now on an empty log is a lost one.
pub fn note_member(
    files: &dyn Files,
    directory: &Path,
    births: &BTreeMap<u64, Birth>,
) -> Result<(), FoundingError> {
    let Some(record) = birth_file::read(files, directory)? else {
        return Err(FoundingError::Foreign { directory: directory.display().to_string() });
    };
    let record = BirthRecord { births: births.clone(), is_member: true, ..record };
    Ok(birth_file::write(files, directory, &record)?)
}

/// A disk serves only the member that it was made for.
fn check_owner(config: &Config, cluster: u128, record: &BirthRecord) -> Result<(), FoundingError> {
    if (record.cluster, record.id) == (cluster, config.member.0) {
        return Ok(());
    }
    Err(FoundingError::WrongDisk {
        directory: config.data_dir.display().to_string(),
        member: record.id,
        cluster: if record.cluster == cluster { "this cluster" } else { "another cluster" },
    })
}

/// A directory without our file must have nothing in it.
pub(super) fn check_empty(files: &dyn Files, directory: &Path) -> Result<(), FoundingError> {
    match files.list(directory) {
        // A first start that was cut short may have left the file that it was about to rename.
        Ok(names) if names.iter().all(|name| name.ends_with(TEMPORARY_ENDING) || name == LOCK) => Ok(()),
        Ok(_) => Err(FoundingError::Foreign { directory: directory.display().to_string() }),
        Err(_) => Ok(()), // it does not exist: writing the file makes it, or says why not
    }
}

/// One member's founding or joining.
#[derive(Debug)]
pub struct Founding {
    member: u64,
    cluster: u128,
    directory: String,
    join: bool,
    others: BTreeMap<u64, MemberAddress>,
    transport: Arc<dyn PeerTransport>,
    birth: Birth,
    births: Arc<Mutex<BTreeMap<u64, Birth>>>,
}

impl Founding {
    /// Prepares to ask; nothing is asked yet.
    pub fn new(config: &Config, cluster: u128, birth: Birth, transport: Arc<dyn PeerTransport>) -> Founding {
        let member = config.member.0;
        let mut others = config.founders.clone();
        others.remove(&member);
        Founding {
            member,
            cluster,
            directory: config.data_dir.display().to_string(),
            join: config.join,
            others,
            transport,
            birth,
            births: Arc::new(Mutex::new(BTreeMap::from([(member, birth)]))),
        }
    }

    /// Answers others while this member founds.
    pub fn handler(&self) -> Arc<dyn PeerHandler> {
        Arc::new(FoundingHandler {
            member: self.member,
            cluster: self.cluster,
            is_founder: !self.join,
            birth: self.birth,
            births: self.births.clone(),
        })
    }

    /// Asks until this member may take part; returns the founders' births to write down.
    ///
    /// # Errors
    /// [`FoundingError`]: it may not, and what to do.
    pub async fn permission(&self) -> Result<BTreeMap<u64, Birth>, FoundingError> {
        let mut round = 0_u32;
        loop {
            let silent = match self.join {
                true => self.ask_to_join().await?,
                false => self.ask_to_found().await?,
            };
            match silent {
                None => return Ok(self.known_births()),
                Some(waiting_for) => {
                    if round.is_multiple_of(ROUNDS_A_LINE) {
                        tracing::info!(member = self.member, "{waiting_for}");
                    }
                }
            }
            round = round.wrapping_add(1);
            sleep(ASK_AGAIN).await;
        }
    }

    /// Refuses a disk that was refused before. Asks once more, but only to name an id that is free.
    async fn refuse_again(&self, births: &BTreeMap<u64, Birth>) -> FoundingError {
        let asked = match self.join {
            true => self.ask_to_join().await,
            false => self.ask_to_found().await,
        };
        match asked {
            Err(refusal @ FoundingError::DiskLost { .. }) => refusal,
            _ => self.disk_lost(births, &BTreeMap::new()),
        }
    }

    /// One round of a founder. `None` when all is known.
    async fn ask_to_found(&self) -> Result<Option<String>, FoundingError> {
        let mut complete = true;
        let mut silent = Vec::new();
        for (peer, address) in &self.others {
            match self.ask(*peer, &address.peer).await {
                Ok(Hello::Founding { birth, births }) => {
                    self.births.lock().unwrap_or_else(PoisonError::into_inner).insert(*peer, birth);
                    // It must know mine before I go: else it would take me for a stranger later.
                    complete &= births.get(&self.member) == Some(&self.birth)
                        && births.len() == self.others.len() + 1;
                }
                Ok(Hello::Member { births, members }) => {
                    let is_mine = births.get(&self.member) == Some(&self.birth);
                    let refusal = self.disk_lost(&births, &members);
                    *self.births.lock().unwrap_or_else(PoisonError::into_inner) = births;
                    return if is_mine || is_broken(Break::WipedIdVotes) { Ok(None) } else { Err(refusal) };
                }
                Err(PeerError::Refused(reason)) => {
                    return Err(FoundingError::Disagreement { peer: *peer, reason });
                }
                Ok(Hello::Unsure) | Err(_) => silent.push(format!("{peer} ({})", address.peer)),
            }
        }
        if silent.is_empty() && complete {
            return Ok(None);
        }
        Ok(Some(format!(
            "the first start needs every founder once; waiting for member {}",
            if silent.is_empty() { "(all answered, exchanging)".to_owned() } else { silent.join(", ") }
        )))
    }

    /// One round of a joiner. `None` when it is a learner.
    async fn ask_to_join(&self) -> Result<Option<String>, FoundingError> {
        let mut has_quorum = true;
        for (peer, address) in &self.others {
            match self.ask(*peer, &address.peer).await {
                Ok(Hello::Member { births, members }) => {
                    return match members.get(&self.member) {
                        Some(true) => Err(self.disk_lost(&births, &members)),
                        Some(false) => Ok(None),
                        None => Ok(Some(format!(
                            "not in the cluster yet; run: quorate cluster add {} --peer HOST:PORT --client HOST:PORT",
                            self.member
                        ))),
                    };
                }
                Ok(Hello::Founding { .. }) => {}
                Ok(Hello::Unsure) => has_quorum = false,
                Err(PeerError::Refused(reason)) => {
                    return Err(FoundingError::Disagreement { peer: *peer, reason });
                }
                Err(_) => {}
            }
        }
        let waits = match has_quorum {
            true => "no member named in initial_cluster answers; it must name running members to join",
            false => "the cluster has no quorum now; waiting for it",
        };
        Ok(Some(waits.into()))
    }

    async fn ask(&self, peer: u64, address: &str) -> Result<Hello, PeerError> {
        let envelope = Envelope { cluster: self.cluster, from: self.member, to: peer };
        let hello = PeerRequest::Hello { birth: self.birth, is_founder: !self.join };
        let answer = self.transport.call(address, encode(&envelope, &hello), PATIENCE).await?;
        match decode::<PeerResponse>(&answer)?.1 {
            PeerResponse::Hello(hello) => Ok(hello),
            other => Err(PeerError::Refused(format!("unexpected answer {other:?}"))),
        }
    }

    fn disk_lost(&self, births: &BTreeMap<u64, Birth>, members: &BTreeMap<u64, bool>) -> FoundingError {
        let used = births.keys().chain(members.keys()).copied().max().unwrap_or(self.member);
        FoundingError::DiskLost {
            member: self.member,
            directory: self.directory.clone(),
            next: used.max(self.member) + 1,
        }
    }

    fn known_births(&self) -> BTreeMap<u64, Birth> {
        self.births.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers Hello while its member founds or joins; knows nothing of Raft and so cannot vote.
#[derive(Debug)]
struct FoundingHandler {
    member: u64,
    cluster: u128,
    is_founder: bool,
    birth: Birth,
    births: Arc<Mutex<BTreeMap<u64, Birth>>>,
}

impl PeerHandler for FoundingHandler {
    fn call(&self, request: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let answer = decode::<PeerRequest>(&request).and_then(|(envelope, request)| {
            if envelope.cluster != self.cluster || envelope.to != self.member {
                return Err(PeerError::Refused(format!(
                    "this is member {} of another cluster or with another id",
                    self.member
                )));
            }
            match request {
                PeerRequest::Hello { birth, is_founder } if self.is_founder => {
                    let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
                    if is_founder {
                        births.insert(envelope.from, birth);
                    }
                    let hello = Hello::Founding { birth: self.birth, births: births.clone() };
                    let back = Envelope { to: envelope.from, from: self.member, ..envelope };
                    Ok(encode(&back, &PeerResponse::Hello(hello)))
                }
                _ => Err(PeerError::Unreachable(format!("member {} has not started yet", self.member))),
            }
        });
        async move { answer }.boxed()
    }

    fn stream(&self, _kind: StreamKind, _input: Inbound) -> Inbound {
        let error = PeerError::Unreachable(format!("member {} has not started yet", self.member));
        Box::pin(futures_util::stream::once(async move { Err(error) }))
    }
}

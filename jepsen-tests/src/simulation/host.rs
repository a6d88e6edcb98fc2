//! A machine: its disk and clock stay, the member on it starts, crashes and starts again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::id::MemberId;
use quorate_server::config::{Config, Settings};
use quorate_server::environment::Environment;
use quorate_server::metrics::Metrics;
use quorate_server::replica::founding::FoundingError;
use quorate_server::replica::peer_listener::PeerSwitch;
use quorate_server::replica::storage::SegmentSizes;
use quorate_server::server::{Ground, Rooms, ServerError, found, open_rooms};
use tokio::sync::Notify;

use super::clock::Clock;
use super::disk::{Platter, Tripwire, data_dir};
use super::invariants::Inspector;
use super::life::{Life, Node};
use super::network::{Network, Reachable};
use super::transport::{Transport, address};
use super::verdicts::Verdicts;

/// What all machines share.
#[derive(Clone)]
pub struct Shared {
    /// Connects them.
    pub network: Network,
    /// Judges what they apply.
    pub inspector: Inspector,
    /// Where failures go.
    pub verdicts: Verdicts,
}

/// How members are set up; drawn from the seed.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The founders.
    pub members: u64,
    /// A checkpoint after so many bytes of log,
    pub checkpoint_bytes: u64,
    /// or after this long.
    pub checkpoint_interval: Duration,
    /// Of the log.
    pub segments: SegmentSizes,
    /// How long a group of the log's writes takes, as a rule at most.
    pub disk_slowest: Duration,
}

impl Setup {
    /// The configuration of one member: a founder, or one that joins.
    pub fn config(&self, member: Node, join: bool) -> Config {
        let founders: Vec<String> =
            (1..=self.members).map(|id| format!("{id}={}/{id}:7400", address(id))).collect();
        let settings = Settings {
            member_id: Some(member),
            data_dir: Some(data_dir(member)),
            initial_cluster: Some(founders.join(",")),
            cluster_name: Some("simulation".into()),
            join: Some(join),
            client_listen: Some(format!("{member}:7400")),
            peer_listen: Some(address(member)),
            http_listen: Some(format!("{member}:7480")),
            ..Settings::default()
        };
        let mut config = settings.into_config().expect("the simulation's settings are complete");
        config.checkpoints.log_bytes = self.checkpoint_bytes;
        config.checkpoints.interval = self.checkpoint_interval;
        config
    }
}

/// A machine.
pub struct Host {
    /// Its member's id and address.
    pub node: Node,
    /// Its wall clock.
    pub clock: Clock,
    shared: Shared,
    config: Config,
    segments: SegmentSizes,
    disk_slowest: Duration,
    platter: Platter,
    running: Option<Running>,
    tripped: Arc<Notify>,
    random: fastrand::Rng,
    /// Crashes so far.
    pub crashes: u64,
    operations: u64,
    lost: Arc<Loss>,
}

/// What became of a member's disk.
#[derive(Debug, Default)]
struct Loss {
    is_lost: AtomicBool,
    is_noticed: AtomicBool,
}

/// One life of a member.
struct Running {
    life: Life,
    wire: Arc<Tripwire>,
    rooms: Arc<Mutex<Option<Rooms>>>,
}

impl Host {
    /// A machine with an empty disk, switched off.
    pub fn new(
        config: Config,
        setup: &Setup,
        shared: Shared,
        clock: Clock,
        random: fastrand::Rng,
        tripped: Arc<Notify>,
    ) -> Host {
        Host {
            node: config.member.0,
            clock,
            shared,
            config,
            lost: Arc::default(),
            segments: setup.segments,
            disk_slowest: setup.disk_slowest,
            platter: Platter::default(),
            running: None,
            tripped,
            random,
            crashes: 0,
            operations: 0,
        }
    }

    /// Starts the member, if it does not run.
    pub fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let life = Life::begin(self.node);
        let wire = Arc::new(Tripwire::new(life.clone(), self.tripped.clone()));
        let rooms = Arc::new(Mutex::new(None));
        let transport = Transport { network: self.shared.network.clone(), life: life.clone() };
        let ground = Ground {
            environment: Environment::new(self.clock.clone()),
            transport: Arc::new(transport),
            switch: PeerSwitch::default(),
            disk: self.platter.mount(&wire, self.segments, self.disk_slowest, self.random.fork()),
            observer: Some(self.shared.inspector.observer(life.clone())),
        };
        self.shared.network.trace.note(format_args!("start {}", self.node));
        let reachable = Reachable { life: life.clone(), peers: ground.switch.clone(), clients: None };
        self.shared.network.listen(reachable);
        let boot = Boot {
            config: self.config.clone(),
            ground,
            life: life.clone(),
            shared: self.shared.clone(),
            rooms: rooms.clone(),
            lost: self.lost.clone(),
        };
        let booting = boot.run();
        life.spawn(booting);
        self.running = Some(Running { life, wire, rooms });
    }

    /// The member crashes here and now, and with it the power: unsynced writes are lost or torn.
    pub fn crash(&mut self) {
        let Some(Running { life, wire, rooms }) = self.running.take() else { return };
        life.end();
        self.crashes += 1;
        self.operations += wire.operations();
        self.shared.network.trace.note(format_args!("crash {}", self.node));
        let random = &mut self.random;
        // One crash in three loses all that was not synced, as a cut of power does with most disks.
        let spared = [0, 50, 90][random.usize(..3)];
        self.platter.crash(|| random.u32(..100) < spared);
        let Some(Rooms { replica, tasks, .. }) = lock(&rooms).take() else { return };
        drop(tasks);
        // What is left of it is fenced off from the world; this only gives its memory back.
        self.shared.network.carry(async move { replica.shut_down().await });
    }

    /// The member crashes and its disk is gone for good; an empty one takes its place.
    pub fn lose_disk(&mut self) {
        self.crash();
        self.platter = Platter::default();
        self.lost.is_lost.store(true, Ordering::Relaxed);
    }

    /// Whether the disk was lost.
    pub fn is_lost(&self) -> bool {
        self.lost.is_lost.load(Ordering::Relaxed)
    }

    /// Whether the member has noticed, and refused to take part.
    pub fn has_refused(&self) -> bool {
        self.lost.is_noticed.load(Ordering::Relaxed)
    }

    /// Crashes the member at its `operations`th operation of the disk from now.
    pub fn crash_at(&self, operations: u64, takes_effect: bool) {
        if let Some(running) = &self.running {
            running.wire.set(operations, takes_effect);
        }
    }

    /// Whether the tripwire crashed the member; [`Host::crash`] must follow.
    pub fn has_tripped(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.life.is_alive())
    }

    /// Whether a member runs here and has not tripped.
    pub fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.life.is_alive())
    }

    /// Whether the member has started whole: its log is open and it answers clients.
    pub fn is_open(&self) -> bool {
        self.is_running() && self.with_rooms(|_| ()).is_some()
    }

    /// Looks at the running member's rooms.
    pub fn with_rooms<T>(&self, look: impl FnOnce(&Rooms) -> T) -> Option<T> {
        let running = self.running.as_ref()?;
        let rooms = lock(&running.rooms);
        rooms.as_ref().map(look)
    }

    /// Whether it leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.with_rooms(|rooms| rooms.replica.leadership().borrow().leader == Some(MemberId(self.node)))
            .unwrap_or(false)
    }

    /// The last log index that it has applied.
    pub fn applied(&self) -> u64 {
        self.with_rooms(|rooms| rooms.local.progress_now().index).unwrap_or(0)
    }

    /// Whether the digest kept up with each apply is the one that all records give.
    pub fn digest_is_true(&self) -> bool {
        self.with_rooms(|rooms| rooms.local.with_state(|state| state.recompute_digest() == state.digest()))
            .unwrap_or(true)
    }

    /// Disk operations of all its lives.
    pub fn operations(&self) -> u64 {
        self.operations + self.running.as_ref().map_or(0, |running| running.wire.operations())
    }
}

/// A member on its way up.
struct Boot {
    config: Config,
    ground: Ground,
    life: Life,
    shared: Shared,
    rooms: Arc<Mutex<Option<Rooms>>>,
    lost: Arc<Loss>,
}

impl Boot {
    /// Starts the member: what `server::serve` does, without its doors. Ends with it.
    async fn run(self) {
        let Boot { config, ground, life, shared, rooms: slot, lost } = self;
        let node = life.node();
        let is_lost = lost.is_lost.load(Ordering::Relaxed);
        let opened = async {
            let founded = found(&config, &ground).await?;
            open_rooms(&config, &ground, founded, Metrics::new()).await
        };
        let rooms = match opened.await {
            _ if !life.is_alive() => return,
            Ok(rooms) => rooms,
            Err(ServerError::Founding(FoundingError::DiskLost { .. })) if is_lost => {
                shared.network.trace.note(format_args!("{node} refused to start: its disk was lost"));
                lost.is_noticed.store(true, Ordering::Relaxed);
                return;
            }
            Err(error) => {
                // Nobody has touched its disk.
                shared.verdicts.violated("member does not start", format_args!("{node}: {error}"));
                return;
            }
        };
        if is_lost {
            shared
                .verdicts
                .violated("lost disk", format_args!("member {node} takes part although its disk was lost"));
        }
        let replica = rooms.replica.clone();
        shared.network.listen(Reachable {
            life: life.clone(),
            peers: ground.switch.clone(),
            clients: Some(rooms.coordinator.clone()),
        });
        shared.network.trace.note(format_args!("open {node}"));
        *lock(&slot) = Some(rooms);
        let reason = replica.failed().await;
        if life.is_alive() {
            shared.verdicts.violated("member stopped by itself", format_args!("{node}: {reason}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

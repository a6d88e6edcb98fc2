//! Faults: what goes wrong, when, and when it is mended, all drawn from the seed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_server::replica::membership::MembershipChange;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::host::{Host, Setup, Shared};
use super::life::Node;
use super::network::{Network, Weather};

/// How often each kind of fault was inflicted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Faults(pub BTreeMap<String, u64>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// What is to be done later.
#[derive(Clone, Copy, Debug)]
enum Later {
    Start(usize),
    Heal,
    Calm,
    Replace,
    CutShort,
}

/// How often a replacement of a lost disk is asked for.
const REPLACE_AGAIN: Duration = Duration::from_secs(2);
/// How often the leader is looked at, whether it stands between the two steps of a change of members.
const LOOK: Duration = Duration::from_millis(1);

/// What a new machine is made from.
pub struct Spare {
    /// As the others.
    pub setup: Setup,
    /// As the others.
    pub shared: Shared,
    /// When the simulation began.
    pub started: Instant,
}

/// A lost disk, on its way to be replaced.
struct Replacement {
    /// The machine that lost it.
    lost: usize,
    /// The machine that takes its place, once the first has refused to start.
    by: Option<usize>,
    /// Whether the operator's command has said that it is done.
    is_done: Arc<AtomicBool>,
}

/// Inflicts faults on a cluster.
pub struct Chaos {
    /// The machines.
    pub hosts: Vec<Host>,
    /// Their network.
    pub network: Network,
    /// The clients' addresses.
    pub clients: Vec<Node>,
    /// Told when a tripwire has crashed a member.
    pub tripped: Arc<Notify>,
    /// Chooses.
    pub random: fastrand::Rng,
    /// What was inflicted.
    pub faults: Faults,
    agenda: BTreeMap<(Instant, u64), Later>,
    count: u64,
    spare: Spare,
    replacement: Option<Replacement>,
    /// How long nothing more goes wrong, nor is mended, after the last fault.
    undisturbed: Duration,
}

impl Chaos {
    /// Nothing has gone wrong yet.
    pub fn new(
        hosts: Vec<Host>,
        spare: Spare,
        clients: Vec<Node>,
        tripped: Arc<Notify>,
        random: fastrand::Rng,
    ) -> Chaos {
        let network = spare.shared.network.clone();
        let (faults, agenda, count, replacement) = (Faults::default(), BTreeMap::new(), 0, None);
        let undisturbed = Duration::ZERO;
        Chaos {
            hosts,
            network,
            clients,
            tripped,
            random,
            faults,
            agenda,
            count,
            spare,
            replacement,
            undisturbed,
        }
    }

    /// Starts the members, each in its own time.
    pub fn start_all_soon(&mut self, within: Duration) {
        for host in 0..self.hosts.len() {
            let pause = Duration::from_millis(self.random.u64(..=within.as_millis() as u64));
            self.later(pause, Later::Start(host));
        }
    }

    /// Does what is due, crashes what has tripped, and, if `rough`, inflicts faults; for so long.
    pub async fn run(&mut self, duration: Duration, rough: bool) {
        let end = Instant::now() + duration;
        let mut next = Instant::now() + self.pause(200, 2000);
        loop {
            let due = self.agenda.first_key_value().map_or(end, |((due, _), _)| *due);
            let until = if rough { end.min(due).min(next) } else { end.min(due) };
            let tripped = self.tripped.clone();
            tokio::select! {
                biased;
                () = tripped.notified() => self.collect_tripped(),
                () = sleep_until(until) => {}
            }
            let now = Instant::now();
            while let Some(entry) = self.agenda.first_entry()
                && entry.key().0 <= now
            {
                let todo = entry.remove();
                self.act(todo);
            }
            if now >= end {
                return;
            }
            if rough && now >= next {
                self.inflict();
                next = now + self.pause(100, 2500).max(std::mem::take(&mut self.undisturbed));
            }
        }
    }

    /// Mends everything: from here on the cluster must heal.
    pub fn mend(&mut self) {
        self.collect_tripped();
        self.agenda.retain(|_, later| matches!(later, Later::Replace));
        self.network.heal();
        self.network.set_weather(Weather::calm());
        for host in &mut self.hosts {
            host.crash_at(0, false);
            host.start();
        }
    }

    fn pause(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.random.u64(from_ms..=to_ms))
    }

    fn later(&mut self, pause: Duration, what: Later) {
        self.count += 1;
        self.agenda.insert((Instant::now() + pause, self.count), what);
    }

    fn act(&mut self, what: Later) {
        match what {
            Later::Start(host) => self.hosts[host].start(),
            Later::Heal => self.network.heal(),
            Later::Calm => self.network.set_weather(Weather::calm()),
            Later::Replace => self.replace(),
            Later::CutShort => self.cut_short(),
        }
    }

    fn noted(&mut self, kind: &str) {
        self.network.trace.note(format_args!("fault {kind}"));
        *self.faults.0.entry(kind.to_owned()).or_default() += 1;
    }

    fn collect_tripped(&mut self) {
        for index in 0..self.hosts.len() {
            if self.hosts[index].has_tripped() {
                self.hosts[index].crash();
                self.noted("crash at a disk operation");
                let pause = self.pause(50, 4000);
                self.later(pause, Later::Start(index));
            }
        }
    }

    fn crash(&mut self, index: usize, longest_ms: u64) {
        if !self.hosts[index].is_running() {
            return;
        }
        self.hosts[index].crash();
        let pause = self.pause(20, longest_ms);
        self.later(pause, Later::Start(index));
    }

    fn leader(&mut self) -> usize {
        let leader = self.hosts.iter().position(Host::leads);
        leader.unwrap_or_else(|| self.random.usize(..self.hosts.len()))
    }

    fn someone(&mut self) -> usize {
        self.random.usize(..self.hosts.len())
    }

    fn inflict(&mut self) {
        match self.random.u32(..100) {
            0..12 => {
                let one = self.someone();
                self.noted("crash");
                self.crash(one, 6000);
            }
            12..22 => {
                let leader = self.leader();
                self.noted("crash of the leader");
                self.crash(leader, 4000);
            }
            22..26 => {
                self.noted("crash of all");
                for index in 0..self.hosts.len() {
                    self.crash(index, 1500);
                }
            }
            26..30 => {
                self.noted("crash of a majority");
                let first = self.someone();
                for step in 0..=self.hosts.len() / 2 {
                    self.crash((first + step) % self.hosts.len(), 3000);
                }
            }
            30..50 => {
                let one = if self.random.bool() { self.someone() } else { self.leader() };
                let operations = self.random.u64(1..40);
                let takes_effect = self.random.bool();
                self.hosts[one].crash_at(operations, takes_effect);
            }
            50..70 => self.partition(),
            70..72 => self.isolate_leader_for_long(),
            72..84 => self.storm(),
            84..88 => self.lose_disk(),
            88..92 => {
                self.noted("clock jump");
                let one = self.someone();
                let ahead = self.random.i64(-3_600_000..=3_600_000);
                self.hosts[one].clock.set_ahead(ahead);
            }
            _ => {
                self.noted("heal");
                self.network.heal();
                self.network.set_weather(Weather::calm());
            }
        }
    }

    /// One member's disk is gone for good, and no other's until it is replaced: what only it held besides
    /// one other is then held by one alone. One founder keeps its disk, for it alone can tell the others
    /// from founders that have never started.
    fn lose_disk(&mut self) {
        let lost = self.someone();
        let are_whole = self.hosts.iter().all(|host| host.is_open() || host.is_lost());
        let founders = self.hosts.iter().filter(|host| host.node <= self.spare.setup.members);
        let is_last_founder = self.hosts[lost].node <= self.spare.setup.members
            && founders.filter(|host| !host.is_lost()).count() == 1;
        if !are_whole || !self.is_replaced() || self.hosts[lost].is_lost() || is_last_founder {
            return;
        }
        self.noted("lost disk");
        self.hosts[lost].lose_disk();
        self.replacement = Some(Replacement { lost, by: None, is_done: Arc::default() });
        let pause = self.pause(20, 2000);
        self.later(pause, Later::Start(lost));
        self.later(pause + REPLACE_AGAIN, Later::Replace);
        if self.random.bool() {
            self.later(pause + REPLACE_AGAIN, Later::CutShort);
        }
    }

    /// The leader crashes between the two steps of a change of members.
    fn cut_short(&mut self) {
        if self.is_replaced() && !self.is_between_members() {
            return;
        }
        let leader = self.hosts.iter().position(|host| host.leads() && is_between_members(host));
        // What only the leader knows of goes with it.
        let is_known = self.hosts.iter().filter(|host| is_between_members(host)).count() > 1;
        match leader {
            Some(leader) if is_known && self.random.bool() => {
                self.noted("crash between two sets of members");
                self.crash(leader, 4000);
            }
            _ => self.later(LOOK, Later::CutShort),
        }
    }

    /// What an operator does about it: a new id on a new machine, and the command that the refusal names.
    fn replace(&mut self) {
        if self.is_replaced() {
            return;
        }
        self.later(REPLACE_AGAIN, Later::Replace);
        let Some(Replacement { lost, by, is_done }) = &self.replacement else { return };
        let (lost, by, is_done) = (*lost, *by, is_done.clone());
        if !self.hosts[lost].has_refused() {
            return;
        }
        let by = by.unwrap_or_else(|| self.install_spare());
        let node = self.hosts[by].node;
        let change = MembershipChange::Replace {
            lost: self.hosts[lost].node,
            member: node,
            address: self.spare.setup.config(node, true).advertise,
        };
        let mut open = self.hosts.iter().filter(|host| host.is_open());
        let through = open.find_map(|host| host.with_rooms(|rooms| rooms.replica.clone()));
        if let Some(replica) = through {
            let trace = self.network.trace.clone();
            self.network.carry(async move {
                let outcome = replica.change_membership(change).await;
                trace.note(format_args!("replace: {outcome:?}"));
                is_done.fetch_or(outcome.is_ok(), Ordering::Relaxed);
            });
        }
    }

    fn install_spare(&mut self) -> usize {
        let Spare { setup, shared, started } = &self.spare;
        let clock = Clock::new(*started, self.random.fork());
        let config = setup.config(self.hosts.len() as Node + 1, true);
        let random = self.random.fork();
        let mut host = Host::new(config, setup, shared.clone(), clock, random, self.tripped.clone());
        host.start();
        self.hosts.push(host);
        let by = self.hosts.len() - 1;
        if let Some(replacement) = &mut self.replacement {
            replacement.by = Some(by);
        }
        by
    }

    /// Whether no disk was lost, or the operator's command has replaced the member that lost it: until it
    /// says so, both the lost one and the new one may count.
    pub fn is_replaced(&self) -> bool {
        let done = self.replacement.as_ref().map(|replacement| replacement.is_done.load(Ordering::Relaxed));
        done.unwrap_or(true)
    }

    /// Whether some member still counts the voters of before an unfinished change, too.
    pub fn is_between_members(&self) -> bool {
        self.hosts.iter().any(is_between_members)
    }

    fn partition(&mut self) {
        let nodes: Vec<Node> = self.hosts.iter().map(|host| host.node).collect();
        let one = if self.random.bool() { self.leader() } else { self.someone() };
        let one = nodes[one];
        match self.random.u32(..6) {
            0 | 1 => {
                self.noted("isolated member");
                for other in nodes.iter().filter(|other| **other != one) {
                    self.network.cut(one, *other);
                    self.network.cut(*other, one);
                }
            }
            2 => {
                self.noted("one-way cut");
                let is_deaf = self.random.bool();
                for other in nodes.iter().filter(|other| **other != one) {
                    let (from, to) = if is_deaf { (*other, one) } else { (one, *other) };
                    self.network.cut(from, to);
                }
            }
            3 => {
                self.noted("halves");
                let mut shuffled = nodes.clone();
                self.random.shuffle(&mut shuffled);
                let (left, right) = shuffled.split_at(nodes.len() / 2);
                for (one, other) in left.iter().flat_map(|one| right.iter().map(move |other| (*one, *other)))
                {
                    self.network.cut(one, other);
                    self.network.cut(other, one);
                }
            }
            4 => {
                self.noted("cut link");
                let other = nodes[self.random.usize(..nodes.len())];
                self.network.cut(one, other);
                self.network.cut(other, one);
            }
            _ => {
                self.noted("clients cut off");
                for client in self.clients.clone() {
                    if self.random.bool() {
                        self.network.cut(client, one);
                    }
                    if self.random.bool() {
                        self.network.cut(one, client);
                    }
                }
            }
        }
        let pause = self.pause(200, 7000);
        self.later(pause, Later::Heal);
    }

    /// The leader alone with its clients for longer than sessions live: whatever it then tells them
    /// of their sessions, the others decide.
    fn isolate_leader_for_long(&mut self) {
        self.noted("leader isolated for long");
        let leader = self.leader();
        let leader = self.hosts[leader].node;
        self.network.heal();
        for other in self.hosts.iter().map(|host| host.node).filter(|node| *node != leader) {
            self.network.cut(leader, other);
            self.network.cut(other, leader);
        }
        self.agenda.retain(|_, later| !matches!(later, Later::Heal));
        self.undisturbed = self.pause(6_000, 14_000);
        self.later(self.undisturbed, Later::Heal);
    }

    fn storm(&mut self) {
        self.noted("storm");
        let weather = Weather {
            delay_max: Duration::from_millis(self.random.u64(3..120)),
            slow_max: Duration::from_millis(self.random.u64(50..1500)),
            slow_one_in: self.random.u32(4..60),
            break_one_in: self.random.u32(50..1000),
        };
        self.network.set_weather(weather);
        let pause = self.pause(500, 6000);
        self.later(pause, Later::Calm);
    }
}

fn is_between_members(host: &Host) -> bool {
    host.with_rooms(|rooms| rooms.replica.is_between_members()).unwrap_or(false)
}

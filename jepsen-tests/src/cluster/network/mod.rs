//! A network of our own for the members: each in a network namespace with one card, all cards'
//! other ends in one switch of this process, which cuts, delays, loses, doubles and reorders frames.
//!
//! ```text
//!   harness ─ card ┐             ┌ card ─ namespace of member 1
//!                  ├── switch ───┼ card ─ namespace of member 2
//!                  │  (rules)    └ card ─ namespace of member 3
//! ```
//!
//! - [`namespaces`]: what the kernel is asked for, and taken back;
//! - [`switch`]: the thread that moves frames; [`Weather`]: what it does to those between two.
//!
//! The members' TCP is the kernel's and real; nothing of this needs a kernel module. Namespaces need
//! root: where that is missing, or by [`CHOICE`], members stay on loopback behind [`proxies`], which
//! cut and delay what they say to each other. Which it is, a run says.

pub mod namespaces;
mod proxies;
pub mod switch;

use std::collections::HashMap;
use std::net::Ipv4Addr;

pub use switch::Weather;

use super::ClusterError;
use namespaces::Namespace;
use proxies::Proxies;
use switch::Switch;

/// Names the environment variable that chooses: `proxies`; by default namespaces where they can be had.
pub const CHOICE: &str = "QUORATE_JEPSEN_NETWORK";
/// The harness' own place on the network; members have their ids.
pub const HARNESS: u8 = 126;
/// Addresses a network, one of which is the harness': as many as fit the range for each port block.
const ADDRESSES: u32 = 128;
/// The range for benchmarks of networks (RFC 2544): nobody routes it.
const RANGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// See the file's comment. Dropping it takes what it has made away.
#[derive(Debug)]
pub struct Network {
    wires: Wires,
    /// Where members are that have another's place: those that replaced one.
    moved: HashMap<u64, u8>,
    about: String,
}

#[derive(Debug)]
enum Wires {
    Cards(Cards),
    Proxies(Proxies),
}

/// What everybody is told of a member's host, and what the member itself has.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    pub(super) told: String,
    pub(super) own: String,
    /// Whether the member has the host to itself, and with it the usual ports.
    pub(super) is_alone: bool,
}

impl Network {
    /// Makes the wires; members follow by [`Network::attach`]. `block` and `number` are the port
    /// block's, which nobody else has: names and addresses are made of them.
    ///
    /// # Errors
    /// [`ClusterError::Network`] says what the kernel did not allow.
    pub(super) fn create(block: u16, number: u16) -> Result<Network, ClusterError> {
        let why = match std::env::var(CHOICE).as_deref() {
            Ok("proxies") => Some(format!("{CHOICE} says so")),
            Ok(other) => {
                let reason = format!("{CHOICE}={other}: the choice is proxies, or nothing for namespaces");
                return Err(ClusterError::Network(reason));
            }
            Err(_) => namespaces::are_possible().err().map(|why| format!("no namespaces here: {why}")),
        };
        let (wires, about) = match why {
            None => {
                let cards = Cards::create(block, number)?;
                (Wires::Cards(cards), "a network namespace a member, a switch between them".to_owned())
            }
            Some(why) => {
                let proxies = Proxies::start().map_err(|error| ClusterError::Network(error.to_string()))?;
                (Wires::Proxies(proxies), format!("loopback, a proxy before each member ({why})"))
            }
        };
        Ok(Network { wires, moved: HashMap::new(), about })
    }

    /// What it is, for people.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// A member's host.
    pub(super) fn hosts_of(&self, id: u64) -> Hosts {
        match &self.wires {
            Wires::Cards(cards) => {
                let address = cards.address(self.place(id)).to_string();
                Hosts { told: address.clone(), own: address, is_alone: true }
            }
            Wires::Proxies(_) => {
                Hosts { told: proxies::FRONT.into(), own: proxies::BEHIND.into(), is_alone: false }
            }
        }
    }

    /// Makes a member's way to the others, for its doors at these ports: the namespace in which it
    /// must run, if that is what it takes. Harmless if there is one.
    ///
    /// # Errors
    /// [`ClusterError::Network`].
    pub(super) fn attach(&mut self, id: u64, ports: &[u16]) -> Result<Option<String>, ClusterError> {
        let place = self.place(id);
        match &mut self.wires {
            Wires::Cards(cards) => cards.attach(place).map(Some),
            Wires::Proxies(proxies) => {
                for port in ports {
                    proxies.open(place, *port).map_err(|error| {
                        ClusterError::Network(format!("a front for member {id} at port {port}: {error}"))
                    })?;
                }
                Ok(None)
            }
        }
    }

    /// A member's process, from now on.
    pub(super) fn runs(&self, id: u64, pid: u32) {
        if let Wires::Proxies(proxies) = &self.wires {
            proxies.runs(self.place(id), pid);
        }
    }

    /// A member has taken another's place.
    pub(super) fn replaced(&mut self, old: u64, new: u64) {
        let place = self.place(old);
        self.moved.insert(new, place);
    }

    /// What happens between two members, one way; [`Weather::default`] is nothing.
    pub fn set(&self, from: u64, to: u64, weather: Weather) {
        self.set_places(self.place(from), self.place(to), weather);
    }

    /// What happens to everything that a member and the clients say to each other.
    pub fn set_clients(&self, id: u64, weather: Weather) {
        self.set_places(HARNESS, self.place(id), weather);
        self.set_places(self.place(id), HARNESS, weather);
    }

    fn set_places(&self, from: u8, to: u8, weather: Weather) {
        match &self.wires {
            Wires::Cards(cards) => cards.switch.set(from, to, weather),
            Wires::Proxies(proxies) => proxies.set(from, to, weather),
        }
    }

    /// Whether single frames pass through, which can arrive twice; a proxy moves streams of bytes.
    pub fn moves_frames(&self) -> bool {
        matches!(self.wires, Wires::Cards(_))
    }

    /// Puts everything right again.
    pub fn calm(&self) {
        match &self.wires {
            Wires::Cards(cards) => cards.switch.calm(),
            Wires::Proxies(proxies) => proxies.calm(),
        }
    }

    /// A member's place on the network.
    fn place(&self, id: u64) -> u8 {
        let own = || u8::try_from(id).ok().filter(|place| (1..HARNESS).contains(place));
        self.moved.get(&id).copied().or_else(own).expect("a cluster has few members")
    }
}

/// Cards in namespaces, and the switch.
#[derive(Debug)]
struct Cards {
    block: u16,
    number: u16,
    switch: Switch,
    namespaces: Vec<Namespace>,
}

impl Cards {
    /// The switch and the harness' card.
    fn create(block: u16, number: u16) -> Result<Cards, ClusterError> {
        namespaces::sweep(block);
        let switch = Switch::start().map_err(|error| ClusterError::Network(error.to_string()))?;
        let cards = Cards { block, number, switch, namespaces: Vec::new() };
        let card = cards.card(HARNESS);
        let file = tap_device::open(&card)
            .map_err(|error| ClusterError::Network(format!("a card for the harness: {error}")))?;
        namespaces::configure(None, &card, HARNESS, |place| cards.address(place))?;
        cards.switch.plug(HARNESS, file);
        Ok(cards)
    }

    fn attach(&mut self, place: u8) -> Result<String, ClusterError> {
        let name = namespaces::name(self.block, place);
        if !self.namespaces.iter().any(|namespace| namespace.name() == name) {
            let namespace = Namespace::create(name.clone())?;
            let card = self.card(place);
            let file = tap_device::open(&card)
                .map_err(|error| ClusterError::Network(format!("a card for place {place}: {error}")))?;
            namespace.take(&card)?;
            namespaces::configure(Some(&name), &card, place, |place| self.address(place))?;
            self.switch.plug(place, file);
            self.namespaces.push(namespace);
        }
        Ok(name)
    }

    fn card(&self, place: u8) -> String {
        format!("qj{}p{place}", self.block)
    }

    fn address(&self, place: u8) -> Ipv4Addr {
        let base = u32::from(RANGE) + u32::from(self.number) * ADDRESSES;
        Ipv4Addr::from(base + u32::from(place))
    }
}

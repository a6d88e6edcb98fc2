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
//! root: where that is missing, members stay on loopback and there are no network faults.

pub mod namespaces;
pub mod switch;

use std::net::Ipv4Addr;

pub use switch::Weather;

use super::ClusterError;
use namespaces::Namespace;
use switch::Switch;

/// The harness' own place on the network; members have their ids.
pub const HARNESS: u8 = 126;
/// Addresses a network, one of which is the harness': as many as fit the range for each port block.
const ADDRESSES: u32 = 128;
/// The range for benchmarks of networks (RFC 2544): nobody routes it.
const RANGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// See the file's comment. Dropping it takes cards and namespaces away.
#[derive(Debug)]
pub struct Network {
    block: u16,
    number: u16,
    switch: Switch,
    namespaces: Vec<Namespace>,
}

impl Network {
    /// Makes the switch and the harness' card; members follow by [`Network::attach`]. `block` and
    /// `number` are the port block's, which nobody else has: names and addresses are made of them.
    ///
    /// # Errors
    /// [`ClusterError::Network`] says what the kernel did not allow.
    pub(super) fn create(block: u16, number: u16) -> Result<Network, ClusterError> {
        namespaces::sweep(block);
        let switch = Switch::start().map_err(|error| ClusterError::Network(error.to_string()))?;
        let network = Network { block, number, switch, namespaces: Vec::new() };
        let card = network.card(HARNESS);
        let file = tap_device::open(&card)
            .map_err(|error| ClusterError::Network(format!("a card for the harness: {error}")))?;
        namespaces::configure(None, &card, HARNESS, |place| network.address(place))?;
        network.switch.plug(HARNESS, file);
        Ok(network)
    }

    /// Gives a member a namespace with a card. Harmless if it has one.
    ///
    /// # Errors
    /// [`ClusterError::Network`].
    pub(super) fn attach(&mut self, id: u64) -> Result<String, ClusterError> {
        let place = place(id);
        let name = namespaces::name(self.block, place);
        if !self.namespaces.iter().any(|namespace| namespace.name() == name) {
            let namespace = Namespace::create(name.clone())?;
            let card = self.card(place);
            let file = tap_device::open(&card)
                .map_err(|error| ClusterError::Network(format!("a card for member {id}: {error}")))?;
            namespace.take(&card)?;
            namespaces::configure(Some(&name), &card, place, |place| self.address(place))?;
            self.switch.plug(place, file);
            self.namespaces.push(namespace);
        }
        Ok(name)
    }

    /// A member's address.
    pub(super) fn address_of(&self, id: u64) -> Ipv4Addr {
        self.address(place(id))
    }

    /// What happens between two members, one way; [`Weather::default`] is nothing.
    pub fn set(&self, from: u64, to: u64, weather: Weather) {
        self.switch.set(place(from), place(to), weather);
    }

    /// What happens to everything that a member and the clients say to each other.
    pub fn set_clients(&self, id: u64, weather: Weather) {
        self.switch.set(HARNESS, place(id), weather);
        self.switch.set(place(id), HARNESS, weather);
    }

    /// Puts everything right again.
    pub fn calm(&self) {
        self.switch.calm();
    }

    fn card(&self, place: u8) -> String {
        format!("qj{}p{place}", self.block)
    }

    fn address(&self, place: u8) -> Ipv4Addr {
        let base = u32::from(RANGE) + u32::from(self.number) * ADDRESSES;
        Ipv4Addr::from(base + u32::from(place))
    }
}

/// A member's place on the network.
fn place(id: u64) -> u8 {
    u8::try_from(id).ok().filter(|place| (1..HARNESS).contains(place)).expect("a cluster has few members")
}

//! Addresses for processes and servers that a test starts later, starts again, or never starts.
//!
//! A port that was asked of the system (port 0) and let go is the next one's to whom the system gives it: another test's
//! listener, or any outgoing connection. So these are none that the system gives away by itself, and each belongs to the
//! process that took it until it ends. Whoever can hand on its listener needs none of this: it listens at port 0.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Services of the machine listen below it.
const FIRST: u16 = 10_000;

/// What says to other processes that a port is taken: an abstract name, which ends with the process however that ends.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// An address of this machine at which nobody listens and which nobody else is given while this process lives.
///
/// # Errors
/// When each port is taken.
pub fn free() -> Result<SocketAddr> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let ports = ports();
    let others = usize::try_from(std::process::id()).unwrap_or(0);
    // Processes that start together begin apart from one another.
    let begin = others.wrapping_mul(97).wrapping_add(taken.len());
    for step in 0..ports.len() {
        let place = begin.wrapping_add(step) % ports.len();
        let Some(port) = ports.get(place) else {
            continue;
        };
        let name = Name::from_abstract_name(format!("trilith-test-port-{port}"))?;
        let Ok(held) = UnixListener::bind_addr(&name) else {
            continue;
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        // Somebody who is no test of ours may be there.
        if TcpListener::bind(address).is_ok() {
            taken.push(held);
            return Ok(address);
        }
    }
    Err(Error::new(ErrorKind::AddrInUse, "no port is free"))
}

/// Those that the system gives to nobody by itself; all, if it may give each of them.
fn ports() -> Vec<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let mut bounds = range.split_whitespace().map(str::parse::<u16>);
    let own = match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 32_768..=60_999,
    };
    let all = FIRST..=u16::MAX;
    let outside: Vec<u16> = all.clone().filter(|port| !own.contains(port)).collect();
    if outside.is_empty() {
        return all.collect();
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_address_is_given_once_and_one_can_listen_there_again_and_again() {
        let given: Vec<SocketAddr> = (0..50).map(|_| free().unwrap()).collect();
        let different: BTreeSet<&SocketAddr> = given.iter().collect();
        assert_eq!(different.len(), given.len());
        for _ in 0..3 {
            let listening: Vec<TcpListener> = given
                .iter()
                .map(|address| TcpListener::bind(address).unwrap())
                .collect();
            // Nor is one where somebody listens.
            assert!(!given.contains(&free().unwrap()));
            drop(listening);
        }
    }

    #[test]
    fn a_port_is_held_while_its_process_lives() {
        let port = free().unwrap().port();
        let name = Name::from_abstract_name(format!("trilith-test-port-{port}")).unwrap();
        assert!(UnixListener::bind_addr(&name).is_err(), "it is not held");
    }
}

//! The checks of sockets, interfaces and connection tracking.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::bridge;
use super::check::Check;
use super::offload::{self, names};
use super::queues;
use super::tcx;
use crate::host::{self, Interface, Occupancy, Tables};
use crate::remedies::commands::{Side, untracked};
use reflector_measure::host_port::DEFAULT_PORT;
use reflector_netlab::ethtool;
use reflector_udp::sockopt;

/// All of them.
pub(crate) fn check() -> Vec<Check> {
    let mut checks = vec![reuse_port(), trains()];
    match Tables::open() {
        Ok(mut tables) => {
            let up: Vec<_> = tables
                .interfaces()
                .iter()
                .filter(|it| it.is_up && !it.is_loopback)
                .cloned()
                .collect();
            checks.extend(offload::check(&up));
            checks.push(queues::check(tables.tbfs()));
            checks.extend([bridge::check(&up), rp_filter(&up), tcx::check(&up)]);
        }
        Err(error) => checks.push(Check::ok(
            "interfaces",
            format!("cannot be listed here: {error}"),
        )),
    }
    checks.push(conntrack(
        Occupancy::read(),
        [
            host::sysctl("netfilter/nf_conntrack_udp_timeout"),
            host::sysctl("netfilter/nf_conntrack_udp_timeout_stream"),
        ],
    ));
    checks
}

fn reuse_port() -> Check {
    let name = "SO_REUSEPORT";
    match share_a_port() {
        Ok(()) => Check::ok(name, "two sockets share a port"),
        Err(error) => Check::warn(
            name,
            format!("two sockets cannot share a port: {error}"),
            "run one worker: --cores 1",
        ),
    }
}

/// Two sockets on one port, bound as the reflector binds its own.
fn share_a_port() -> io::Result<()> {
    let open = || Socket::new(Domain::IPV4, Type::DGRAM, None);
    let (first, second) = (open()?, open()?);
    first.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    first.set_reuse_port(true)?;
    second.set_reuse_port(true)?;
    second.bind(&first.local_addr()?)
}

fn trains() -> Check {
    let name = "UDP_GRO, UDP_SEGMENT";
    let remedy = "run Linux 5.0 or newer without a sandbox that hides these options; until then \
                  --gro off --gso off";
    match send_a_train() {
        Ok(Trial::Whole) => Check::ok(name, "a train of three datagrams passed whole"),
        Ok(Trial::InPieces) => match ethtool::feature("lo", "tx-udp-segmentation") {
            Ok(false) => Check::warn(
                name,
                "a train arrived in pieces: tx-udp-segmentation of lo is off",
                "`ethtool -K lo tx-udp-segmentation on`",
            ),
            _ => Check::warn(name, "a train arrived in pieces", remedy),
        },
        Ok(Trial::NoLoopback) => Check::ok(name, "accepted; not tried, since lo is down"),
        Ok(Trial::Lost) => Check::ok(
            name,
            "accepted; could not be tried, since lo passes no datagram, perhaps for a rule or a \
             full connection tracking table",
        ),
        Err(error) => Check::warn(name, format!("refused: {error}"), remedy),
    }
}

/// What became of a train sent over loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Whole,
    InPieces,
    NoLoopback,
    /// Refused by a rule, or gone.
    Lost,
}

/// Whether a train sent over loopback arrives as one.
fn send_a_train() -> io::Result<Trial> {
    const SEGMENT_LEN: usize = 100;
    let receiver = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let sender = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    sockopt::enable(&receiver, libc::SOL_UDP, libc::UDP_GRO)?;
    sockopt::set_int(
        &sender,
        libc::SOL_UDP,
        libc::UDP_SEGMENT,
        SEGMENT_LEN as i32,
    )?;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if receiver.bind(&loopback.into()).is_err() {
        return Ok(Trial::NoLoopback);
    }
    receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
    let train = [0; 3 * SEGMENT_LEN];
    match sender.send_to(&train, &receiver.local_addr()?) {
        Err(error) if error.raw_os_error() == Some(libc::ENETUNREACH) => {
            return Ok(Trial::NoLoopback);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Trial::Lost),
        result => result?,
    };
    match UdpSocket::from(receiver).recv(&mut [0; 2 * 3 * SEGMENT_LEN]) {
        Ok(len) if len == train.len() => Ok(Trial::Whole),
        Ok(_) => Ok(Trial::InPieces),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Trial::Lost),
        Err(error) => Err(error),
    }
}

fn rp_filter(interfaces: &[Interface]) -> Check {
    let settings: Vec<_> = interfaces
        .iter()
        .filter_map(|it| Some((it, host::rp_filter(&it.name)?)))
        .collect();
    rp_filter_check(&settings)
}

/// A strict filter hinders where requests may come by another interface than the route back:
/// where several uplinks are up.
fn rp_filter_check(settings: &[(&Interface, u64)]) -> Check {
    let name = "rp_filter";
    let strict = || settings.iter().filter(|it| it.1 == 1).map(|it| it.0);
    let uplinks = settings.iter().filter(|it| it.0.kind.is_empty()).count();
    match names(strict()) {
        None => Check::ok(name, "off or loose everywhere"),
        Some(strict) if uplinks < 2 => Check::ok(
            name,
            format!("strict on {strict}; one uplink, so it drops nothing legitimate"),
        ),
        Some(strict_names) => Check::warn(
            name,
            format!(
                "strict on {strict_names}, with {uplinks} uplinks: requests that come by another \
                 than the route back are dropped unseen"
            ),
            format!(
                "`sysctl -w net.ipv4.conf.{}.rp_filter=2`",
                strict().next().map_or("all", |it| &it.name)
            ),
        ),
    }
}

fn conntrack(occupancy: Option<Occupancy>, timeouts: [Option<u64>; 2]) -> Check {
    let name = "conntrack";
    let Some(table) = occupancy else {
        return Check::ok(name, "no connection tracking here");
    };
    let mut found = format!("{} of {} entries", table.count, table.max);
    if let [Some(first), Some(stream)] = timeouts {
        found += &format!(
            "; those of UDP last {first} s, and {stream} s only once a packet of an answered flow \
             comes more than 2 s after its first"
        );
    }
    // New flows come in bursts.
    let state = match (table.is_above(100), table.is_above(80)) {
        (true, _) => "full, new flows are dropped",
        (_, true) => "nearly full, new flows get lost",
        _ => return Check::ok(name, found),
    };
    let remedy = format!(
        "`sysctl -w net.netfilter.nf_conntrack_max={}` in the network namespace of the machine; or \
         do not track the reflector's port (here {DEFAULT_PORT}), neither questions nor answers, \
         where no NAT publishes it:",
        table.max * 4
    );
    let check = Check::warn(name, format!("{state}: {found}"), remedy);
    check.by(untracked(DEFAULT_PORT, Side::Server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Xdp;

    fn interface(name: &str, kind: &str) -> Interface {
        Interface {
            index: 1,
            name: name.to_owned(),
            kind: kind.to_owned(),
            is_loopback: false,
            is_up: true,
            xdp: Xdp::None,
        }
    }

    #[test]
    fn a_full_table_hinders() {
        let timeouts = [Some(30), Some(120)];
        let check = |count| conntrack(Some(Occupancy { count, max: 1000 }), timeouts);
        assert!(check(799).is_ok && check(799).found.contains("120 s only once"));
        let nearly = check(800);
        assert!(!nearly.is_ok && nearly.remedy.unwrap().contains("nf_conntrack_max=4000"));
        assert!(nearly.command.unwrap().contains("udp sport 9007 notrack"));
        assert!(nearly.found.starts_with("nearly full"));
        assert!(check(1000).found.starts_with("full"));
        assert!(conntrack(None, timeouts).is_ok);
        let unlimited = Occupancy { count: 1, max: 0 };
        assert!(conntrack(Some(unlimited), timeouts).is_ok);
    }

    #[test]
    fn a_strict_filter_hinders_two_uplinks() {
        let (eth0, eth1) = (interface("eth0", ""), interface("eth1", ""));
        let docker0 = interface("docker0", "bridge");
        assert!(rp_filter_check(&[(&eth0, 1), (&docker0, 1)]).is_ok);
        assert!(rp_filter_check(&[(&eth0, 2), (&eth1, 0)]).is_ok);
        let check = rp_filter_check(&[(&eth0, 2), (&eth1, 1)]);
        assert!(check.remedy.unwrap().contains("conf.eth1.rp_filter=2"));
    }

    #[test]
    fn sockets_are_tried() {
        share_a_port().unwrap();
        assert_ne!(send_a_train().unwrap(), Trial::InPieces);
    }
}

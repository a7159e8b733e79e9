//! What the kernel does for the packets of a device (TUNSETOFFLOAD), asked for once when it is made.

use std::io;

use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6, c_uint};

/// TCP segments of one flow come as one packet, checksums unfinished (Linux 2.6.27).
const TCP: c_uint = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
/// UDP datagrams of one flow and size do too (Linux 6.2).
const UDP: c_uint = TUN_F_USO4 | TUN_F_USO6;

/// What the kernel does for the queues of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Each packet has a [`VnetHeader`](crate::dataplane::offload::VnetHeader), those that we write too.
    pub header: bool,
    /// The kernel hands over TCP segments as one large packet.
    pub tcp: bool,
    /// The kernel hands over UDP datagrams of one size as one large packet.
    pub udp: bool,
    /// How many of these were asked for in vain.
    pub lacks: u8,
}

/// Asks by `set` for as much as the kernel has, for a device whose packets have a header if `header`. What it lacks although
/// it was `wanted` is said in the log.
pub(super) fn negotiate(wanted: bool, header: bool, set: impl Fn(c_uint) -> io::Result<()>) -> Offload {
    if !wanted {
        return Offload::default();
    }
    if !header {
        tracing::warn!(
            "this kernel's TUN has no virtio header: each packet to or from the core costs a system call of its own, and TCP \
             runs at less than half the speed"
        );
        return Offload {
            lacks: 3,
            ..Offload::default()
        };
    }
    let mut offload = Offload {
        header,
        tcp: true,
        udp: true,
        lacks: 0,
    };
    if set(TCP | UDP).is_ok() {
        return offload;
    }
    (offload.udp, offload.lacks) = (false, 1);
    match set(TCP) {
        Ok(()) => tracing::info!(
            "this kernel's TUN has no UDP segmentation offload (Linux 6.2 has it): bursts of UDP from the core cost a system \
             call a packet; TCP does not"
        ),
        Err(error) => {
            (offload.tcp, offload.lacks) = (false, 2);
            tracing::warn!(
                %error,
                "this kernel's TUN has no segmentation offload: each packet from the core costs a system call of its own, and \
                 TCP to subscribers runs at less than half the speed"
            );
        }
    }
    offload
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What comes of a kernel that has `features`, and what it was asked for.
    fn asked(wanted: bool, header: bool, features: c_uint) -> (Offload, Vec<c_uint>) {
        let asked = RefCell::new(Vec::new());
        let offload = negotiate(wanted, header, |all| {
            asked.borrow_mut().push(all);
            let refused = || io::Error::from_raw_os_error(libc::EINVAL);
            if all & !features == 0 {
                Ok(())
            } else {
                Err(refused())
            }
        });
        (offload, asked.into_inner())
    }

    #[test]
    fn as_much_as_the_kernel_has() {
        let offload = |header, tcp, udp| Offload {
            header,
            tcp,
            udp,
            lacks: [header, tcp, udp].iter().filter(|has| !**has).count() as u8,
        };
        assert_eq!(asked(true, true, 0x6f), (offload(true, true, true), vec![0x6f]));
        assert_eq!(
            asked(true, true, 0x1f),
            (offload(true, true, false), vec![0x6f, 0x0f])
        );
        assert_eq!(
            asked(true, true, 0),
            (offload(true, false, false), vec![0x6f, 0x0f])
        );
        assert_eq!(asked(true, false, 0x6f), (offload(false, false, false), vec![]));
        assert_eq!(asked(false, false, 0x6f), (Offload::default(), vec![]));
    }
}

//! Which socket of a SO_REUSEPORT group takes a datagram: classic BPF on the tunnel id (RFC 2661 §3.1).
//!
//! `(group + index) % shards`, as [`holdfast_protocol::TunnelId::shard`] computes it. A message with tunnel id 0, an
//! SCCRQ, goes by its source port. The kernel runs the program with the UDP payload at offset 0; a datagram too short
//! for a load ends it with 0, and shard 0 drops the runt.

use libc::{BPF_NET_OFF, sock_filter};

/// Instruction codes (linux/filter.h), as `class | size | mode` or `class | operation | source`.
mod code {
    pub(super) const LOAD_HALF: u16 = 0x28; // LD | H | ABS
    pub(super) const LOAD_HALF_AT_X: u16 = 0x48; // LD | H | IND
    pub(super) const LOAD_MEMORY: u16 = 0x60; // LD | MEM
    pub(super) const LOAD_X_IPV4_HEADER: u16 = 0xb1; // LDX | B | MSH: X = 4 * (octet & 0xf)
    pub(super) const STORE: u16 = 0x02; // ST
    pub(super) const ADD_X: u16 = 0x0c; // ALU | ADD | X
    pub(super) const AND: u16 = 0x54; // ALU | AND | K
    pub(super) const SHIFT_RIGHT: u16 = 0x74; // ALU | RSH | K
    pub(super) const MODULO: u16 = 0x94; // ALU | MOD | K
    pub(super) const JUMP: u16 = 0x05; // JMP | JA
    pub(super) const JUMP_EQUAL: u16 = 0x15; // JMP | JEQ | K
    pub(super) const JUMP_ANY_BIT: u16 = 0x45; // JMP | JSET | K
    pub(super) const TO_X: u16 = 0x07; // MISC | TAX
    pub(super) const RETURN: u16 = 0x16; // RET | A
}

/// The L bit of the header: a Length field stands before the tunnel id.
const LENGTH: u32 = 0x4000;

const fn step(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The program for a group of `shards` sockets (at least one) of one address family.
pub(crate) fn program(shards: u32, ipv6: bool) -> Vec<sock_filter> {
    let network = BPF_NET_OFF as u32; // a negative offset: from the network header instead of the payload
    let mut program = vec![
        /* 0 */ step(code::LOAD_HALF, 0),
        /* 1 */ jump(code::JUMP_ANY_BIT, LENGTH, 2, 0),
        /* 2 */ step(code::LOAD_HALF, 2),
        /* 3 */ step(code::JUMP, 1),
        /* 4 */ step(code::LOAD_HALF, 4),
        /* 5 */ jump(code::JUMP_EQUAL, 0, 8, 0),
        /* 6 */ step(code::STORE, 0),
        /* 7 */ step(code::SHIFT_RIGHT, 8),
        /* 8 */ step(code::TO_X, 0),
        /* 9 */ step(code::LOAD_MEMORY, 0),
        /* 10 */ step(code::AND, 0xff),
        /* 11 */ step(code::ADD_X, 0),
        /* 12 */ step(code::MODULO, shards),
        /* 13 */ step(code::RETURN, 0),
    ];
    // 14: tunnel id 0. The source port is the first field of the UDP header.
    if ipv6 {
        program.push(step(code::LOAD_HALF, network.wrapping_add(40)));
    } else {
        program.push(step(code::LOAD_X_IPV4_HEADER, network));
        program.push(step(code::LOAD_HALF_AT_X, network));
    }
    program.push(step(code::MODULO, shards));
    program.push(step(code::RETURN, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::TunnelId;

    /// What the kernel does with the instructions that the program uses. `network` is the packet from its IP header,
    /// `payload` the UDP payload.
    fn run(program: &[sock_filter], network: &[u8], payload: &[u8]) -> u32 {
        let load = |at: u32, size: usize| -> Option<u32> {
            let signed = at as i32;
            let (data, at) = if signed < 0 {
                (network, (signed - BPF_NET_OFF) as usize)
            } else {
                (payload, at as usize)
            };
            Some(
                data.get(at..at + size)?
                    .iter()
                    .fold(0, |value, octet| value << 8 | u32::from(*octet)),
            )
        };
        let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
        loop {
            let instruction = program[at];
            let k = instruction.k;
            at += 1;
            match instruction.code {
                code::LOAD_HALF => match load(k, 2) {
                    Some(value) => a = value,
                    None => return 0,
                },
                code::LOAD_HALF_AT_X => match load(k.wrapping_add(x), 2) {
                    Some(value) => a = value,
                    None => return 0,
                },
                code::LOAD_X_IPV4_HEADER => match load(k, 1) {
                    Some(value) => x = (value & 0xf) * 4,
                    None => return 0,
                },
                code::LOAD_MEMORY => a = memory[k as usize],
                code::STORE => memory[k as usize] = a,
                code::ADD_X => a = a.wrapping_add(x),
                code::AND => a &= k,
                code::SHIFT_RIGHT => a >>= k,
                code::MODULO => a %= k,
                code::JUMP => at += k as usize,
                code::JUMP_EQUAL => at += usize::from(if a == k { instruction.jt } else { instruction.jf }),
                code::JUMP_ANY_BIT => {
                    at += usize::from(if a & k != 0 {
                        instruction.jt
                    } else {
                        instruction.jf
                    })
                }
                code::TO_X => x = a,
                code::RETURN => return a,
                other => panic!("instruction {other:#x} is not used"),
            }
        }
    }

    fn header(tunnel: u16, length: bool) -> Vec<u8> {
        let [high, low] = tunnel.to_be_bytes();
        if length {
            vec![0x40, 2, 0, 8, high, low, 0, 1]
        } else {
            vec![0, 2, high, low, 0, 1]
        }
    }

    #[test]
    fn every_tunnel_id_goes_where_its_shard_is() {
        for shards in 1..=16u32 {
            let program = program(shards, false);
            for id in 1..=u16::MAX {
                let expected = TunnelId::new(id).expect("not zero").shard(shards as usize);
                for length in [false, true] {
                    assert_eq!(
                        run(&program, &[], &header(id, length)) as usize,
                        expected,
                        "{id} of {shards}"
                    );
                }
            }
        }
    }

    #[test]
    fn tunnel_id_zero_goes_by_source_port() {
        for shards in 1..=16u32 {
            for port in [1u16, 1701, 1702, 40_000, 65_535] {
                let [high, low] = port.to_be_bytes();
                let mut ipv4 = vec![0u8; 24]; // one word of options
                ipv4[0] = 0x46;
                ipv4.extend_from_slice(&[high, low, 6, 165]);
                let mut ipv6 = vec![0u8; 40];
                ipv6.extend_from_slice(&[high, low, 6, 165]);
                let expected = u32::from(port) % shards;
                assert_eq!(run(&program(shards, false), &ipv4, &header(0, true)), expected);
                assert_eq!(run(&program(shards, true), &ipv6, &header(0, true)), expected);
            }
        }
    }

    #[test]
    fn runts_go_to_shard_0() {
        for length in 0..4 {
            assert_eq!(run(&program(4, false), &[], &header(3, false)[..length]), 0);
        }
    }
}

//! Frames, of which a good part is nearly right.

use std::net::IpAddr;

use reflector_testkit::random::Random;

use crate::socket::sum;

/// What frames are made of: what is right comes first in each list.
pub struct Forge<'a> {
    pub random: &'a mut Random,
    pub sources: &'a [IpAddr],
    pub targets: &'a [IpAddr],
    pub source_ports: &'a [u16],
    pub target_ports: &'a [u16],
}

/// One of the first `usual` choices nine times out of ten, else any.
fn mostly<T: Copy>(random: &mut Random, choices: &[T], usual: usize) -> T {
    match random.below(10) {
        0 => random.one_of(choices),
        _ => random.one_of(&choices[..usual]),
    }
}

impl Forge<'_> {
    /// A frame, and the length of the datagrams of its train.
    pub fn frame(&mut self) -> (Vec<u8>, u32) {
        let mut frame = self.whole();
        if self.random.below(4) == 0 {
            self.mutate(&mut frame);
        }
        if self.random.below(12) == 0 {
            let len = self.random.below(frame.len() + 1);
            // The kernel runs the program on no frame with a shorter IP header.
            let least = if frame[12] == 0x86 { 54 } else { 34 };
            frame.truncate(len.max(least));
        }
        if self.random.below(8) == 0 {
            let padding = self.random.below(40);
            frame.extend(self.random.bytes(padding));
        }
        let segment_len = match self.random.below(6) {
            0 => 1 + self.random.below(20) as u32,
            1 => 100,
            _ => 0,
        };
        (frame, segment_len)
    }

    fn whole(&mut self) -> Vec<u8> {
        let random = &mut *self.random;
        let target_mac = match random.below(12) {
            0 => [2, 0, 0, 0, 0, 9],
            1 => [2, 0, 0, 0, 0, 8],
            2 => [0xff; 6],
            3 => [1, 0, 0x5e, 0, 0, 1],
            _ => [0; 6],
        };
        let source_mac = [u8::from(random.below(40) == 0), 0, 0, 0, 0, 7];
        let source = mostly(random, self.sources, 4);
        let of_family: Vec<IpAddr> = (self.targets.iter().copied())
            .filter(|it| it.is_ipv4() == source.is_ipv4())
            .collect();
        let target = mostly(random, &of_family, 1);
        let ports = [
            mostly(random, self.source_ports, 3),
            mostly(random, self.target_ports, 1),
        ];
        let payload_len = match random.below(4) {
            0 => 0,
            1 => 1 + random.below(8),
            2 => random.below(200),
            _ => random.below(1400),
        };
        let segment = self.udp(ports, payload_len);
        let (kind, packet) = match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => (
                0x0800_u16,
                self.ipv4(source.octets(), target.octets(), &segment),
            ),
            (IpAddr::V6(source), IpAddr::V6(target)) => (
                0x86dd,
                self.ipv6(source.octets(), target.octets(), &segment),
            ),
            _ => unreachable!("targets are of the source's family"),
        };
        let mut frame = [target_mac, source_mac].concat();
        if self.random.below(30) == 0 {
            frame.extend([0x81, 0, 0, self.random.below(2) as u8]);
        }
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn udp(&mut self, ports: [u16; 2], payload_len: usize) -> Vec<u8> {
        let random = &mut *self.random;
        let len = 8 + payload_len as u16;
        let len = match random.below(16) {
            0 => random.below(len as usize + 20) as u16,
            _ => len,
        };
        let check = random.one_of(&[0, 1, 0x1234, 0xffff]);
        let header = [ports[0], ports[1], len, check].map(u16::to_be_bytes);
        [header.concat(), random.bytes(payload_len)].concat()
    }

    fn ipv4(&mut self, source: [u8; 4], target: [u8; 4], segment: &[u8]) -> Vec<u8> {
        let random = &mut *self.random;
        let options = match random.below(14) {
            0 => vec![1; 4],
            1 => vec![0x94, 4, 0, 0],
            _ => Vec::new(),
        };
        let header_len = 20 + options.len();
        let total = match random.below(16) {
            0 => random.below(header_len + segment.len() + 20),
            _ => header_len + segment.len(),
        };
        let fragment: u16 = match random.below(10) {
            0 => random.number() as u16,
            1..6 => 0x4000,
            _ => 0,
        };
        let mut header = vec![0x40 | (header_len / 4) as u8, random.number() as u8];
        header.extend((total as u16).to_be_bytes());
        header.extend(random.bytes(2));
        header.extend(fragment.to_be_bytes());
        header.push(random.one_of(&[0, 1, 2, 64, 64, 255]));
        header.push(random.one_of(&[17, 17, 17, 17, 17, 17, 17, 6, 136]));
        header.extend([0, 0]);
        header.extend(source);
        header.extend(target);
        header.extend(options);
        let check = match random.below(16) {
            0 => random.number() as u16,
            _ => !sum(&header),
        };
        header[10..12].copy_from_slice(&check.to_be_bytes());
        [&header, segment].concat()
    }

    fn ipv6(&mut self, source: [u8; 16], target: [u8; 16], segment: &[u8]) -> Vec<u8> {
        let random = &mut *self.random;
        let (next, extension): (u8, &[u8]) = match random.below(14) {
            0 => (0, &[17, 0, 1, 4, 0, 0, 0, 0]),
            1 => (44, &[17, 0, 0, 0, 0, 0, 0, 9]),
            2 => (60, &[17, 0, 1, 4, 0, 0, 0, 0]),
            3 => (58, &[]),
            _ => (17, &[]),
        };
        let len = match random.below(16) {
            0 => random.below(extension.len() + segment.len() + 20),
            _ => extension.len() + segment.len(),
        };
        let first = 6 << 28 | random.number() as u32 >> 4;
        let mut header = first.to_be_bytes().to_vec();
        header.extend((len as u16).to_be_bytes());
        header.push(next);
        header.push(random.one_of(&[0, 1, 2, 64, 64, 255]));
        header.extend(source);
        header.extend(target);
        [&header, extension, segment].concat()
    }

    /// Changes a few bits, mostly of headers; the sum of IPv4 is put right every other time.
    fn mutate(&mut self, frame: &mut [u8]) {
        let random = &mut *self.random;
        for _ in 0..=random.below(3) {
            let end = if random.below(8) == 0 {
                frame.len()
            } else {
                62.min(frame.len())
            };
            frame[random.below(end)] ^= 1 << random.below(8);
        }
        if random.below(2) == 0 && frame.len() >= 34 && frame[12..14] == [8, 0] {
            frame[24..26].fill(0);
            let check = !sum(&frame[14..34]);
            frame[24..26].copy_from_slice(&check.to_be_bytes());
        }
    }
}

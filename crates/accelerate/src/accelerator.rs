//! The program in the kernel: loaded, attached, told what to answer, and asked what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use aya::maps::{Array, HashMap, MapData};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifier, SchedClassifierLinkId, TcAttachOptions, TcAttachType};
use aya::programs::{TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use reflector_measure::error::Error;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::bits::Bits;
use crate::counted::Counters;
use crate::failure;
use crate::layout::{Answered, Counts, Target, answered};
use crate::lists::{Lists, take};
use crate::routes::Routes;
use crate::rules::Rules;
use crate::targets::{Local, targets};
use crate::way::{Framing, Way};

/// Made by `scripts/bpf.sh`.
static OBJECT: &[u8] = include_bytes_aligned!("../bpf/reflect.o");

/// The program's name in the object.
const PROGRAM: &str = "reflect";
/// The answers of a test run: the frame is to be sent, or goes on to the next program.
const REDIRECT: u32 = 7;
const NEXT: u32 = -1_i32 as u32;

/// A device that the program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub ifindex: u32,
    /// How replies leave.
    pub way: Way,
    /// What its frames begin with.
    pub framing: Framing,
    /// Whether this host talks to itself by it.
    pub is_loopback: bool,
    /// Whose frames are its own as well: a bridge's, for a port of it.
    pub other: Option<[u8; 6]>,
    /// The device that has its routes: a bridge for a port of it, else itself.
    pub routed_by: u32,
}

/// The program, loaded. When this is dropped, or the process ends in whatever way, nothing of it
/// stays.
pub struct Accelerator {
    // Dropped first: without a link nothing reads the maps.
    links: BTreeMap<u32, (SchedClassifierLinkId, Device)>,
    ebpf: Ebpf,
    devices: HashMap<MapData, u32, Answered>,
    targets: HashMap<MapData, Target, u32>,
    listed: BTreeSet<Target>,
    lists: Lists,
    counted: Array<MapData, Counts>,
    rules: Rules,
    listeners: Vec<SocketAddr>,
    own: Vec<Local>,
    broadcasts: Vec<Ipv4Addr>,
    routes: Routes,
    bits: Bits,
}

/// Whether the kernel takes the program, of which nothing stays.
///
/// # Errors
/// As [`Accelerator::load`].
pub fn probe() -> Result<(), Error> {
    let nobody = Rules {
        prefixes: Vec::new(),
        denied_ports: Vec::new(),
        has_loop_guard: false,
        hop_limit: 64,
        tos: 0,
    };
    Accelerator::load(nobody, Vec::new()).map(drop)
}

impl Accelerator {
    /// Loads the program, which answers what was sent to `listeners`, but nothing before it is told
    /// [addresses](Self::set_addresses) and [routes](Self::set_routes), and
    /// [attached](Self::attach).
    ///
    /// # Errors
    /// Linux before 6.6; `EPERM` without CAP_BPF and CAP_NET_ADMIN; `EACCES` or `EINVAL`
    /// where an older kernel's verifier wants CAP_PERFMON.
    pub fn load(rules: Rules, listeners: Vec<SocketAddr>) -> Result<Self, Error> {
        failure::check_kernel()?;
        let cannot = |e: &(dyn std::error::Error + 'static)| {
            failure::of("cannot load the program that answers in the kernel", e)
        };
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| cannot(&error))?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("counted", cpus as u32)
            .load(OBJECT)
            .map_err(|error| cannot(&error))?;
        program(&mut ebpf).load().map_err(|error| cannot(&error))?;
        let mut accelerator = Self {
            links: BTreeMap::new(),
            devices: take(&mut ebpf, "devices")?,
            targets: take(&mut ebpf, "targets")?,
            listed: BTreeSet::new(),
            lists: Lists::take(&mut ebpf)?,
            counted: take(&mut ebpf, "counted")?,
            ebpf,
            rules,
            listeners,
            own: Vec::new(),
            broadcasts: Vec::new(),
            routes: Routes::default(),
            bits: Bits::default(),
        };
        accelerator.write_lists()?;
        Ok(accelerator)
    }

    /// Answers at `device`, before all other programs there; or answers there as it says from now
    /// on.
    ///
    /// # Errors
    /// `ENODEV` where it has gone, `EPERM`.
    pub fn attach(&mut self, device: &Device) -> Result<(), Error> {
        let index = device.ifindex;
        let cannot = |e: &(dyn std::error::Error + 'static)| {
            failure::of(format!("cannot attach to the device number {index}"), e)
        };
        let bit = self.bit(device)?;
        let entry = answered(device.way, device.framing, device.other, bit);
        let written = self.devices.insert(index, entry, 0);
        written.map_err(|error| cannot(&error))?;
        if let Some((_, known)) = self.links.get_mut(&index) {
            *known = *device;
            return Ok(());
        }
        match self.link(index) {
            Ok(link) => {
                self.links.insert(index, (link, *device));
                Ok(())
            }
            Err(error) => {
                let _ = self.devices.remove(&index);
                Err(cannot(&*error))
            }
        }
    }

    /// The bit of what replies at `device` leave by, which prefixes are listed with from now on.
    fn bit(&mut self, device: &Device) -> Result<u32, Error> {
        let (index, others) = (device.routed_by, &self.links);
        let is_used = |it| {
            let mut others = others.values().map(|(_, other)| other);
            others.any(|other| other.ifindex != device.ifindex && other.routed_by == it)
        };
        let before = self.bits.clone();
        let bit = self.bits.give(index, device.is_loopback, is_used)?;
        if self.bits != before
            && let Err(error) = self.write_lists()
        {
            self.bits = before;
            // The others go on as before, if they can.
            let _ = self.write_lists();
            return Err(error);
        }
        Ok(bit)
    }

    /// Answers as `change` makes it at a device that it is attached to.
    ///
    /// # Errors
    /// What the kernel says of the map of devices; there is no such device.
    pub fn alter(&mut self, ifindex: u32, change: impl FnOnce(&mut Device)) -> Result<(), Error> {
        match self.links.get(&ifindex) {
            Some((_, device)) => {
                let mut device = *device;
                change(&mut device);
                self.attach(&device)
            }
            None => {
                let attempted = format!("cannot answer at the device number {ifindex}");
                Err(Error::new(attempted, "nothing is attached there"))
            }
        }
    }

    /// By the number, although aya takes a name: one that changes hands meanwhile is found out.
    fn link(&mut self, index: u32) -> Result<SchedClassifierLinkId, Box<dyn std::error::Error>> {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        let name = netdevice::index_to_name(&any, index)?;
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let program = program(&mut self.ebpf);
        let link = program.attach_with_options(&name, TcAttachType::Ingress, first)?;
        if netdevice::name_to_index(&any, &name).ok() != Some(index) {
            program.detach(link)?;
            return Err("its name has changed meanwhile".into());
        }
        Ok(link)
    }

    /// Lets go of the device `ifindex`, whether it is still there or not.
    ///
    /// # Errors
    /// What the kernel says of the map of devices.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), Error> {
        let cannot = |e: &(dyn std::error::Error + 'static)| {
            failure::of(format!("cannot detach from the device number {ifindex}"), e)
        };
        let Some((link, _)) = self.links.remove(&ifindex) else {
            return Ok(());
        };
        // The link first: it would go on in another namespace.
        let detached = program(&mut self.ebpf).detach(link);
        self.devices
            .remove(&ifindex)
            .map_err(|error| cannot(&error))?;
        detached.map_err(|error| cannot(&error))
    }

    /// Answers whom `rules` say from the next frame on.
    ///
    /// # Errors
    /// `ENOSPC` of too many prefixes, `ENOMEM`; then everything is passed.
    pub fn set_rules(&mut self, rules: Rules) -> Result<(), Error> {
        self.rules = rules;
        self.write_lists()
    }

    /// Answers at `own` addresses only. `broadcasts` are those of their networks.
    ///
    /// An address that is gone is no longer answered at before this looks at any that is new.
    ///
    /// # Errors
    /// `E2BIG` of too many addresses: some of those that are new are passed. `ENOSPC`, `ENOMEM` of
    /// the lists: then everything is passed.
    pub fn set_addresses(
        &mut self,
        own: Vec<Local>,
        broadcasts: Vec<Ipv4Addr>,
    ) -> Result<(), Error> {
        let wanted = targets(&self.listeners, &own);
        (self.own, self.broadcasts) = (own, broadcasts);
        let cannot = |e| {
            failure::of_full(
                "cannot tell the program which addresses are here",
                &e,
                "there are more than 65536 pairs of an address and a port; listen at fewer",
            )
        };
        let gone: Vec<Target> = self.listed.difference(&wanted).copied().collect();
        for gone in gone {
            self.targets.remove(&gone).map_err(cannot)?;
            self.listed.remove(&gone);
        }
        self.write_lists()?;
        for new in wanted {
            if !self.listed.contains(&new) {
                self.targets.insert(new, 1, 0).map_err(cannot)?;
                self.listed.insert(new);
            }
        }
        Ok(())
    }

    /// Answers only whom `routes` lead to by the device that asks. Everybody else is passed: a
    /// reply would leave by another device or not at all, and rp_filter may refuse the request.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`; then everything is passed.
    pub fn set_routes(&mut self, routes: Routes) -> Result<(), Error> {
        self.routes = routes;
        self.write_lists()
    }

    fn write_lists(&mut self) -> Result<(), Error> {
        let own: Vec<IpAddr> = self.own.iter().map(|it| it.addr).collect();
        let entries = self
            .rules
            .lists(&own, &self.broadcasts, &self.routes, &self.bits);
        self.lists.set(entries, &self.rules.settings())
    }

    /// What has been answered since the start.
    ///
    /// # Errors
    /// What the kernel says of the map of counters.
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut counters = Counters::default();
        for counts in self.counted.iter() {
            let cannot = |e| failure::of("cannot read what was answered in the kernel", &e);
            counters.add(&counts.map_err(cannot)?);
        }
        Ok(counters)
    }

    /// What the program would do with a frame (BPF_PROG_TEST_RUN of bpf(2)).
    ///
    /// # Errors
    /// `EINVAL` of a frame without a whole Ethernet header; `EPERM`.
    pub fn test_run(&mut self, frame: &Frame<'_>) -> Result<Outcome, Error> {
        let context = frame.context();
        // A reply is no longer than its request.
        let mut bytes = vec![0; frame.bytes.len()];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame.bytes);
        options.ctx_in = Some(&context);
        options.data_out = Some(&mut bytes);
        let ran = program(&mut self.ebpf).test_run(options);
        let ran = ran.map_err(|error| failure::of("cannot run the program on a frame", &error))?;
        bytes.truncate(ran.data_size_out as usize);
        match ran.return_value {
            REDIRECT => Ok(Outcome::Answered(bytes)),
            NEXT => Ok(Outcome::Passed(bytes)),
            other => Err(Error::new(
                "cannot run the program on a frame",
                format!("it says {other}"),
            )),
        }
    }
}

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf.program_mut(PROGRAM).expect("the object has it");
    program.try_into().expect("it is a classifier")
}

/// A frame as the program sees it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// The device that it came by, which has to exist.
    pub ifindex: u32,
    /// Bytes of each datagram of a train; 0 for none.
    pub segment_len: u32,
}

impl Frame<'_> {
    /// `struct __sk_buff` of linux/bpf.h, up to `gso_size`.
    fn context(&self) -> [u8; 184] {
        const IFINDEX: usize = 40;
        const GSO_SEGS: usize = 164;
        const GSO_SIZE: usize = 176;
        let mut context = [0; 184];
        let mut put = |at, value: u32| context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        put(IFINDEX, self.ifindex);
        put(GSO_SIZE, self.segment_len);
        put(GSO_SEGS, u32::from(self.segment_len > 0));
        context
    }
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is sent.
    Answered(Vec<u8>),
    /// It goes on, as it is here.
    Passed(Vec<u8>),
}

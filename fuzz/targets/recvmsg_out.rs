//! What a multishot receive leaves in a buffer (`io_uring_recvmsg_out`).

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use reflector::internals::engine::uring::buffers;
use reflector_udp::addr::PeerAddr;
use reflector_udp::cmsg;
use reflector_udp::memory::Lease;

thread_local! {
    static LEASE: RefCell<Lease> = RefCell::new(buffers::carve(1).unwrap().pop().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let Some((&len, written)) = data.split_first_chunk() else {
        return;
    };
    LEASE.with_borrow_mut(|lease| {
        lease.set_window(0..lease.capacity());
        let written = &written[..written.len().min(lease.len())];
        lease[..written.len()].copy_from_slice(written);
        let (incoming, payload) = buffers::parse(lease, u32::from_le_bytes(len));
        assert!(payload.start <= payload.end && payload.end <= lease.capacity());
        assert!(incoming.control.len() <= buffers::CONTROL_LEN);
        let _ = PeerAddr::received(incoming.name);
        let _ = cmsg::received(incoming.control).count();
        lease.set_window(payload);
    });
});

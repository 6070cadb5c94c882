//! What a reflector takes for a question about its asker, and what a client takes for the answer.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use reflector::Verdict;
use reflector::responder::echo_info::EchoInfo;
use reflector::responder::{Request, Responder};
use reflector_measure::echo_info;

fuzz_target!(|data: &[u8]| {
    let peer: SocketAddr = "192.0.2.1:40000".parse().unwrap();
    let local: SocketAddr = "[2001:db8::2]:9007".parse().unwrap();
    let request = Request::new(peer, local);
    let told_before = echo_info::told(data);
    let mut echo = EchoInfo::default();
    let mut reply = data.to_owned();
    let len = data.len();
    assert_eq!(echo.respond(&request, &mut reply), Verdict::Reply { len });
    if reply == data {
        return;
    }
    // What has changed is a question, and its asker reads what it was told.
    assert!(told_before.is_none());
    let told = echo_info::told(&reply).unwrap();
    assert_eq!((told.peer, told.local), (peer, local));
    assert_eq!((told.count.first, told.count.count), (told.sequence, 1));
    let fields = echo_info::BLOCK_LEN - 24;
    assert_eq!(reply[..len - fields], data[..len - fields]);
    // Nobody is answered twice: the answer goes back as it is.
    let answer = reply.clone();
    echo.respond(&request, &mut reply);
    assert_eq!(reply, answer);
});

//! The text as it looks in terminals of several widths.

use super::*;
use crate::fixtures::{hairpin_outcome, show};

fn plain(text: &str) -> Vec<String> {
    let text = anstream::adapter::strip_str(text).to_string();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_hundred_columns_hold_both_servers_side_by_side() {
    let text = Page::new(100).case(&show(ServerUnderTest::Naive), &hairpin_outcome());
    let lines = plain(&text);
    let expected = "
── hairpin ─────────────────────────────────────────────────────────────────────────────────────────
The container asks its own host, at eth0's address. The host's shortest way back is docker0, which
has an address of its own.

naive server on 0.0.0.0:9007                     │ reflector on 0.0.0.0:9007 (uring engine)
                                                 │
    ms  on docker0                               │     ms  on docker0
 0.000  172.17.0.3.40000 > 172.16.13.13.9007:    │  0.000  172.17.0.3.40000 > 172.16.13.13.9007:
        UDP, length 4  question                  │         UDP, length 4  question
 0.052  172.17.0.1.9007 > 172.17.0.3.40000:      │  0.052  172.16.13.13.9007 > 172.17.0.3.40000:
        UDP, length 4  wrong source!             │         UDP, length 4  answer
 1.071  172.17.0.3 > 172.17.0.1:                 │
        ICMP udp port 40000 unreachable          │
                                                 │
conntrack  nothing: no NAT or filter needs it    │ conntrack  nothing: no NAT or filter needs it
client     waited 1s in vain                     │ client     got 4 bytes after 0.123 ms
                                                 │
WRONG      Asked at 172.16.13.13:9007, it        │ RIGHT      Asked at 172.16.13.13:9007, it
           answered from 172.17.0.1:9007         │            answered from there.
           (docker0's address). The client is    │
           connected to the address it asked, so │
           its kernel knows no such peer and     │
           refuses the answer.                   │";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let show = show(ServerUnderTest::Naive);
    for width in [40, 80, 99, 100, 120, 132] {
        let page = Page::new(width);
        let mut text = page.opening(&show) + &page.case(&show, &hairpin_outcome());
        text += &page.closing(&show, &[hairpin_outcome()], Exit::Done);
        for line in plain(&text) {
            let is_picture = PICTURE.contains(&line.as_str());
            // Packets are not cut: below 60 columns the terminal wraps them.
            assert!(
                line.chars().count() <= width.max(60) || is_picture,
                "{width}: {line}"
            );
        }
    }
}

#[test]
fn a_narrow_terminal_has_one_above_the_other() {
    let text = Page::new(80).case(&show(ServerUnderTest::Naive), &hairpin_outcome());
    let lines = plain(&text);
    assert!(lines.iter().all(|line| !line.contains('│')), "{lines:#?}");
    let position = |needle: &str| lines.iter().position(|line| line.contains(needle)).unwrap();
    assert!(position("WRONG") < position("reflector on 0.0.0.0:9007"));
    let packet = "172.17.0.1.9007 > 172.17.0.3.40000: UDP, length 4  wrong source!";
    assert!(lines[position("52")].ends_with(packet), "{lines:#?}");
}

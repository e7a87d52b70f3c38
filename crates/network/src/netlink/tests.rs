//! The encoder and the decoder on messages as the kernel has them.

use super::message::{Answers, Attributes, Batch};

#[test]
fn messages_are_framed_numbered_and_aligned() {
    let mut batch = Batch::new();
    batch.message(16, 0, &[1, 2, 3], |message| {
        message.text(3, "eth0");
        message.nest(18, |nest| nest.native(1, 7));
    });
    batch.message(17, 0x400, &[], |_| {});
    batch.acknowledge_last();
    assert_eq!(batch.len(), 2);
    let bytes = batch.finish(41).to_vec();
    let answers: Vec<_> = Answers::new(&bytes).collect();
    assert_eq!(answers.len(), 2);
    assert_eq!((answers[0].kind, answers[0].flags, answers[0].sequence), (16, 1, 41));
    assert_eq!((answers[1].kind, answers[1].flags, answers[1].sequence), (17, 0x405, 42));
    let attributes: Vec<_> = Attributes::behind(answers[0].payload, 3).collect();
    assert_eq!(attributes[0], (3, &b"eth0\0"[..]));
    let inner: Vec<_> = Attributes::behind(attributes[1].1, 0).collect();
    assert_eq!(inner, [(1, &7_u32.to_ne_bytes()[..])]);
}

#[test]
fn foreign_bytes_end_the_walk_and_never_panic() {
    let mut batch = Batch::new();
    batch.message(16, 0, &[0; 16], |message| message.text(3, "eth0"));
    let bytes = batch.finish(1).to_vec();
    for end in 0..bytes.len() {
        assert_eq!(Answers::new(&bytes[..end]).count(), 0);
    }
    for length in [0_u32, 1, 15, 16, 17, u32::MAX] {
        let mut odd = bytes.clone();
        odd[..4].copy_from_slice(&length.to_ne_bytes());
        let walked = Answers::new(&odd).take(100).count();
        assert!(walked < 100, "length {length} loops");
    }
    for length in [0_u16, 3, 4, u16::MAX] {
        let walked = Attributes::behind(&length.to_ne_bytes().repeat(8), 0).take(100).count();
        assert!(walked < 100, "attribute length {length} loops");
    }
}

//! Archives with some bytes changed: each is unpacked or refused, and neither leaves anything but whole layers.

use super::tests::{Archive, store};
use crate::tar::{Entry, Kind};
use oci::Digest;
use testkit::Random;

const ROUNDS: usize = 200;

#[test]
fn archives() {
    let mut random = Random::of_environment();
    let mut below = |end: usize| random.below(end);
    let long = "long/".repeat(40);
    let archive = Archive::new()
        .directory("a")
        .file("a/b", b"content")
        .link("a/soft", Kind::Symlink, "../../../../../../tmp")
        .link("a/hard", Kind::HardLink, "a/b")
        .file(&format!("{long}x"), &[7; 700])
        .file("a/.wh.b", b"")
        .file("a/.wh..wh..opq", b"")
        .entry(Entry { name: "fifo".into(), kind: Kind::Fifo, ..Entry::default() }, b"")
        .file("last", b"last")
        .finish();
    let (scratch, store) = store();
    let outside = scratch.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let mut bytes = archive.clone();
        for _ in 0..below(4) {
            // Most of what matters is in the headers.
            let header = below(bytes.len() / 512) * 512;
            let at = (header + below(512)).min(bytes.len() - 1);
            match below(6) {
                0 => bytes.truncate(at + 1),
                1 => {
                    let piece = bytes[header..(header + 512).min(bytes.len())].to_vec();
                    let to = below(bytes.len() / 512) * 512;
                    drop(bytes.splice(to..to, piece));
                }
                2 => {
                    let name = format!("{}/evil\0", outside.display());
                    let end = (header + name.len()).min(bytes.len());
                    bytes[header..end].copy_from_slice(&name.as_bytes()[..end - header]);
                }
                3 => bytes[at] = b"\0\x01/.7xLKg5"[below(10)],
                _ => bytes[at] = u8::try_from(below(256)).unwrap(),
            }
            if below(3) > 0 {
                checksum(&mut bytes, header);
            }
        }
        match store.layers().unpack(&mut bytes.as_slice(), &Digest::sha256_of(&bytes)) {
            Ok(layer) => {
                taken += 1;
                store.layers().remove(&layer.diff_id).unwrap();
            }
            Err(_why) => refused += 1,
        }
        assert_eq!(store.layers().list().unwrap().len(), 0, "round {round}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "round {round}");
    }
    // What is thrown away goes in the background, and is gone with the store.
    drop(store);
    let left: Vec<_> = std::fs::read_dir(scratch.path().join("data/tmp")).unwrap().collect();
    assert_eq!(left.len(), 1, "only tmp/ingest stays: {left:?}");
    assert!(taken > 5 && refused > 5, "{taken} taken, {refused} refused");
}

/// Makes the header's checksum right again, so that what is in it is looked at.
fn checksum(bytes: &mut [u8], header: usize) {
    let Some(header) = bytes.get_mut(header..header + 512) else { return };
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

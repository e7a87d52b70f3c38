//! A layer's archive: unpacked below its folder, or refused, with nothing left over.
#![no_main]

use base::paths::DataPaths;
use oci::Digest;
use std::path::PathBuf;
use std::sync::LazyLock;
use store::Store;

/// A store of this process alone, beside a folder that nothing may be written to.
static STORE: LazyLock<(PathBuf, Store)> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("wharf-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(root.join("outside")).expect("make a folder");
    let store = Store::open(&DataPaths::new(root.join("data"))).expect("open a store");
    (root, store)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (root, store) = &*STORE;
    let mut plain = Vec::new();
    let read = store::decompress(bytes).and_then(|mut reader| {
        use std::io::Read as _;
        reader.by_ref().take(1 << 20).read_to_end(&mut plain)
    });
    if read.is_err() {
        return;
    }
    let expected = Digest::sha256_of(&plain);
    if let Ok(layer) = store.layers().unpack(&mut &*bytes, &expected) {
        assert_eq!(layer.diff_id, expected);
        store.layers().remove(&expected).expect("remove the layer");
    }
    assert_eq!(store.layers().list().expect("list the layers"), []);
    assert_eq!(std::fs::read_dir(root.join("outside")).expect("list the folder").count(), 0);
});

//! Random bytes from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns `N` random bytes; if the kernel has none (which Linux never says after boot), the clock's nanoseconds.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom(&mut bytes[..], GetRandomFlags::empty()) != Ok(N) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        for (byte, seed) in bytes.iter_mut().zip(now.as_nanos().to_ne_bytes()) {
            *byte = seed;
        }
    }
    bytes
}

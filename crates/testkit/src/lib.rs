//! What the end-to-end tests stand on: private namespaces, an engine under test, tiny images, a registry.
//!
//! Everything a test starts lives in a network and a mount namespace of its own, below one scratch folder, and is
//! ended and looked for when the test drops it. Test code: a failure to set up is a panic with the reason.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]
#![expect(clippy::missing_panics_doc, reason = "every function here panics when the machine cannot do it")]

mod buildkit;
mod engine;
pub mod image;
mod namespaces;
pub mod random;
mod registry;
mod scratch;
pub mod web;

pub use buildkit::BuildKit;
pub use engine::{Engine, Output, cgroup_folders};
pub use namespaces::Namespaces;
pub use random::Random;
pub use registry::Registry;
pub use scratch::Scratch;
pub use web::Web;

use std::time::{Duration, Instant};

/// Runs `work` on a thread for which, and for all it starts, the kernel does not know the system call `number`.
pub fn without_call<T: Send>(number: u32, work: impl FnOnce() -> T + Send) -> T {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;
    let step = |code, jump_false, k| sys::seccomp::Instruction { code, jump_true: 0, jump_false, k };
    let program = [
        step(LOAD_NUMBER, 0, 0),
        step(JUMP_IF_EQUAL, 1, number),
        step(RETURN, 0, NO_SUCH_CALL),
        step(RETURN, 0, ALLOW),
    ];
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::seccomp::install(&program, 0).expect("install a filter");
            work()
        });
        thread.join().expect("the thread without the call")
    })
}

/// Writes containerd's configuration, `config.toml`, in `files`: its data in `root` there, its socket is `sock`. Returns its path.
pub fn containerd_config(files: &Scratch, root: &str) -> std::path::PathBuf {
    let (root, state, socket) = (files.join(root), files.join("state"), files.join("sock"));
    let config = format!("version = 2\nroot = {root:?}\nstate = {state:?}\n[grpc]\naddress = {socket:?}\n");
    let path = files.join("config.toml");
    std::fs::write(&path, config).expect("write containerd's configuration");
    path
}

/// Polls `probe` until it gives a value, and panics after `limit` saying `what` was waited for.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begin.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

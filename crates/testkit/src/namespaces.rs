//! A network and a mount namespace of a test's own, kept by a sleeping process.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A private network namespace (loopback up, an uplink that leads nowhere) and mount namespace.
#[derive(Debug)]
pub struct Namespaces {
    keeper: Child,
}

const SET_UP: &str = "mount --make-rprivate / && ip link set lo up && \
    ip link add eth0 type veth peer name uplink0 && ip link set uplink0 up && \
    ip addr add 10.99.0.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.99.0.1 && \
    mount -t tmpfs tmpfs /run && echo ready && exec sleep 86400";

impl Namespaces {
    /// Makes the namespaces.
    pub fn new() -> Self {
        Self::keep(&["--net", "--mount", "--propagation", "private"], SET_UP)
    }

    fn keep(kinds: &[&str], set_up: &str) -> Self {
        let mut keeper = Command::new("unshare")
            .args(kinds)
            .args(["sh", "-c", set_up])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run unshare");
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("read from the keeper");
        assert_eq!(line, "ready\n", "the namespaces could not be set up");
        Self { keeper }
    }

    /// Makes another host: a network namespace at 10.99.0.1, at the far end of this one's uplink.
    pub fn neighbour(&self) -> Self {
        let other = Self::keep(&["--net"], "ip link set lo up && echo ready && exec sleep 86400");
        let pid = other.pid().to_string();
        let ip = |namespaces: &Self, arguments: &[&str]| {
            let status = namespaces.command("ip").args(arguments).status().expect("run ip");
            assert!(status.success(), "ip {arguments:?}");
        };
        ip(self, &["link", "set", "uplink0", "netns", &pid]);
        ip(&other, &["addr", "add", "10.99.0.1/24", "dev", "uplink0"]);
        ip(&other, &["link", "set", "uplink0", "up"]);
        other
    }

    /// Returns the keeper's process id.
    pub fn pid(&self) -> u32 {
        self.keeper.id()
    }

    /// Runs `work` in the network namespace: what it binds stays there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.pid());
        let target = sys::namespace::open(std::path::Path::new(&path)).expect("open the network namespace");
        sys::namespace::within(target.as_fd(), sys::namespace::Namespace::Network, work)
            .expect("enter the network namespace")
    }

    /// Mounts a file system of its own on `folder` inside: ext4 with a journal, as it is made by default, in the new file `disk`.
    pub fn mount_disk(&self, disk: &std::path::Path, folder: &std::path::Path, megabytes: u64) {
        let file = std::fs::File::create(disk).expect("make a disk");
        file.set_len(megabytes << 20).expect("size a disk");
        let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(disk).status();
        assert!(made.expect("run mkfs.ext4").success());
        let mounted = self.command("mount").args(["-o", "loop"]).args([disk, folder]).status();
        assert!(mounted.expect("run mount").success());
    }

    /// Returns a command that runs `program` inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "--net", "--mount", "--", program]);
        command
    }

    /// Returns the process ids of everything that runs in the network namespace or in its descendants' mounts, but
    /// for the keeper.
    pub fn processes(&self) -> Vec<u32> {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own: Option<PathBuf> = of(self.pid());
        let entries = std::fs::read_dir("/proc").expect("read /proc").flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != self.pid() && own.is_some() && of(*pid) == own)
            .collect()
    }

    /// Returns the network devices inside, by name.
    pub fn links(&self) -> Vec<String> {
        let output = self.command("ip").args(["-o", "link"]).output().expect("run ip");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter_map(|line| line.split(": ").nth(1))
            .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            .collect()
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Whatever a failed test left running ends with its namespace.
        for pid in self.processes() {
            drop(Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status());
        }
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

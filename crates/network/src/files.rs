//! The texts of `/etc/hosts` and `/etc/resolv.conf` as a container sees them.
//!
//! Pure, and after Docker: runtime behaviour "Files given to the container". Reading the host's files and writing the
//! container's is the caller's part.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the embedded resolver listens inside a container of a user-defined network.
pub const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Used when the host has no name server that a container could reach (Docker's choice: Google's public ones).
const FALLBACK_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];
const FALLBACK_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888),
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844),
];

/// What goes into `/etc/hosts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Whether IPv6 works in the container; without it the IPv6 lines are left out.
    pub ipv6: bool,
    /// `--add-host` in the order given, `host-gateway` resolved already.
    pub extra: Vec<(String, IpAddr)>,
    /// The container's own addresses, in the order of its networks.
    pub own: Vec<IpAddr>,
    /// The container's host name.
    pub hostname: String,
    /// The container's domain name; may be empty.
    pub domainname: String,
    /// Linked containers: address and names.
    pub links: Vec<(IpAddr, Vec<String>)>,
}

/// Returns the text of `/etc/hosts`.
pub fn hosts(plan: &Hosts) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if plan.ipv6 {
        text.push_str(concat!(
            "::1\tlocalhost ip6-localhost ip6-loopback\n",
            "fe00::\tip6-localnet\n",
            "ff00::\tip6-mcastprefix\n",
            "ff02::1\tip6-allnodes\n",
            "ff02::2\tip6-allrouters\n",
        ));
    }
    for (name, address) in &plan.extra {
        line(&mut text, *address, name);
    }
    for (address, names) in &plan.links {
        line(&mut text, *address, &names.join(" "));
    }
    let own = if plan.domainname.is_empty() {
        plan.hostname.clone()
    } else {
        format!("{0}.{1} {0}", plan.hostname, plan.domainname)
    };
    for address in &plan.own {
        line(&mut text, *address, &own);
    }
    text
}

/// Gives the line of `/etc/hosts` that has exactly these names another address; all else stays as users left it.
pub fn readdress(text: &str, names: &str, address: IpAddr) -> String {
    let mut changed = String::with_capacity(text.len());
    for old in text.lines() {
        match old.split_once('\t') {
            Some((_, named)) if named == names => line(&mut changed, address, names),
            _ => {
                changed.push_str(old);
                changed.push('\n');
            }
        }
    }
    changed
}

fn line(text: &mut String, address: IpAddr, names: &str) {
    // Writing to a String cannot fail.
    writeln!(text, "{address}\t{names}").unwrap_or_default();
}

/// The parts of a resolv.conf(5) that matter to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers in order; scope ids (`fe80::1%eth0`) are dropped with their server.
    pub nameservers: Vec<IpAddr>,
    /// The search list; the last `search` or `domain` line counts.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads a resolv.conf. Unknown lines are skipped, as resolvers do.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            let keyword = words.next().unwrap_or_default();
            let mut rest = words.map(str::to_owned);
            match keyword {
                "nameserver" => {
                    conf.nameservers.extend(rest.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                "search" => conf.search = rest.collect(),
                "domain" => conf.search = rest.take(1).collect(),
                "options" => conf.options.extend(rest),
                _ => {}
            }
        }
        conf
    }

    /// Returns whether this is systemd-resolved's stub, whose real servers are in `/run/systemd/resolve/resolv.conf`.
    pub fn is_resolved_stub(&self) -> bool {
        self.nameservers == [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53))]
    }

    /// Replaces what `--dns`, `--dns-search` and `--dns-option` name; an empty list keeps the host's.
    ///
    /// A search list of `.` alone means none.
    #[must_use]
    pub fn overridden(mut self, nameservers: &[IpAddr], search: &[String], options: &[String]) -> Self {
        if !nameservers.is_empty() {
            self.nameservers = nameservers.to_vec();
        }
        if !search.is_empty() {
            self.search = search.iter().filter(|domain| *domain != ".").cloned().collect();
        }
        if !options.is_empty() {
            self.options = options.to_vec();
        }
        self
    }

    /// Returns the file for a container of the default bridge, which asks the servers itself.
    ///
    /// Servers it could not reach (loopback; IPv6 without IPv6) are left out, Google's stand in if none is left.
    #[must_use]
    pub fn for_default_bridge(mut self, ipv6: bool) -> Self {
        self.nameservers.retain(|server| !server.is_loopback() && (ipv6 || server.is_ipv4()));
        if self.nameservers.is_empty() {
            self.nameservers.extend(FALLBACK_V4.map(IpAddr::V4));
            if ipv6 {
                self.nameservers.extend(FALLBACK_V6.map(IpAddr::V6));
            }
        }
        self
    }

    /// Returns the file for a container of a user-defined network: the embedded resolver answers, `self` forwards.
    #[must_use]
    pub fn for_embedded_resolver(mut self) -> Self {
        self.nameservers = vec![RESOLVER];
        if !self.options.iter().any(|option| option.starts_with("ndots:")) {
            self.options.push("ndots:0".to_owned());
        }
        self
    }
}

/// Returns the text of `/etc/resolv.conf`.
pub fn resolv_conf(conf: &ResolvConf) -> String {
    let mut text = String::new();
    for server in &conf.nameservers {
        writeln!(text, "nameserver {server}").unwrap_or_default();
    }
    if !conf.search.is_empty() {
        writeln!(text, "search {}", conf.search.join(" ")).unwrap_or_default();
    }
    if !conf.options.is_empty() {
        writeln!(text, "options {}", conf.options.join(" ")).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_of_a_container() {
        let mut plan = Hosts {
            own: vec![ip("172.17.0.2")],
            hostname: "0123456789ab".into(),
            extra: vec![("db".into(), ip("10.0.0.9"))],
            links: vec![(ip("172.17.0.3"), vec!["web".into(), "fedcba987654".into()])],
            ..Hosts::default()
        };
        assert_eq!(
            hosts(&plan),
            "127.0.0.1\tlocalhost\n10.0.0.9\tdb\n172.17.0.3\tweb fedcba987654\n172.17.0.2\t0123456789ab\n"
        );
        plan = Hosts { ipv6: true, domainname: "example.org".into(), extra: vec![], links: vec![], ..plan };
        assert_eq!(
            hosts(&plan),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n\
             172.17.0.2\t0123456789ab.example.org 0123456789ab\n"
        );
    }

    const HOST: &str = "# made by hand\nnameserver 127.0.0.53\nnameserver\t192.0.2.1\nnameserver fd00::1\n\
                        domain old.example\nsearch a.example  b.example\noptions edns0 trust-ad\nsortlist x\n";

    #[test]
    fn default_bridge_gets_reachable_servers() {
        let host = ResolvConf::parse(HOST);
        assert!(!host.is_resolved_stub());
        let check = |conf: ResolvConf, expect: &str| assert_eq!(resolv_conf(&conf), expect);
        let rest = "search a.example b.example\noptions edns0 trust-ad\n";
        check(host.clone().for_default_bridge(false), &format!("nameserver 192.0.2.1\n{rest}"));
        check(
            host.clone().for_default_bridge(true),
            &format!("nameserver 192.0.2.1\nnameserver fd00::1\n{rest}"),
        );
        check(ResolvConf::default().for_default_bridge(false), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        let overridden = host.overridden(&[ip("1.1.1.1")], &[".".into()], &["ndots:2".into()]);
        check(overridden.for_default_bridge(false), "nameserver 1.1.1.1\noptions ndots:2\n");
    }

    #[test]
    fn user_defined_networks_get_the_embedded_resolver() {
        let host = ResolvConf::parse(HOST).for_embedded_resolver();
        assert_eq!(
            resolv_conf(&host),
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\n"
        );
        let own = ResolvConf { options: vec!["ndots:3".into()], ..ResolvConf::default() };
        assert_eq!(resolv_conf(&own.for_embedded_resolver()), "nameserver 127.0.0.11\noptions ndots:3\n");
        assert!(ResolvConf::parse("nameserver 127.0.0.53\noptions edns0").is_resolved_stub());
    }
}

//! What registries say, with some bytes changed: nothing panics, whatever they send.

use crate::judge;

const ROUNDS: usize = 50_000;

const CHALLENGES: [&str; 4] = [
    r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push",error="x""#,
    r#"Basic realm="a \"quoted\" one", charset="UTF-8", Bearer realm=plain, Negotiate abc=="#,
    "bearer realm = \"x\" , service=y,, scope=",
    "Digest qop=\"auth\", nonce=\"7\", Basic",
];

#[test]
fn headers() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101_u64);
    println!("SEED={seed}");
    let mut state = seed;
    let mut below = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % end.max(1)
    };
    let others = [
        "</v2/_catalog?n=1&last=x>; rel=\"next\", <b>; rel=prev",
        "bytes 5-9/10",
        "//host/path?a=b#c",
        "https://h.example:443/v2/a/blobs/uploads/1?_state=%41",
    ];
    for _ in 0..ROUNDS {
        let seeds: Vec<&str> = CHALLENGES.iter().chain(&others).copied().collect();
        let mut text: Vec<char> = seeds[below(seeds.len())].chars().collect();
        for _ in 0..=below(5) {
            let at = below(text.len() + 1);
            match below(4) {
                0 => text.truncate(at),
                1 => drop(text.drain(at..(at + below(6)).min(text.len()))),
                2 => {
                    let piece: Vec<char> = text[at..].iter().take(below(30)).copied().collect();
                    drop(text.splice(at..at, piece));
                }
                _ => text.insert(
                    at,
                    ['"', '\\', ',', '=', ' ', '\t', '<', '>', ';', 'é', '\u{7f}', '%'][below(12)],
                ),
            }
        }
        let text: String = text.into_iter().collect();
        judge::header(&text);
    }
}

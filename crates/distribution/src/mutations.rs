//! What registries say, with some bytes changed: nothing panics, whatever they send.

use crate::judge;
use testkit::Random;

const ROUNDS: usize = 50_000;

const CHALLENGES: [&str; 4] = [
    r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push",error="x""#,
    r#"Basic realm="a \"quoted\" one", charset="UTF-8", Bearer realm=plain, Negotiate abc=="#,
    "bearer realm = \"x\" , service=y,, scope=",
    "Digest qop=\"auth\", nonce=\"7\", Basic",
];

#[test]
fn headers() {
    let others = [
        "</v2/_catalog?n=1&last=x>; rel=\"next\", <b>; rel=prev",
        "bytes 5-9/10",
        "//host/path?a=b#c",
        "https://h.example:443/v2/a/blobs/uploads/1?_state=%41",
    ];
    let seeds: Vec<&[u8]> = CHALLENGES.iter().chain(&others).map(|text| text.as_bytes()).collect();
    let words = ["\"", "\\", ",", "=", " ", "\t", "<", ">", ";", "é", "\u{7f}", "%"];
    let mut random = Random::of_environment();
    for _ in 0..ROUNDS {
        judge::header(&String::from_utf8_lossy(&random.changed(&seeds, &words)));
    }
}

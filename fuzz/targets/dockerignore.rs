//! A `.dockerignore` and paths that it is asked about: the first line is the path, the rest the list.
#![no_main]

use dockerfile::Patterns;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, list) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(patterns) = Patterns::parse(list) else { return };
    patterns.matches(path);
    patterns.may_take_back_below(path);
    // A list without `!` only leaves out more with each line.
    if !list.contains('!') && patterns.matches(path) {
        let more = Patterns::parse(&format!("{list}\nother")).expect("one more pattern");
        assert!(more.matches(path));
    }
});

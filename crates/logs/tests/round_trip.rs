//! What is written is read again: batches, rotation, compression, tail, times, following.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "helpers of tests")]

use base::Timestamp;
use logs::{Attributes, Defaults, Driver, Entry, LINE_LIMIT, Query, Reader, Rotation, Stream, Writer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

/// A directory of its own for each test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wharf-logs-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("x-json.log")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + nanos)
}

fn json(max_size: Option<u64>, max_files: u32, compress: bool) -> Driver {
    Driver::JsonFile(Rotation { max_size, max_files, compress })
}

fn local(max_size: Option<u64>, max_files: u32, compress: bool) -> Driver {
    Driver::Local(Rotation { max_size, max_files, compress })
}

fn entries(driver: &Driver, path: &Path, query: Query) -> Vec<Entry> {
    Reader::open(driver, path, query).unwrap().map(Result::unwrap).collect()
}

fn text(entries: &[Entry]) -> String {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
}

#[test]
fn the_file_is_dockers() {
    let directory = Directory::new();
    let driver = Driver::new("json-file", &BTreeMap::new(), Defaults::Docker).unwrap();
    let mut writer = Writer::open(&driver, &directory.log(), Attributes::new()).unwrap();
    writer.write(Stream::Stdout, at(500_000_000), b"a\nb <\xff>\nrest").unwrap();
    writer.write(Stream::Stderr, at(1), b"\n").unwrap();
    writer.end(Stream::Stdout, at(0)).unwrap();
    let attributes = Attributes::from([("tag".to_owned(), "x\"y".to_owned())]);
    let mut writer = Writer::open(&driver, &directory.log(), attributes).unwrap();
    writer.write(Stream::Stdout, at(0), b"tagged\n").unwrap();
    assert_eq!(
        fs::read_to_string(directory.log()).unwrap(),
        concat!(
            r#"{"log":"a\n","stream":"stdout","time":"2023-11-14T22:13:20.5Z"}"#,
            "\n",
            r#"{"log":"b \u003c\ufffd\u003e\n","stream":"stdout","time":"2023-11-14T22:13:20.5Z"}"#,
            "\n",
            r#"{"log":"\n","stream":"stderr","time":"2023-11-14T22:13:20.000000001Z"}"#,
            "\n",
            r#"{"log":"rest","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            "\n",
            r#"{"log":"tagged\n","stream":"stdout","attrs":{"tag":"x\"y"},"time":"2023-11-14T22:13:20Z"}"#,
            "\n",
        )
    );
    let entries = entries(&driver, &directory.log(), Query::default());
    assert_eq!(text(&entries), "a\nb <\u{fffd}>\n\nresttagged\n");
    assert_eq!(entries.last().unwrap().attributes["tag"], "x\"y");
}

#[test]
fn long_lines_are_cut_with_one_time() {
    let directory = Directory::new();
    for (driver, name) in [(json(None, 1, false), "json"), (local(None, 1, false), "local")] {
        let path = directory.0.join(name);
        let mut writer = Writer::open(&driver, &path, Attributes::new()).unwrap();
        let mut line = vec![b'x'; 2 * LINE_LIMIT + 10];
        line.push(b'\n');
        for (index, part) in line.chunks(1000).enumerate() {
            writer.write(Stream::Stdout, at(i64::try_from(index).unwrap()), part).unwrap();
        }
        let entries = entries(&driver, &path, Query::default());
        let sizes: Vec<_> = entries.iter().map(|entry| entry.line.len()).collect();
        assert_eq!(sizes, [LINE_LIMIT, LINE_LIMIT, 11]);
        assert!(entries.iter().all(|entry| entry.time == entries[0].time));
        // Exactly the limit: Docker makes an empty last piece.
        let mut line = vec![b'y'; LINE_LIMIT];
        line.push(b'\n');
        writer.write(Stream::Stdout, at(0), &line).unwrap();
        let last: Vec<_> = self::entries(&driver, &path, Query { tail: Some(2), ..Query::default() });
        assert_eq!(last.iter().map(|entry| entry.line.len()).collect::<Vec<_>>(), [LINE_LIMIT, 1]);
    }
}

#[test]
fn a_cut_spares_characters() {
    let directory = Directory::new();
    let driver = json(None, 1, false);
    let mut writer = Writer::open(&driver, &directory.log(), Attributes::new()).unwrap();
    let line = format!("{}{}\n", "x".repeat(LINE_LIMIT - 1), "€".repeat(LINE_LIMIT));
    for part in line.as_bytes().chunks(777) {
        writer.write(Stream::Stdout, at(0), part).unwrap();
    }
    assert_eq!(text(&entries(&driver, &directory.log(), Query::default())), line);
}

/// Writes `count` lines of ten bytes, a microsecond apart.
fn write_lines(writer: &mut Writer, range: std::ops::Range<i64>) {
    for number in range {
        writer.write(Stream::Stdout, at(number * 1000), format!("{number:09}\n").as_bytes()).unwrap();
    }
}

fn numbers(range: std::ops::Range<i64>) -> String {
    range.map(|number| format!("{number:09}\n")).collect()
}

#[test]
fn rotation_keeps_the_newest() {
    for compress in [false, true] {
        for driver in [json(Some(1000), 3, compress), local(Some(1000), 3, compress)] {
            let directory = Directory::new();
            let mut writer = Writer::open(&driver, &directory.log(), Attributes::new()).unwrap();
            write_lines(&mut writer, 0..100);
            while writer.work() {}
            let mut names: Vec<_> = fs::read_dir(&directory.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let suffix = if compress { ".gz" } else { "" };
            let expect = ["".to_owned(), format!(".1{suffix}"), format!(".2{suffix}")];
            assert_eq!(names, expect.map(|suffix| format!("x-json.log{suffix}")));
            let found = text(&entries(&driver, &directory.log(), Query::default()));
            assert!(numbers(0..100).ends_with(&found) && found.len() > 250, "{found}");
            for tail in [0, 1, 13, 27, 28, 1000] {
                let query = Query { tail: Some(tail), ..Query::default() };
                let expect = numbers(0..100);
                let start = expect.len().saturating_sub(usize::try_from(tail).unwrap() * 10);
                let expect = &expect[start.max(expect.len() - found.len())..];
                assert_eq!(text(&entries(&driver, &directory.log(), query)), expect, "tail {tail}");
            }
        }
    }
}

#[test]
fn one_file_is_replaced_not_truncated() {
    let directory = Directory::new();
    let driver = json(Some(1000), 1, false);
    let mut writer = Writer::open(&driver, &directory.log(), Attributes::new()).unwrap();
    write_lines(&mut writer, 0..10);
    let open = fs::File::open(directory.log()).unwrap();
    write_lines(&mut writer, 10..60);
    assert!(open.metadata().unwrap().len() > 800);
    assert!(fs::metadata(directory.log()).unwrap().len() <= 1000);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
}

#[test]
fn times_select() {
    let directory = Directory::new();
    let driver = json(Some(2000), 4, true);
    let mut writer = Writer::open(&driver, &directory.log(), Attributes::new()).unwrap();
    write_lines(&mut writer, 0..50);
    let query = Query { since: Some(at(10_000)), until: Some(at(20_000)), tail: None, follow: false };
    assert_eq!(text(&entries(&driver, &directory.log(), query)), numbers(10..21));
}

#[test]
fn torn_records_are_passed_over() {
    let directory = Directory::new();
    for (driver, name) in [(json(None, 1, false), "json"), (local(None, 1, false), "local")] {
        let path = directory.0.join(name);
        write_lines(&mut Writer::open(&driver, &path, Attributes::new()).unwrap(), 0..3);
        let size = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size - 7).unwrap();
        let query = Query { tail: Some(1), ..Query::default() };
        assert_eq!(text(&entries(&driver, &path, query)), numbers(1..2), "{name}");
        write_lines(&mut Writer::open(&driver, &path, Attributes::new()).unwrap(), 3..5);
        assert_eq!(text(&entries(&driver, &path, Query::default())), numbers(0..2) + &numbers(3..5));
    }
}

#[test]
fn following_loses_nothing_over_rotations() {
    for driver in [json(Some(5000), 3, true), json(Some(5000), 1, false), local(Some(5000), 3, true)] {
        let directory = Directory::new();
        let path = directory.log();
        let reader = Reader::open(&driver, &path, Query { follow: true, ..Query::default() }).unwrap();
        let stopper = reader.stopper();
        let follower = thread::spawn(move || {
            let (send, receive) = std::sync::mpsc::channel();
            let reading = thread::spawn(move || {
                for entry in reader {
                    send.send(entry.unwrap()).unwrap();
                }
            });
            (receive, reading)
        });
        let (receive, reading) = follower.join().unwrap();
        let mut writer = Writer::open(&driver, &path, Attributes::new()).unwrap();
        let mut found = String::new();
        // The reader keeps up: it may lag by less than a file, as it would lose what is rotated away.
        for start in (0..2000).step_by(20) {
            write_lines(&mut writer, start..start + 20);
            while found.len() < usize::try_from(start + 20).unwrap() * 10 {
                found.push_str(&text(&[receive.recv().unwrap()]));
            }
            writer.work();
        }
        write_lines(&mut writer, 2000..2010);
        stopper.finish();
        reading.join().unwrap();
        found.extend(receive.iter().map(|entry| text(&[entry])));
        assert_eq!(found, numbers(0..2010));
    }
}

#[test]
fn following_ends_when_nobody_reads_or_the_time_is_over() {
    let directory = Directory::new();
    let driver = json(None, 1, false);
    let reader = Reader::open(&driver, &directory.log(), Query { follow: true, ..Query::default() }).unwrap();
    let stopper = reader.stopper();
    let reading = thread::spawn(move || reader.count());
    stopper.cancel();
    assert_eq!(reading.join().unwrap(), 0);
    let now = Timestamp::from_system(std::time::SystemTime::now() + std::time::Duration::from_millis(50));
    let query = Query { follow: true, until: Some(now), ..Query::default() };
    assert_eq!(Reader::open(&driver, &directory.log(), query).unwrap().count(), 0);
}

#[test]
fn a_file_cut_by_hand_is_followed_from_its_start() {
    let directory = Directory::new();
    let driver = json(None, 1, false);
    let mut writer = Writer::open(&driver, &directory.log(), Attributes::new()).unwrap();
    write_lines(&mut writer, 0..5);
    let mut reader =
        Reader::open(&driver, &directory.log(), Query { follow: true, ..Query::default() }).unwrap();
    assert_eq!(text(&reader.by_ref().take(5).map(Result::unwrap).collect::<Vec<_>>()), numbers(0..5));
    fs::OpenOptions::new().write(true).open(directory.log()).unwrap().set_len(0).unwrap();
    write_lines(&mut writer, 5..6);
    assert_eq!(text(&[reader.next().unwrap().unwrap()]), numbers(5..6));
}

#[test]
fn none_keeps_nothing() {
    let directory = Directory::new();
    Writer::open(&Driver::None, &directory.log(), Attributes::new())
        .unwrap()
        .write(Stream::Stdout, at(0), b"x\n")
        .unwrap();
    assert!(!directory.log().exists());
    let error = Reader::open(&Driver::None, &directory.log(), Query::default()).unwrap_err();
    assert_eq!(error.to_string(), "configured logging driver does not support reading");
}

proptest::proptest! {
    #[test]
    fn valid_text_survives_any_batching(
        text in "[a\n€\u{0}<\\\\\"]{0,400}", sizes in proptest::collection::vec(1_usize..50, 1..20)
    ) {
        for driver in [json(None, 1, false), local(None, 1, false)] {
            let directory = Directory::new();
            let mut writer = Writer::open(&driver, &directory.log(), Attributes::new()).unwrap();
            let mut rest = text.as_bytes();
            for size in sizes.iter().cycle() {
                let (part, after) = rest.split_at((*size).min(rest.len()));
                writer.write(Stream::Stdout, at(0), part).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            writer.end(Stream::Stdout, at(0)).unwrap();
            proptest::prop_assert_eq!(&self::text(&entries(&driver, &directory.log(), Query::default())), &text);
        }
    }
}

//! Measures the store by hand: `measure unpack DATA LAYER…` unpacks archives of layers one after the other,
//! `measure load DATA ARCHIVE` loads images, `measure save DATA NAME FILE` saves one, `measure slim DATA` drops the archives
//! that can be made again. Prints seconds.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a tool for developers"
)]

use base::paths::DataPaths;
use std::fs::File;
use std::time::Instant;
use store::{Store, archive};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let start = Instant::now();
    let store = Store::open(&DataPaths::new(&arguments[2])).unwrap();
    println!("open {:.3}", start.elapsed().as_secs_f64());
    let start = Instant::now();
    match arguments[1].as_str() {
        "unpack" => {
            for layer in &arguments[3..] {
                let layer = store.layers().unpack_unknown(&mut File::open(layer).unwrap()).unwrap();
                println!("{} {} {:.3}", layer.diff_id, layer.size, start.elapsed().as_secs_f64());
            }
        }
        "load" => {
            let mut file = File::open(&arguments[3]).unwrap();
            let loaded = archive::load(&store, &mut file, &mut |_| {}).unwrap();
            println!("{loaded:?}");
        }
        "save" => {
            let mut file = File::create(&arguments[4]).unwrap();
            archive::save(&store, &arguments[3..4], None, &mut file).unwrap();
        }
        "slim" => println!("{} archives dropped", store.slim().unwrap()),
        other => println!("unknown: {other}"),
    }
    println!("done {:.3}", start.elapsed().as_secs_f64());
}

//! What a program with Rust's standard library does before, in and after `main`.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::time::{Duration, Instant, SystemTime};

fn main() {
    println!("{:?}", std::env::args().skip(1).collect::<Vec<_>>());
    println!("{:?} {:?}", std::env::var("NAME"), std::env::var("MISSING"));
    println!("{}", std::env::current_exe().unwrap() == std::path::Path::new(&std::env::args().next().unwrap()));
    let lines: Vec<_> = std::io::stdin().lock().lines().map(Result::unwrap).collect();
    println!("{lines:?}");
    let map: HashMap<_, _> = (0..1000).map(|i| (i, i * i)).collect();
    println!("{}", map[&31]);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(5));
    println!("{}", start.elapsed() >= Duration::from_millis(5));
    println!("{}", SystemTime::now() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    println!("{}", std::thread::available_parallelism().is_ok());
    let folder = std::env::temp_dir().join(format!("standard-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("a/b")).unwrap();
    std::fs::write(folder.join("a/f"), "contents").unwrap();
    std::fs::copy(folder.join("a/f"), folder.join("a/b/g")).unwrap();
    std::fs::rename(folder.join("a/b/g"), folder.join("h")).unwrap();
    println!("{:?}", std::fs::read_to_string(folder.join("h")));
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    println!("{names:?} {}", std::fs::metadata(folder.join("h")).unwrap().len());
    let mut file = std::fs::OpenOptions::new().append(true).read(true).open(folder.join("h")).unwrap();
    file.write_all(b" and more").unwrap();
    file.set_len(12).unwrap();
    let mut text = String::new();
    std::fs::File::open(folder.join("h")).unwrap().read_to_string(&mut text).unwrap();
    println!("{text:?}");
    std::fs::remove_dir_all(&folder).unwrap();
    println!("{}", folder.exists());
    println!("{:?}", std::fs::File::open("/missing").map_err(|e| e.kind()).map(drop));
    std::panic::set_hook(Box::new(|_| ()));
    let caught = std::panic::catch_unwind(|| {
        let empty: Vec<u8> = Vec::new();
        empty[std::env::args().count() * 100]
    });
    println!("{}", caught.is_err());
    std::process::exit(17);
}

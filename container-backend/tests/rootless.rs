//! The same as an ordinary user. Where the tests run as root, each scenario runs itself again as `nobody`.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use common::*;
use container_backend::{
    Bounds, Config, IdMaps, Image, Isolation, Layer, Limits, Network, PrepareError, Program, Rootfs, User,
    Veth, probe,
};

#[test]
fn an_ordinary_user_gets_a_user_namespace_and_is_root_inside() {
    if !as_ordinary_user("an_ordinary_user_gets_a_user_namespace_and_is_root_inside") {
        return;
    }
    let Some(config) = container(&["who"]) else { return };
    let prepared = config.prepare().expect("the config is good");
    assert!(prepared.isolation().has(Layer::User));
    let ran = run_prepared(&prepared);
    for line in ["pid 1", "uid 0", "gid 0", "host container"] {
        assert!(ran.lines().contains(&line), "{ran:?}");
    }
}

#[test]
fn an_ordinary_users_container_is_as_closed_as_roots() {
    if !as_ordinary_user("an_ordinary_users_container_is_as_closed_as_roots") {
        return;
    }
    let Some(config) = container(&[]) else { return };
    let ran = run(config.clone().args(["list", "/dev"]));
    assert_eq!(ran.lines(), ["full", "null", "random", "tty", "urandom", "zero"]);
    let ran = run(config.clone().args(["write", "/dev/null"]));
    assert_eq!(ran.stdout, "open: done\nwrite: done\n");
    let ran = run(config.clone().args(["show", "/proc/self/status"]));
    assert_eq!(ran.field("CapEff:"), "00000000800405fb");
    assert_eq!(ran.field("Seccomp:"), "2");
    let ran = run(config.args(["refused"]));
    assert_eq!(ran.field("mount:"), "Operation not permitted");
    assert_eq!(ran.field("unshare:"), "Operation not permitted");
}

#[test]
fn without_the_right_to_control_groups_it_runs_and_says_so() {
    if !as_ordinary_user("without_the_right_to_control_groups_it_runs_and_says_so") {
        return;
    }
    let Some(config) = container(&["ready"]) else { return };
    let prepared =
        config.limits(Limits::none().memory_bytes(32 << 20)).prepare().expect("the config is good");
    if let Some(reason) = prepared.limits_unavailable() {
        assert!(!reason.is_empty());
        println!("no limits: {reason}");
    }
    succeeded(&run_prepared(&prepared));
}

#[test]
fn a_filter_alone_works_for_an_ordinary_user_too() {
    if !as_ordinary_user("a_filter_alone_works_for_an_ordinary_user_too") {
        return;
    }
    let host = probe();
    assert!(host.native.is_granted(), "{host:?}");
    let seccomp = host.layers.iter().find(|(layer, _)| *layer == Layer::Seccomp);
    assert!(seccomp.is_some_and(|(_, permission)| permission.is_granted()), "{host:?}");
}

#[test]
fn a_veth_pair_is_refused_with_the_reason() {
    if !as_ordinary_user("a_veth_pair_is_refused_with_the_reason") {
        return;
    }
    let Some(config) = container(&["ready"]) else { return };
    let refused = config.network(Network::Veth(Veth::new())).prepare();
    assert!(matches!(refused, Err(PrepareError::VethRights)), "{refused:?}");
    let reason = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(reason.contains("CAP_NET_ADMIN") && reason.contains("root"), "{reason}");
}

/// Whether the host has what ranges take, but for the lines of /etc/subuid, which the scenarios bring.
fn ranges_can_be_had() -> bool {
    let programs =
        ["/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid", "/usr/bin/setpriv"];
    let missing = programs.into_iter().find(|path| !std::path::Path::new(path).exists());
    if let Some(missing) = missing {
        println!("skipped: no {missing} (uidmap)");
    }
    missing.is_none()
}

#[test]
fn the_ranges_that_a_user_has_are_mapped_by_newuidmap() {
    let scenario = "the_ranges_that_a_user_has_are_mapped_by_newuidmap";
    if !ranges_can_be_had() || !as_ordinary_user_with(scenario, Some("nobody:300000:1000\n65534:400000:10\n"))
    {
        return;
    }
    let Some(config) = container(&[]) else { return };
    let config = config.id_maps(IdMaps::Ranges);
    let prepared = config.clone().args(["show", "/proc/self/uid_map"]).prepare().expect("good");
    let map: Vec<_> = run_prepared(&prepared).stdout.split_whitespace().map(str::to_owned).collect();
    if map == ["0", "65534", "1", "1", "300000", "1000", "1001", "400000", "10"] {
        assert!(prepared.id_maps().is_some_and(|maps| maps.contains("300000")), "{:?}", prepared.id_maps());
        assert_eq!(probe().id_ranges, Ok("0 65534 1, 1 300000 1000, 1001 400000 10".to_owned()));
    } else {
        // Not this scenario's lines: it was started by an ordinary user of this host.
        assert!(map.len() >= 6, "{map:?}");
    }
    // Somebody else than the caller can be inside, with groups.
    let other = config.args(["show", "/proc/self/status"]).user(User { uid: 5, gid: 6, groups: vec![7] });
    let ran = run(other);
    assert!(ran.field("Uid:").starts_with('5') && ran.field("Gid:").starts_with('6'), "{ran:?}");
    assert_eq!(ran.field("Groups:"), "7");
    assert_eq!(ran.field("CapEff:"), "0000000000000000");
    // And this process is still what it was, so that it can start another.
    let again = container(&["ready"]).map(run);
    assert!(again.is_some_and(|ran| ran.stdout == "ready\n"));
}

#[test]
fn without_ranges_the_caller_is_alone_and_it_is_said_why() {
    if !as_ordinary_user_with(
        "without_ranges_the_caller_is_alone_and_it_is_said_why",
        ranges_can_be_had().then_some("somebody:1:1\n"),
    ) {
        return;
    }
    let Some(config) = container(&["show", "/proc/self/uid_map"]) else { return };
    let Err(PrepareError::IdRanges { reason }) = config.clone().id_maps(IdMaps::Ranges).prepare() else {
        println!("skipped: this user has ranges");
        return;
    };
    assert!(reason.contains("nobody nothing") || reason.contains("not installed"), "{reason}");
    assert_eq!(probe().id_ranges, Err(reason.clone()));
    let root = tempfile::tempdir().expect("a folder");
    copy_program(actor().expect("compiled"), &root.path().join("actor"));
    let given = Config::new(Program::inside("/actor")).args(["show", "/proc/self/uid_map"]);
    let given = given.isolation(Isolation::container()).rootfs(Rootfs::Folder(root.path().to_owned()));
    for config in [config, given] {
        let prepared = config.prepare().expect("the config is good");
        let map: Vec<_> = run_prepared(&prepared).stdout.split_whitespace().map(str::to_owned).collect();
        assert_eq!(map, ["0", "65534", "1"]);
        let said = prepared.id_maps().expect("it has a user namespace");
        assert!(said.starts_with("the caller alone"), "{said}");
        assert_eq!(said.contains(&reason), prepared.root_is_given(), "{said}");
    }
}

/// An archive with files of several users, with a folder that its owner cannot write to, and a set-user-ID program.
fn archive() -> Vec<u8> {
    let program = std::fs::read(actor().expect("compiled")).expect("readable");
    let mut builder = tar::Builder::new(Vec::new());
    for (name, owner, mode, content) in [
        ("bin/actor", (0, 0), 0o755, &program[..]),
        ("closed/", (0, 0), 0o555, b""),
        ("closed/theirs", (5, 6), 0o640, b"x"),
        ("closed/deep/", (7, 7), 0o700, b""),
        ("closed/deep/file", (7, 8), 0o600, b"x"),
        ("suid", (5, 0), 0o4755, b"x"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).expect("written");
    }
    builder.into_inner().expect("written")
}

/// An entry of a layer: its name, owner and group, and what it is: a folder where the name ends with `/`, else a file, or a link.
type Entry = (&'static str, (u64, u64), Option<(tar::EntryType, &'static str)>);

/// A layer of these entries, each with the mode 644, or 755 for a folder.
fn layer(entries: &[Entry], program: Option<&[u8]>) -> Vec<u8> {
    use tar::EntryType;
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, owner: (u64, u64), kind, target: &str, content: &[u8], mode| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(content.len() as u64);
        match kind {
            EntryType::Symlink | EntryType::Link => builder.append_link(&mut header, name, target),
            _ => builder.append_data(&mut header, name, content),
        }
        .expect("written");
    };
    if let Some(program) = program {
        add("bin/actor", (0, 0), EntryType::Regular, "", program, 0o755);
    }
    for &(name, owner, link) in entries {
        match link {
            Some((kind, target)) => add(name, owner, kind, target, b"", 0o777),
            None if name.ends_with('/') => add(name, owner, EntryType::Directory, "", b"", 0o755),
            None => add(name, owner, EntryType::Regular, "", b"x", 0o644),
        }
    }
    builder.into_inner().expect("written")
}

#[test]
fn what_a_layer_replaces_is_owned_as_that_layer_says() {
    use tar::EntryType::{Link, Symlink};
    let scenario = "what_a_layer_replaces_is_owned_as_that_layer_says";
    if !ranges_can_be_had() || !as_ordinary_user_with(scenario, Some("65534:300000:65536\n")) {
        return;
    }
    let program = std::fs::read(actor().expect("compiled")).expect("readable");
    let lower = layer(
        &[
            // The image's working directory.
            ("etc/", (0, 0), None),
            ("folder/", (7, 7), None),
            ("folder/inside", (7, 8), None),
            ("another/", (1, 1), None),
            ("another/same", (2, 2), None),
            ("moved/", (3, 3), None),
            ("moved/same", (3, 3), None),
            ("kept", (4, 4), None),
            ("linked", (5, 5), None),
            ("first", (6, 6), None),
            ("second", (6, 6), Some((Link, "first"))),
            ("by-link", (0, 0), Some((Symlink, "another"))),
            ("by-link/through", (9, 9), None),
            ("cleared/", (1, 1), None),
            ("cleared/old", (1, 1), None),
        ],
        Some(&program),
    );
    let upper = layer(
        &[
            ("folder", (10, 10), None),
            ("moved", (0, 0), Some((Symlink, "another"))),
            ("linked", (0, 0), Some((Link, "kept"))),
            (".wh.first", (0, 0), None),
            ("by-link", (11, 11), None),
            ("cleared/.wh..wh..opq", (0, 0), None),
        ],
        None,
    );
    let dir = tempfile::tempdir().expect("a folder");
    common::images::layout(dir.path(), &[lower, upper], "");
    let image = Image::open(dir.path(), Bounds::default()).expect("a good image");
    let config = Config::new(Program::inside("/bin/actor")).isolation(Isolation::container());
    let act = ["stat", "/folder", "/another/same", "/linked", "/second", "/another/through", "/by-link"];
    let seen = run(config.rootfs(Rootfs::Image(image.into())).args(act));
    let expected = [
        "/folder: 10:10 644",
        "/another/same: 2:2 644",
        "/linked: 4:4 644",
        "/second: 6:6 644",
        "/another/through: 9:9 644",
        "/by-link: 11:11 644",
    ];
    assert_eq!(seen.lines(), expected);
}

/// What the program sees of that archive's entries, and that its changes are its own.
fn unpacked(expected: [&str; 4]) {
    let before = Traces::now();
    {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), archive()).expect("written");
        let image = match Image::open(file.path(), Bounds::default()) {
            Ok(image) => image,
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        };
        let config = Config::new(Program::inside("/bin/actor"));
        let config = config.isolation(Isolation::container()).rootfs(Rootfs::Image(image.into()));
        let act = ["stat", "/closed", "/closed/theirs", "/closed/deep", "/suid"];
        let prepared = config.clone().args(act).prepare().expect("the config is good");
        println!("{:?} {:?}", prepared.id_maps(), prepared.overlay_unavailable());
        assert_eq!(run_prepared(&prepared).lines(), expected);
        let write = config.args(["write", "/bin/new"]).prepare().expect("the config is good");
        let written = run_prepared(&write).stdout;
        match write.overlay_unavailable() {
            None => assert_eq!(written, "open: done\nwrite: done\n"),
            Some(_) => assert_eq!(written, "open: Read-only file system\n"),
        }
    }
    assert_eq!(Traces::now(), before, "nothing is left of the image");
}

#[test]
fn an_image_is_unpacked_with_its_owners_where_the_user_has_ranges() {
    let scenario = "an_image_is_unpacked_with_its_owners_where_the_user_has_ranges";
    if ranges_can_be_had() && as_ordinary_user_with(scenario, Some("65534:300000:65536\n")) {
        unpacked(["/closed: 0:0 555", "/closed/theirs: 5:6 640", "/closed/deep: 7:7 700", "/suid: 5:0 4755"]);
    }
}

#[test]
fn an_image_is_unpacked_as_the_callers_own_where_there_are_no_ranges() {
    let scenario = "an_image_is_unpacked_as_the_callers_own_where_there_are_no_ranges";
    if as_ordinary_user_with(scenario, ranges_can_be_had().then_some("somebody:1:1\n")) {
        let Some(config) = container(&[]) else { return };
        if config.id_maps(IdMaps::Ranges).prepare().is_ok() {
            println!("skipped: this user has ranges");
            return;
        }
        unpacked(["/closed: 0:0 555", "/closed/theirs: 0:0 640", "/closed/deep: 0:0 700", "/suid: 0:0 4755"]);
    }
}

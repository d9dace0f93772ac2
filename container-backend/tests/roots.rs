//! Roots that somebody gives: folders, archives, images, hostile ones among them.

mod common;

use std::path::{Path, PathBuf};

use common::images::{layout, layout_of, tar_of};
use common::*;
use container_backend::{
    Bind, Bounds, Config, Image, ImageError, Isolation, PrepareError, Program, Rootfs, SpawnError, Stdio,
    User,
};

/// A folder with the actor in it, and more.
fn folder() -> Option<tempfile::TempDir> {
    if !containers_work() {
        return None;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let set = |path: PathBuf| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("changed");
    };
    set(dir.path().to_owned());
    for name in ["bin", "etc", "link-target"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    copy_program(actor()?, &dir.path().join("bin/actor"));
    set(dir.path().join("bin/actor"));
    std::fs::write(dir.path().join("etc/name"), "lower\n").expect("written");
    Some(dir)
}

fn within(rootfs: Rootfs, act: &[&str]) -> Config {
    let program = Program::inside("actor");
    Config::new(program).env("PATH", "/bin").args(act).isolation(Isolation::container()).rootfs(rootfs)
}

fn in_folder(dir: &Path, act: &[&str]) -> Ran {
    run(within(Rootfs::Folder(dir.to_owned()), act))
}

#[test]
fn a_folder_is_the_root_and_keeps_what_it_had() {
    let Some(dir) = folder() else { return };
    let listed = in_folder(dir.path(), &["list", "/"]);
    assert_eq!(listed.lines(), ["bin", "dev", "etc", "link-target", "proc"]);
    assert_eq!(in_folder(dir.path(), &["show", "/etc/name"]).stdout, "lower\n");
    let written = in_folder(dir.path(), &["write", "/etc/name"]);
    assert_eq!(written.stdout, "open: done\nwrite: done\n");
    let name = std::fs::read_to_string(dir.path().join("etc/name")).expect("readable");
    assert_eq!(name, "lower\n", "the change was thrown away");
    let mut left: Vec<_> =
        std::fs::read_dir(dir.path()).expect("there").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["bin", "etc", "link-target"], "no place to mount on was made in it");
}

#[test]
fn a_given_root_has_a_sys_where_one_is_asked_for() {
    let Some(dir) = folder() else { return };
    std::os::unix::fs::symlink("/link-target", dir.path().join("sys")).expect("made");
    let act = ["list", "/sys/class/net"];
    let through_a_link = run(within(Rootfs::Folder(dir.path().to_owned()), &act).sys(true));
    assert_eq!(through_a_link.stdout, "lo\n", "it is on what the link leads to, inside");
    std::fs::remove_file(dir.path().join("sys")).expect("removed");
    assert_eq!(run(within(Rootfs::Folder(dir.path().to_owned()), &act).sys(true)).stdout, "lo\n");
}

#[test]
fn a_given_root_has_the_devices_and_terminals_of_an_engine() {
    let Some(dir) = folder() else { return };
    let devices = in_folder(dir.path(), &["list", "/dev"]);
    assert_eq!(
        devices.lines(),
        [
            "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
            "urandom", "zero"
        ]
    );
    assert_eq!(in_folder(dir.path(), &["write", "/dev/ptmx"]).lines().first(), Some(&"open: done"));
}

#[test]
fn its_proc_is_covered_and_protected_where_engines_do_so_and_can_be_written_to_elsewhere() {
    let Some(dir) = folder() else { return };
    for path in ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"] {
        let ran = in_folder(dir.path(), &["write", path]);
        // Whoever is not root outside does not own the file, which is looked at first.
        let refused = ran.stdout.contains("Read-only file system")
            || !is_root() && ran.stdout.contains("open: Permission denied");
        assert!(refused || !Path::new(path).exists(), "{path}: {ran:?}");
    }
    assert_eq!(in_folder(dir.path(), &["show", "/proc/keys"]).stdout, "");
    assert_eq!(in_folder(dir.path(), &["write", "/proc/self/comm"]).stdout, "open: done\nwrite: done\n");
}

#[test]
fn links_in_a_root_at_the_places_of_mounts_lead_nowhere_outside() {
    let Some(dir) = folder() else { return };
    let outside = tempfile::tempdir().expect("a folder");
    for name in ["proc", "dev", "sys", "data"] {
        std::os::unix::fs::symlink(outside.path(), dir.path().join(name)).expect("made");
    }
    // The mounts go to a folder of that path inside, or fail; the host's is not touched.
    let bind = Bind { host: "/".into(), inside: "/data".into(), read_only: true };
    let config = within(Rootfs::Folder(dir.path().to_owned()), &["list", "/"]).sys(true).bind(bind);
    let prepared = config.prepare().expect("good");
    if let Ok(mut process) = prepared.spawn(Stdio::null()) {
        process.wait(Some(PATIENCE)).expect("it can be waited for");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
    assert!(!mounts.contains(&outside.path().display().to_string()));
    assert_eq!(std::fs::read_dir(outside.path()).expect("there").count(), 0);
}

#[test]
fn files_and_folders_of_the_host_can_be_bound_and_protected() {
    let Some(dir) = folder() else { return };
    let shared = tempfile::tempdir().expect("a folder");
    std::fs::write(shared.path().join("file"), "host\n").expect("written");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(shared.path(), open).expect("changed");
    let bind = |inside: &str, read_only| Bind {
        host: shared.path().to_owned(),
        inside: PathBuf::from(inside),
        read_only,
    };
    for given in [true, false] {
        let with = |bind: Bind, act: &[&str]| {
            let config = match given {
                true => within(Rootfs::Folder(dir.path().to_owned()), act),
                false => container(act).expect("containers work"),
            };
            run(config.bind(bind)).stdout
        };
        assert_eq!(with(bind("/some/where", true), &["show", "/some/where/file"]), "host\n");
        let refused = with(bind("/some/where", true), &["write", "/some/where/new"]);
        assert_eq!(refused, "open: Read-only file system\n");
        assert_eq!(with(bind("/data", false), &["write", "/data/new"]), "open: done\nwrite: done\n");
        std::fs::remove_file(shared.path().join("new")).expect("it was written on the host");
    }
    std::os::unix::fs::symlink("/link-target", dir.path().join("link")).expect("made");
    let through_a_link = within(Rootfs::Folder(dir.path().to_owned()), &["show", "/link-target/file"]);
    assert_eq!(
        run(through_a_link.bind(bind("/link", true))).stdout,
        "host\n",
        "it is on what the link leads to"
    );
    let bad = container(&[]).expect("containers work").bind(bind("/../x", true)).prepare();
    assert!(matches!(bad, Err(PrepareError::BindPlace { .. })), "{bad:?}");
}

#[test]
fn a_program_that_is_bound_into_a_root_is_found() {
    let Some(dir) = folder() else { return };
    let tools = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(tools.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("changed");
    let tool = tools.path().join("tool");
    copy_program(actor().expect("compiled"), &tool);
    let with = |host: &Path, inside: &str, program: &str| {
        let config = Config::new(Program::inside(program)).env("PATH", "/bin").args(["exit", "0"]);
        let bind = Bind { host: host.to_owned(), inside: inside.into(), read_only: true };
        let config = config.isolation(Isolation::container()).bind(bind).workdir("/");
        config.rootfs(Rootfs::Folder(dir.path().to_owned()))
    };
    for (host, inside, program) in [
        (tools.path(), "/tools", "/tools/tool"),
        (tools.path(), "/tools", "tools/tool"),
        (&tool, "/bin/tool", "tool"),
        (&tool, "/bin/tool", "/bin/tool"),
    ] {
        succeeded(&run(with(host, inside, program)));
    }
    let covered = with(tools.path(), "/bin", "actor").prepare();
    assert!(matches!(covered, Err(PrepareError::ProgramNotInside { .. })), "{covered:?}");
}

#[test]
fn a_program_whose_interpreter_is_not_in_the_root_is_told_apart_from_one_that_is_not_there() {
    let Some(dir) = folder() else { return };
    let script = dir.path().join("bin/script");
    std::fs::write(&script, "#!/usr/bin/nothing\n").expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("changed");
    let program = Config::new(Program::inside("/bin/script")).isolation(Isolation::container());
    let prepared = program.rootfs(Rootfs::Folder(dir.path().to_owned())).prepare().expect("it is there");
    let refused = prepared.spawn(Stdio::null());
    assert!(matches!(refused, Err(SpawnError::Interpreter { .. })), "{refused:?}");
}

fn opened(bytes: &[u8], bounds: Bounds) -> Result<Image, ImageError> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    Image::open(file.path(), bounds)
}

use tar::EntryType::{Block, Char, Directory, Link, Regular, Symlink};

#[test]
fn an_archive_is_a_root() {
    if !is_root() || !containers_work() {
        return;
    }
    let program = std::fs::read(actor().expect("compiled")).expect("readable");
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(program.len() as u64);
    builder.append_data(&mut header, "bin/actor", &program[..]).expect("written");
    let image = opened(&builder.into_inner().expect("written"), Bounds::default()).expect("a good archive");
    let rootfs = Rootfs::Image(image.into());
    let config = within(rootfs, &["list", "/"]);
    let prepared = config.prepare().expect("good");
    for _ in 0..2 {
        assert_eq!(run_prepared(&prepared).lines(), ["bin", "dev", "proc"]);
    }
}

#[test]
fn archives_that_lead_outside_reach_nothing() {
    if !alone_as_anyone("archives_that_lead_outside_reach_nothing") {
        return;
    }
    let before = Traces::now();
    let outside = tempfile::tempdir().expect("a folder");
    let target = outside.path().display().to_string();
    std::fs::write(outside.path().join("victim"), "safe").expect("written");
    for name in ["../evil", "a/../../evil"] {
        let refused = opened(&tar_of(&[(name, Regular, "x")]), Bounds::default());
        assert!(matches!(refused, Err(ImageError::Escapes { .. })), "{name}: {refused:?}");
    }
    // Absolute names, and links that lead out with a write through them, end up inside.
    let through = |link: &str| {
        let entries = [("link", Symlink, link), ("link/evil", Regular, "x"), ("/abs", Regular, "x")];
        opened(&tar_of(&entries), Bounds::default())
    };
    for link in [target.as_str(), "../../../../../../tmp"] {
        let refused = through(link);
        assert!(
            matches!(refused, Err(ImageError::Entry { .. })),
            "there is no such folder inside: {refused:?}"
        );
    }
    let inside = through("/").expect("its own root");
    let (host, actor) = (actor().expect("compiled").to_owned(), PathBuf::from("/actor"));
    let config = Config::new(Program::inside(&actor)).args(["list", "/"]).isolation(Isolation::container());
    let config = config.bind(Bind { host, inside: actor, read_only: true });
    let listed = run(config.rootfs(Rootfs::Image(inside.into())));
    assert_eq!(listed.lines(), ["abs", "actor", "dev", "evil", "link", "proc"]);
    let victim = format!("{target}/victim");
    let hard = opened(&tar_of(&[("hard", Link, &victim), ("hard", Regular, "evil")]), Bounds::default());
    assert!(hard.is_err(), "{hard:?}");
    let file = [("l", Symlink, victim.as_str()), ("l", Regular, "evil")];
    opened(&tar_of(&file), Bounds::default()).expect("the link is replaced, not followed");
    assert_eq!(std::fs::read_to_string(&victim).expect("there"), "safe");
    assert_eq!(std::fs::read_dir(outside.path()).expect("there").count(), 1);
    assert!(!Path::new("/tmp/evil").exists() && !Path::new("/evil").exists() && !Path::new("/abs").exists());
    nothing_is_left(&before);
}

#[test]
fn devices_are_left_out_and_bombs_are_stopped() {
    if !alone_as_anyone("devices_are_left_out_and_bombs_are_stopped") {
        return;
    }
    let before = Traces::now();
    let image = opened(
        &tar_of(&[("dev/sda", Block, ""), ("kmsg", Char, ""), ("d", Directory, "")]),
        Bounds::default(),
    );
    assert_eq!(image.expect("the rest is good").left_out, ["dev/sda", "kmsg"]);
    let bounds = Bounds { bytes: 1 << 20, entries: 100 };
    let big = "0".repeat(2 << 20);
    let bomb = opened(&tar_of(&[("zeros", Regular, &big)]), bounds);
    assert!(matches!(bomb, Err(ImageError::TooLarge { .. })), "{bomb:?}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let huge = vec![0_u8; 16 << 20];
    std::io::Write::write_all(&mut packed, &huge).expect("written");
    let bomb = opened(&packed.finish().expect("written"), bounds);
    assert!(bomb.is_err(), "{bomb:?}");
    let names: Vec<String> = (0..200).map(|n| format!("d{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), Directory, "")).collect();
    assert!(opened(&tar_of(&many), bounds).is_err(), "too many entries");
    for text in
        [&b"no archive at all, but longer than one block of a tar would be"[..], &[0x1f, 0x8b, 1, 2, 3]]
    {
        let broken = opened(&text.repeat(20), bounds);
        assert!(broken.is_err(), "{broken:?}");
    }
    nothing_is_left(&before);
}

#[test]
fn headers_without_an_end_are_stopped_and_content_is_counted_whatever_it_is_of() {
    if !alone_as_anyone("headers_without_an_end_are_stopped_and_content_is_counted_whatever_it_is_of") {
        return;
    }
    let before = Traces::now();
    let zeros = "\0".repeat(8 << 20);
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let entries = [("long", kind, zeros.as_str()), ("file", Regular, "")];
        std::io::Write::write_all(&mut packed, &tar_of(&entries)).expect("written");
        let packed = packed.finish().expect("written");
        let dir = tempfile::tempdir().expect("a folder");
        layout_of(dir.path(), std::slice::from_ref(&packed), &serde_json::json!({}));
        for refused in [opened(&packed, Bounds::default()), Image::open(dir.path(), Bounds::default())] {
            let Err(error @ (ImageError::Entry { .. } | ImageError::Read { .. })) = refused else {
                panic!("{kind:?}: {refused:?}")
            };
            let source = std::error::Error::source(&error).expect("it has one").to_string();
            assert!(source.contains("a header has more than"), "{kind:?}: {source}");
        }
    }
    let bounds = Bounds { bytes: 1 << 20, entries: 100 };
    for kind in [tar::EntryType::Continuous, Block, tar::EntryType::new(b'Z')] {
        let refused = opened(&tar_of(&[("zeros", kind, &zeros)]), bounds);
        assert!(matches!(refused, Err(ImageError::TooLarge { .. })), "{kind:?}: {refused:?}");
    }
    nothing_is_left(&before);
}

#[test]
fn a_name_of_any_length_is_said_in_short() {
    if !containers_work() {
        return;
    }
    let name = "../".repeat(100_000);
    let refused = opened(
        &tar_of(&[("long", tar::EntryType::GNULongName, &name), ("x", Regular, "")]),
        Bounds::default(),
    );
    let Err(error @ ImageError::Escapes { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().len() < 1000, "{}", error.to_string().len());
}

fn layers() -> Vec<Vec<u8>> {
    let program = std::fs::read(actor().expect("compiled")).expect("readable");
    let mut base = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("bin/actor", &program[..]),
        ("etc/passwd", b"root:x:0:0::/:/bin/sh\nworker:x:1234:2345::/:/bin/sh\n"),
        ("etc/gone", b"x"),
        ("data/old", b"x"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        base.append_data(&mut header, name, content).expect("written");
    }
    let upper = tar_of(&[
        ("etc/.wh.gone", Regular, ""),
        ("data/new", Regular, "x"),
        ("data/.wh..wh..opq", Regular, ""),
    ]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &upper).expect("written");
    vec![base.into_inner().expect("written"), packed.finish().expect("written")]
}

#[test]
fn an_image_brings_its_command_environment_folder_and_user() {
    if !is_root() || !containers_work() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    layout(dir.path(), &layers(), "worker");
    // The same as a folder and as an archive.
    let archive = tempfile::NamedTempFile::new().expect("a file");
    let mut builder = tar::Builder::new(archive.reopen().expect("open"));
    builder.append_dir_all(".", dir.path()).expect("written");
    builder.finish().expect("written");
    drop(builder);
    for path in [dir.path(), archive.path()] {
        let image = std::sync::Arc::new(Image::open(path, Bounds::default()).expect("a good image"));
        assert_eq!(image.user, Some(User { uid: 1234, gid: 2345, groups: vec![] }));
        let ran = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(Into::into).collect();
            let line = image.command_line(&args);
            let config = Config::new(Program::inside(&line[0])).args(&line[1..]);
            run(config.isolation(Isolation::container()).rootfs(Rootfs::Image(image.clone())))
        };
        assert_eq!(ran(&[]).lines(), ["FROM=image", "PATH=/bin"]);
        assert!(ran(&["who"]).stdout.contains("uid 1234\ngid 2345"));
        assert_eq!(ran(&["list", "."]).lines(), ["passwd"], "the working folder, and a whiteout");
        assert_eq!(ran(&["list", "/data"]).lines(), ["new"], "an opaque whiteout");
        assert_eq!(ran(&["show", "/proc/self/status"]).field("CapEff:"), "0000000000000000");
    }
}

#[test]
fn an_image_whose_bytes_are_not_those_of_its_digest_is_refused() {
    if !alone_as_anyone("an_image_whose_bytes_are_not_those_of_its_digest_is_refused") {
        return;
    }
    let before = Traces::now();
    let dir = tempfile::tempdir().expect("a folder");
    let digest = layout(dir.path(), &layers(), "");
    let blob = dir.path().join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &tar_of(&[("evil", Regular, "x")])).expect("written");
    std::fs::write(&blob, packed.finish().expect("written")).expect("written");
    let refused = Image::open(dir.path(), Bounds::default());
    assert!(matches!(refused, Err(ImageError::Digest { .. })), "{refused:?}");
    std::fs::write(
        dir.path().join("index.json"),
        r#"{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}"#,
    )
    .expect("written");
    assert!(matches!(Image::open(dir.path(), Bounds::default()), Err(ImageError::Format { .. })));
    nothing_is_left(&before);
}

/// An image of [`layers`] with this configuration.
fn configured(config: &serde_json::Value) -> Result<Image, ImageError> {
    let dir = tempfile::tempdir().expect("a folder");
    layout_of(dir.path(), &layers(), config);
    Image::open(dir.path(), Bounds::default())
}

#[test]
fn an_images_working_folder_is_made_where_it_is_not_there() {
    if !containers_work() {
        return;
    }
    let config = serde_json::json!({"config": {"WorkingDir": "/data/of/ours"}});
    let image = std::sync::Arc::new(configured(&config).expect("a good image"));
    let act = |act| within(Rootfs::Image(image.clone()), &[act, "."]);
    let ran = run(act("list"));
    assert_eq!((ran.stdout.as_str(), ran.exit.status.code()), ("", 0), "{ran:?}");
    let missing = act("list").workdir("/data/of/yours").prepare().expect("good").spawn(Stdio::null());
    assert!(matches!(missing, Err(SpawnError::Setup { .. })), "one's own is not: {missing:?}");
}

#[test]
fn an_image_of_nobody_does_not_run_as_root() {
    if !containers_work() {
        return;
    }
    for nobody in ["stranger", "worker:strangers", "4294967295"] {
        let image = configured(&serde_json::json!({"config": {"User": nobody}})).expect("it can be opened");
        let config = within(Rootfs::Image(std::sync::Arc::new(image)), &["who"]);
        let refused = config.clone().prepare();
        assert!(
            matches!(refused, Err(PrepareError::ImageUser { .. } | PrepareError::UserNumber { .. })),
            "{nobody}: {refused:?}"
        );
        let asked_for = config.user(User { uid: 0, gid: 0, groups: vec![] });
        succeeded(&run(asked_for));
    }
}

#[test]
fn an_image_for_another_machine_is_refused() {
    if !containers_work() {
        return;
    }
    let refused = configured(&serde_json::json!({"os": "linux", "architecture": "arm64"}));
    let Err(ImageError::Format { problem, .. }) = refused else { panic!("{refused:?}") };
    assert!(problem.contains("arm64"), "{problem}");
    assert!(configured(&serde_json::json!({"os": "linux", "architecture": "amd64"})).is_ok());
}

//! What kind of archive it is, and the files of an image: index, manifest, configuration, layers.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::agent::Owners;
use super::layer::Unpacker;
use super::read::{Allowance, Allowed, Hashed, decompressed, digest};
use super::{Bounds, Image, ImageError, text_in_root};
use crate::options::User;

/// The most that an index, manifest or configuration may have.
const JSON_BYTES: u64 = 4 << 20;
/// The most indexes that lead to one another.
const DEPTH: usize = 4;

/// Where the files of an image are.
enum Source {
    Folder(PathBuf),
    /// A tar, and where in it each file begins and how long it is.
    Archive(File, HashMap<PathBuf, (u64, u64)>),
}

/// A source with its name, for errors.
struct Files {
    path: PathBuf,
    source: Source,
}

pub(super) fn unpack(path: &Path, bounds: Bounds, image: Image) -> Result<(Image, Owners), ImageError> {
    let read = |what: &str, source| ImageError::Read { path: path.to_owned(), what: what.to_owned(), source };
    if path.is_dir() {
        let files = Files { path: path.to_owned(), source: Source::Folder(path.to_owned()) };
        return files.oci(bounds, image);
    }
    let file = File::open(path).map_err(|source| read("the archive", source))?;
    let plain = plain_file(file, bounds).map_err(|source| read("the archive", source))?;
    let names = names(&plain).map_err(|source| read("the archive", source))?;
    let has = |name: &str| names.contains_key(Path::new(name));
    let (is_oci, is_saved) = (has("index.json") && has("oci-layout"), has("manifest.json"));
    let files = Files { path: path.to_owned(), source: Source::Archive(plain, names) };
    if is_oci {
        files.oci(bounds, image)
    } else if is_saved {
        files.saved(bounds, image)
    } else {
        let Source::Archive(mut file, _) = files.source else { return Ok((image, Owners::new())) };
        file.rewind().map_err(|source| read("the archive", source))?;
        let mut image = image;
        let mut unpacker = Unpacker::new(&image, bounds);
        unpacker.layer(io::BufReader::new(file), "the archive")?;
        if unpacker.is_empty() {
            return Err(read("the archive", io::Error::other("there is nothing in it")));
        }
        let owners;
        (image.left_out, owners) = unpacker.finish();
        Ok((image, owners))
    }
}

/// The archive itself, or a copy in memory without its compression.
fn plain_file(mut file: File, bounds: Bounds) -> io::Result<File> {
    let mut head = [0; 4];
    let length = file.read(&mut head)?;
    file.rewind()?;
    let is_compressed = matches!(head.get(..length), Some([0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]));
    if !is_compressed {
        return Ok(file);
    }
    // SAFETY: a C string and a number.
    let fd = unsafe { libc::memfd_create(c"archive".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the call above made and nobody else knows.
    let mut copy = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // Headers and padding come on top of what the files have.
    let most = bounds.bytes.saturating_add(bounds.entries.saturating_mul(2048));
    let copied = io::copy(&mut decompressed(file)?.take(most), &mut copy)?;
    if copied == most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it decompresses to more than is allowed"));
    }
    copy.rewind()?;
    Ok(copy)
}

/// Where each file of a tar is.
fn names(file: &File) -> io::Result<HashMap<PathBuf, (u64, u64)>> {
    let mut names = HashMap::new();
    let allowance = Allowance::new();
    let mut archive = tar::Archive::new(Allowed { inner: file, allowance: &allowance });
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        allowance.for_a_header();
        if entry.header().entry_type().is_file() {
            let path =
                entry.path()?.components().filter(|part| *part != std::path::Component::CurDir).collect();
            names.insert(path, (entry.raw_file_position(), entry.size()));
        }
    }
    Ok(names)
}

fn format(what: &str, problem: &str) -> ImageError {
    ImageError::Format { what: what.to_owned(), problem: problem.to_owned() }
}

/// The path of a blob; only digests that are digests make one.
fn blob(digest: &str) -> Result<String, ImageError> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(format!("blobs/sha256/{hex}"))
        }
        _ => Err(format("a digest", &format!("{digest:?} is no sha256 digest"))),
    }
}

impl Files {
    fn open(&self, name: &str) -> Result<Box<dyn Read>, ImageError> {
        let cannot = |source| ImageError::Read { path: self.path.clone(), what: name.to_owned(), source };
        let missing = || cannot(io::Error::from(io::ErrorKind::NotFound));
        match &self.source {
            Source::Folder(folder) => {
                let folder = File::open(folder).map_err(cannot)?;
                let file = super::open_in_root(&folder, Path::new(name), libc::O_RDONLY | libc::O_NONBLOCK);
                Ok(Box::new(File::from(file.map_err(cannot)?)))
            }
            Source::Archive(file, names) => {
                let &(at, length) = names.get(Path::new(name)).ok_or_else(missing)?;
                let mut file = file.try_clone().map_err(cannot)?;
                file.seek(SeekFrom::Start(at)).map_err(cannot)?;
                Ok(Box::new(file.take(length)))
            }
        }
    }

    fn json(&self, name: &str, expected: Option<&str>) -> Result<Value, ImageError> {
        let mut bytes = Vec::new();
        let cannot = |source| ImageError::Read { path: self.path.clone(), what: name.to_owned(), source };
        self.open(name)?.take(JSON_BYTES).read_to_end(&mut bytes).map_err(cannot)?;
        if let Some(expected) = expected {
            compare(name, expected, digest(&bytes))?;
        }
        serde_json::from_slice(&bytes).map_err(|error| format(name, &error.to_string()))
    }

    /// The configuration of an image that can run here.
    fn configuration(&self, name: &str, expected: Option<&str>) -> Result<Value, ImageError> {
        let config = self.json(name, expected)?;
        if is_ours(&config) {
            return Ok(config);
        }
        let (os, architecture) = (&config["os"], &config["architecture"]);
        Err(format("the configuration", &format!("it is for {os}/{architecture}, not for linux/amd64")))
    }

    /// An OCI image layout.
    fn oci(&self, bounds: Bounds, mut image: Image) -> Result<(Image, Owners), ImageError> {
        let mut manifest = self.json("index.json", None)?;
        for _ in 0..DEPTH {
            let Some(manifests) = manifest.get("manifests").and_then(Value::as_array) else { break };
            let digest = manifests
                .iter()
                .find(|entry| is_ours(&entry["platform"]))
                .and_then(|entry| entry["digest"].as_str());
            let digest = digest.ok_or_else(|| format("the index", "it names no image for linux/amd64"))?;
            manifest = self.json(&blob(digest)?, Some(digest))?;
        }
        let config = manifest["config"]["digest"].as_str();
        let config = config.ok_or_else(|| format("the manifest", "it names no configuration"))?;
        let config = self.configuration(&blob(config)?, Some(config))?;
        let layers = manifest["layers"].as_array();
        let mut unpacker = Unpacker::new(&image, bounds);
        for layer in layers.ok_or_else(|| format("the manifest", "it names no layers"))? {
            let expected = layer["digest"].as_str().ok_or_else(|| format("a layer", "it has no digest"))?;
            let name = blob(expected)?;
            let cannot = |source| ImageError::Read { path: self.path.clone(), what: name.clone(), source };
            let mut hashed = Hashed::new(self.open(&name)?);
            unpacker.layer(decompressed(&mut hashed).map_err(cannot)?, &name)?;
            compare(&name, expected, hashed.finish().map_err(cannot)?)?;
        }
        let owners;
        (image.left_out, owners) = unpacker.finish();
        Ok((configured(image, &config["config"]), owners))
    }

    /// What `docker save` writes, before it became an OCI layout, too.
    fn saved(&self, bounds: Bounds, mut image: Image) -> Result<(Image, Owners), ImageError> {
        let manifest = self.json("manifest.json", None)?;
        let config = manifest[0]["Config"].as_str();
        let name = config.ok_or_else(|| format("manifest.json", "it names no configuration"))?;
        let hex = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json");
        let expected = format!("sha256:{hex}");
        let config = self.configuration(name, blob(&expected).is_ok().then_some(expected.as_str()))?;
        let layers = manifest[0]["Layers"].as_array();
        let mut unpacker = Unpacker::new(&image, bounds);
        for (index, layer) in
            layers.ok_or_else(|| format("manifest.json", "it names no layers"))?.iter().enumerate()
        {
            let name = layer.as_str().ok_or_else(|| format("a layer", "it has no name"))?;
            let cannot = |source| ImageError::Read { path: self.path.clone(), what: name.to_owned(), source };
            let expected = config["rootfs"]["diff_ids"][index].as_str();
            let expected = expected.ok_or_else(|| format(name, "the configuration has no digest of it"))?;
            let mut hashed = Hashed::new(decompressed(self.open(name)?).map_err(cannot)?);
            unpacker.layer(&mut hashed, name)?;
            compare(name, expected, hashed.finish().map_err(cannot)?)?;
        }
        let owners;
        (image.left_out, owners) = unpacker.finish();
        Ok((configured(image, &config["config"]), owners))
    }
}

fn compare(name: &str, expected: &str, found: String) -> Result<(), ImageError> {
    if expected == found {
        return Ok(());
    }
    Err(ImageError::Digest { name: name.to_owned(), expected: expected.to_owned(), found })
}

/// Whether an index's entry or a configuration is for this machine; one that does not say is.
fn is_ours(platform: &Value) -> bool {
    let is = |key: &str, value: &str| platform[key].as_str().is_none_or(|found| found == value);
    is("os", "linux") && is("architecture", "amd64")
}

/// The image with what its configuration says.
fn configured(mut image: Image, config: &Value) -> Image {
    let list = |key: &str| -> Vec<OsString> {
        let list = config[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|text| text.as_str().map(OsString::from)).collect()
    };
    image.entrypoint = list("Entrypoint");
    image.command = list("Cmd");
    let pairs = config["Env"].as_array().map(Vec::as_slice).unwrap_or_default();
    image.env = pairs
        .iter()
        .filter_map(|pair| pair.as_str()?.split_once('='))
        .map(|(key, value)| (OsString::from(key), OsString::from(value)))
        .collect();
    let text = |key: &str| config[key].as_str().filter(|text| !text.is_empty());
    image.workdir = text("WorkingDir").map(PathBuf::from);
    if let Some(user) = text("User") {
        image.user = user_of(&image.root, user);
        image.unknown_user = image.user.is_none().then(|| user.to_owned());
    }
    image
}

/// `USER[:GROUP]`, numbers or names of the image's own /etc/passwd and /etc/group.
fn user_of(root: &OwnedFd, text: &str) -> Option<User> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let passwd = text_in_root(root, "etc/passwd").unwrap_or_default();
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let line = passwd.lines().map(fields).find(|line| line.first().is_some_and(|name| name == user));
    let number = |at: usize| line.as_ref().and_then(|line| line.get(at)?.parse::<u32>().ok());
    let uid = user.parse().ok().or_else(|| number(2))?;
    let groups = text_in_root(root, "etc/group").unwrap_or_default();
    let named = |group: &str| {
        let line = groups.lines().map(fields).find(|line| line.first().is_some_and(|name| name == group));
        line.and_then(|line| line.get(2)?.parse().ok())
    };
    let gid = match group {
        Some(group) => group.parse().ok().or_else(|| named(group))?,
        None => number(3).unwrap_or(0),
    };
    Some(User { uid, gid, groups: Vec::new() })
}

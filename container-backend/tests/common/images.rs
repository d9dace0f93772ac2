//! Archives and images for the scenarios.

use std::path::Path;

/// A tar of `(name, kind, content or link)`.
pub fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for &(name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        // By hand: the crate refuses to write names that an attacker would.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, if is_link { &[][..] } else { content.as_bytes() }).expect("written");
    }
    builder.into_inner().expect("written")
}

/// Writes an OCI image layout of these layers, and returns the last layer's digest.
pub fn layout(dir: &Path, layers: &[Vec<u8>], user: &str) -> String {
    let config = serde_json::json!({"config": {
        "Entrypoint": ["/bin/actor"], "Cmd": ["env"], "Env": ["FROM=image", "PATH=/bin"], "WorkingDir": "/etc", "User": user,
    }});
    layout_of(dir, layers, &config)
}

/// The same with this configuration.
pub fn layout_of(dir: &Path, layers: &[Vec<u8>], config: &serde_json::Value) -> String {
    use sha2::Digest as _;
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("made");
    let blob = |bytes: &[u8]| {
        let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(blobs.join(&hex), bytes).expect("written");
        format!("sha256:{hex}")
    };
    let digests: Vec<_> = layers.iter().map(|layer| blob(layer)).collect();
    let config = blob(config.to_string().as_bytes());
    let layers: Vec<_> = digests.iter().map(|digest| serde_json::json!({"digest": digest})).collect();
    let manifest =
        blob(serde_json::json!({"config": {"digest": config}, "layers": layers}).to_string().as_bytes());
    let index = serde_json::json!({"manifests": [{"digest": manifest}]});
    std::fs::write(dir.join("index.json"), index.to_string()).expect("written");
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    digests.last().cloned().unwrap_or_default()
}

//! Files that cannot be read, and where relative paths of `include` lead.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test ends when its ground is missing")]

use std::fs;
use std::path::Path;

fn refusal(path: &Path) -> String {
    config::load(Some(path)).expect_err("refused").to_string()
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.yml");
    let shown = path.display();
    assert_eq!(refusal(&path), format!("error: cannot read {shown}: no such file or directory"));
    let folder = dir.path().display();
    assert_eq!(refusal(dir.path()), format!("error: cannot read {folder}: is a directory"));
    fs::write(&path, b"jobs: []\n# \xff\n").expect("write");
    assert_eq!(refusal(&path), format!("error: cannot read {shown}: not UTF-8 in line 2"));
    fs::write(&path, "#".repeat((4 << 20) + 1)).expect("write");
    assert_eq!(refusal(&path), format!("error: cannot read {shown}: the configuration is larger than 4 MiB"));
}

#[test]
fn the_limit_is_for_all_files_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let main = dir.path().join("main.yml");
    fs::write(&main, "include: [a.yml, b.yml]\n").expect("write");
    for name in ["a.yml", "b.yml"] {
        fs::write(dir.path().join(name), "#".repeat(3 << 20)).expect("write");
    }
    let errors = config::load(Some(&main)).expect_err("too much");
    let message = format!("cannot read {}: the configuration is larger than 4 MiB", dir.path().join("b.yml").display());
    assert_eq!(errors.errors.iter().map(|error| error.message()).collect::<Vec<_>>(), [message]);
}

#[test]
fn what_is_no_regular_file_can_be_read_when_it_is_named() {
    let loaded = config::load(Some(Path::new("/dev/null"))).expect("empty");
    assert!(loaded.config.jobs.is_empty());
}

#[test]
fn an_include_that_exists_only_in_the_current_directory_is_read_with_a_warning() {
    let dir = tempfile::tempdir().expect("a directory");
    let main = dir.path().join("main.yml");
    // Tests run in the folder of their crate.
    fs::write(&main, "include: [../../tests/configs/valid/snap.yml]\n").expect("write");
    let loaded = config::load(Some(&main)).expect("valid");
    assert_eq!(loaded.config.jobs.len(), 1);
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(
        loaded.warnings[0].message(),
        "`../../tests/configs/valid/snap.yml` is found in the current directory only"
    );
}

#[test]
fn an_absolute_include_stays_absolute() {
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (main, included) = (dir.path().join("main.yml"), other.path().join("jobs.yml"));
    fs::write(&main, format!("include: [{}, {}]\n", included.display(), dir.path().join("empty.d").display()))
        .expect("write");
    fs::create_dir(dir.path().join("empty.d")).expect("create");
    fs::write(&included, "jobs: [{type: sink, name: s, root_fs: p, serve: {type: local, listener_name: l}}]\n")
        .expect("write");
    let loaded = config::load(Some(&main)).expect("valid");
    assert_eq!(loaded.config.jobs[0].name().as_str(), "s");
    assert!(loaded.warnings.is_empty());
}

#[test]
fn include_needs_a_file() {
    let errors = config::parse("memory", "include: [a.yml]\n").expect_err("refused");
    assert_eq!(errors.errors[0].message(), "`include` works only in a file");
    let location = errors.errors[0].location().expect("a place");
    assert_eq!((location.line, location.column, errors.errors[0].field()), (1, 11, "include[0]"));
}

#[test]
fn a_folder_is_read_whole_whatever_else_is_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (main, folder) = (dir.path().join("main.yml"), dir.path().join("jobs.d"));
    fs::write(&main, "include: [jobs.d]\n").expect("write");
    fs::create_dir(&folder).expect("create");
    for number in 0..4000 {
        fs::write(folder.join(format!("{number}.bak")), "").expect("write");
    }
    for number in 0..20 {
        let job = format!(
            "jobs: [{{type: sink, name: s{number}, root_fs: p/s{number}, serve: {{type: local, listener_name: l{number}}}}}]\n"
        );
        fs::write(folder.join(format!("{number}.yml")), job).expect("write");
    }
    assert_eq!(config::load(Some(&main)).expect("valid").config.jobs.len(), 20);
}

#[test]
fn a_password_that_everybody_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("zrepl.yml");
    let text = "jobs: [{type: snap, name: a, filesystems: {\"a<\": true}, \
                pruning: {keep: [{type: regex, regex: \".*\"}]}, \
                snapshotting: {type: periodic, prefix: p, interval: 1m, hooks: [\
                {type: mysql-lock-tables, dsn: \"root:secret@/\", filesystems: {a: true}}]}}]\n";
    fs::write(&path, text).expect("write");
    let warnings = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        let loaded = config::load(Some(&path)).expect("valid");
        loaded.warnings.iter().map(|warning| warning.message().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(warnings(0o644), ["everybody on this machine can read this password"]);
    assert_eq!(warnings(0o640), [] as [String; 0]);
    fs::write(&path, text.replace(":secret", "")).expect("write");
    assert_eq!(warnings(0o644), [] as [String; 0]);
}

#[test]
fn certificates_and_keys_are_looked_at_when_asked() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let (path, folder) = (dir.path().join("zrepl.yml"), dir.path().display());
    let text = format!(
        "jobs: [{{type: sink, name: a, root_fs: a, serve: {{type: tls, listen: \":1\", client_cns: [b], \
         ca: {folder}/ca.crt, cert: {folder}/a.crt, key: {folder}/a.key}}}}]\n"
    );
    fs::write(&path, text).expect("write");
    let said = || {
        let found = config::load(Some(&path)).expect("valid").check_files();
        found.iter().map(|one| format!("{:?}: {}", one.severity(), one.message())).collect::<Vec<_>>()
    };
    assert_eq!(
        said(),
        ["ca.crt", "a.crt", "a.key"]
            .map(|name| format!("Error: cannot read {folder}/{name}: no such file or directory"))
    );
    let certificate = "text\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(dir.path().join("ca.crt"), certificate).expect("write");
    fs::write(dir.path().join("a.crt"), certificate.replace("END", "")).expect("write");
    let key = dir.path().join("a.key");
    fs::write(&key, "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n").expect("write");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(
        said(),
        [
            format!("Error: {folder}/a.crt contains no certificate"),
            format!("Warning: everybody can read the private key {folder}/a.key"),
        ]
    );
    fs::write(dir.path().join("a.crt"), certificate).expect("write");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(said(), [] as [String; 0]);
}

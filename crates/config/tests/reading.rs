//! Files that cannot be read or are no YAML, and where relative paths of `include` lead.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends when its ground is missing"
)]

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

/// A sink job that names `ca.crt`, `a.crt` and `a.key` of a folder, and what is said of those as of a day.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a directory") };
        let folder = files.folder.path().display();
        let text = format!(
            "jobs: [{{type: sink, name: a, root_fs: a, serve: {{type: tls, listen: \":1\", client_cns: [b], \
             ca: {folder}/ca.crt, cert: {folder}/a.crt, key: {folder}/a.key}}}}]\n"
        );
        files.write("zrepl.yml", &text);
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("write");
        self.permit(name, 0o600);
    }

    fn permit(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.folder.path().join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }

    fn said(&self, day: &str) -> Vec<String> {
        let now = format!("{day}T12:00:00Z").parse().expect("a time");
        let found = config::load(Some(&self.folder.path().join("zrepl.yml"))).expect("valid").check_files(now);
        let folder = format!("{}/", self.folder.path().display());
        found.iter().map(|one| format!("{:?}: {}", one.severity(), one.message().replace(&folder, ""))).collect()
    }
}

/// A certificate for 2026, signed with its own key, and that key.
fn certificate(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut wanted = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
    wanted.distinguished_name.push(rcgen::DnType::CommonName, name);
    wanted.not_before = rcgen::date_time_ymd(2026, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(2027, 1, 1);
    (wanted.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

const NOTHING: [&str; 0] = [];

#[test]
fn certificates_and_keys_are_looked_at_when_asked() {
    let files = Files::new();
    assert_eq!(
        files.said("2026-06-01"),
        ["ca.crt", "a.crt", "a.key"].map(|name| format!("Error: cannot read {name}: no such file or directory"))
    );
    let ((certificate, key), (other, _)) = (certificate("a"), certificate("b"));
    files.write("ca.crt", &format!("a comment\n{other}{certificate}"));
    files.write("a.crt", "-----BEGIN CERTIFICATE-----\n");
    files.write("a.key", &key);
    files.permit("a.key", 0o644);
    assert_eq!(
        files.said("2026-06-01"),
        ["Error: a.crt is cut off or damaged", "Warning: everybody can read the private key a.key"]
    );
    files.permit("a.key", 0o640);
    files.write("a.crt", &key);
    assert_eq!(files.said("2026-06-01"), ["Error: a.crt contains no certificate"]);
    files.write("a.crt", &certificate);
    assert_eq!(files.said("2026-06-01"), NOTHING);
    files.write("a.key", "nothing");
    assert_eq!(files.said("2026-06-01"), ["Error: a.key contains no private key"]);
}

#[test]
fn a_certificate_and_a_key_that_do_not_belong_together_are_an_error() {
    let files = Files::new();
    let ((first, key), (second, _)) = (certificate("a"), certificate("b"));
    files.write("ca.crt", &first);
    files.write("a.key", &key);
    files.write("a.crt", &second);
    assert_eq!(files.said("2026-06-01"), ["Error: the key a.key does not belong to the certificate a.crt"]);
    // What leads to an authority comes after.
    files.write("a.crt", &format!("{first}{second}"));
    assert_eq!(files.said("2026-06-01"), NOTHING);
    files.write("a.crt", &format!("{second}{first}"));
    assert_eq!(files.said("2026-06-01"), ["Error: the key a.key does not belong to the certificate a.crt"]);
}

#[test]
fn certificates_that_are_not_valid_or_not_for_long_are_warned_about() {
    let files = Files::new();
    let ((certificate, key), (other, _)) = (certificate("a"), certificate("b"));
    files.write("ca.crt", &other);
    files.write("a.crt", &certificate);
    files.write("a.key", &key);
    let both = |what: &str| {
        [
            format!("Warning: the certificate `CN=b` in ca.crt {what}"),
            format!("Warning: the certificate `CN=a` in a.crt {what}"),
        ]
    };
    assert_eq!(files.said("2025-12-31"), both("is not valid before 2026-01-01"));
    assert_eq!(files.said("2026-01-01"), NOTHING);
    assert_eq!(files.said("2026-12-01"), NOTHING);
    assert_eq!(files.said("2026-12-02"), both("expires on 2027-01-01, in 29 days"));
    assert_eq!(files.said("2026-12-30"), both("expires on 2027-01-01, in 1 day"));
    assert_eq!(files.said("2026-12-31"), both("expires on 2027-01-01, in less than a day"));
    assert_eq!(files.said("2027-01-01"), both("has expired on 2027-01-01"));
}

#[test]
fn files_of_a_data_source_name_are_looked_at_too() {
    let files = Files::new();
    let folder = files.folder.path().display();
    let text = format!(
        "jobs: [{{type: snap, name: a, filesystems: {{\"a<\": true}}, pruning: {{keep: [{{type: regex, regex: \".*\"}}]}}, \
         snapshotting: {{type: periodic, prefix: p, interval: 1m, hooks: [\
         {{type: postgres-checkpoint, dsn: \"sslrootcert={folder}/ca.crt sslcert={folder}/a.crt sslkey={folder}/a.key\", \
         filesystems: {{a: true}}}}]}}}}]\n"
    );
    files.write("zrepl.yml", &text);
    let ((certificate, key), (other, _)) = (certificate("a"), certificate("b"));
    files.write("ca.crt", &other);
    files.write("a.crt", &certificate);
    files.write("a.key", &key);
    assert_eq!(files.said("2026-06-01"), NOTHING);
    files.write("ca.crt", "");
    files.write("a.crt", &other);
    assert_eq!(
        files.said("2026-06-01"),
        ["Error: ca.crt contains no certificate", "Error: the key a.key does not belong to the certificate a.crt"]
    );
}

#[test]
fn an_include_that_leads_to_the_file_itself_or_nowhere_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("links.d")).expect("create");
    fs::create_dir(at("broken.d")).expect("create");
    std::os::unix::fs::symlink("../main.yml", at("links.d/again.yml")).expect("link");
    std::os::unix::fs::symlink("nowhere", at("broken.d/lost.yml")).expect("link");
    let main = at("main.yml");
    fs::write(&main, "include: [main.yml, ., links.d, broken.d]\n").expect("write");
    let errors = config::load(Some(&main)).expect_err("refused");
    let itself = format!("cannot read {}: a file cannot include itself", main.display());
    let lost = format!("cannot read {}: no such file or directory", at("broken.d/lost.yml").display());
    let told: Vec<_> = errors.errors.iter().map(|error| error.message()).collect();
    assert_eq!(told, [&*itself, &*itself, &*itself, &*lost]);
}

#[test]
fn what_is_no_yaml_comes_with_something_to_look_for() {
    for (text, place, remedy) in [
        ("jobs:\n- name: a\n type: snap\n", (3, 2), "is this line indented like its neighbours? The keys"),
        ("jobs:\n - name: a\n- name: b\n", (3, 3), "is this line indented like its neighbours? The keys"),
        ("jobs: []\n  global: {}\n", (2, 3), "is this line indented like its neighbours? The keys"),
        ("jobs:\n- name: a\n   type: snap\n", (3, 8), "is it indented like its neighbours"),
        ("jobs:\n- name:a\n  type: snap\n", (3, 7), "is there a blank after every `:`?"),
        ("jobs:\n- name: a: b\n", (2, 10), "A text with `: ` needs quotes"),
        ("global: {a: b\njobs: []\n", (2, 5), "is a `}` or a `,` missing before this?"),
        ("jobs: [a\nglobal: {}\n", (2, 7), "is a `]` or a quotation mark missing before this?"),
        ("jobs: [\n", (1, 7), "what begins here has no end"),
        ("jobs:\n  - a\nb\n", (3, 1), "is a `:` missing after a key?"),
        ("jobs: @x\n", (1, 7), "has to be quoted"),
    ] {
        let errors = config::parse("y.yml", text).expect_err("refused");
        let [error] = errors.errors.as_slice() else { panic!("{text}\n{errors}") };
        let location = error.location().expect("a place");
        assert_eq!((location.line, location.column), place, "{text}\n{errors}");
        assert!(errors.to_string().contains(remedy), "{text}\n{errors}");
    }
}

//! Texts as OpenZFS 2.3 prints them.

use super::*;

fn versions(text: &str) -> Result<(Versions, Vec<String>), Unexpected> {
    let mut rows = VersionRows::default();
    text.lines().try_for_each(|line| rows.push(line))?;
    Ok(rows.finish())
}

fn datasets(text: &str) -> Result<(Vec<Dataset>, Vec<String>), Unexpected> {
    let mut rows = DatasetRows::default();
    text.lines().try_for_each(|line| rows.push(line))?;
    rows.finish()
}

fn holds(text: &str) -> Result<Vec<String>, Unexpected> {
    let mut rows = HoldRows::default();
    text.lines().try_for_each(|line| rows.push(line))?;
    let holds = rows.finish()?;
    Ok(holds.iter().map(|hold| format!("{} {}", hold.snapshot(), hold.tag)).collect())
}

fn names(versions: &[Version]) -> Vec<String> {
    versions.iter().map(|version| format!("{version} {}", version.userrefs)).collect()
}

#[test]
fn versions_come_in_the_order_of_zfs_and_leave_in_ours() {
    // A blank sorts before '#', so the bookmarks of p/a follow the snapshots of "p/a b".
    let text = "p/a@2\t16477934375291816240\t14\t1795254799\t1\n\
                p/a@1\t9097154049854833110\t13\t1795254798\t0\n\
                p/a b@1\t12582603429326301497\t32\t1795255212\t4294967296\n\
                p/a#b1\t16477934375291816240\t14\t1795254799\t-\n";
    let (versions, skipped) = versions(text).unwrap();
    assert_eq!(skipped, [""; 0]);
    assert_eq!(names(&versions["p/a"]), ["@1 0", "#b1 0", "@2 1"]);
    assert_eq!(names(&versions["p/a b"]), ["@1 4294967295"]);
    let first = &versions["p/a"][0];
    assert_eq!(
        (first.guid, first.createtxg, first.creation),
        (Guid(9_097_154_049_854_833_110), CreateTxg(13), UnixTime(1_795_254_798))
    );
    let copies = [&versions["p/a"][0], &versions["p/a b"][0]].map(|version| version.name.shared());
    assert!(Arc::ptr_eq(&copies[0], &copies[1]), "the name `1` is stored once");
}

#[test]
fn a_version_takes_48_bytes() {
    assert_eq!(size_of::<Version>(), 48);
}

#[test]
fn unusable_version_names_are_left_out_with_a_reason() {
    let (versions, skipped) = versions("p/a@x+y\t1\t2\t3\t0\np/a@z\t2\t3\t4\t0\n").unwrap();
    assert_eq!(names(&versions["p/a"]), ["@z 0"]);
    assert_eq!(skipped, ["p/a@x+y: invalid snapshot or bookmark name \"x+y\": character '+' is not allowed"]);
}

#[test]
fn malformed_version_rows_are_errors() {
    for (row, problem) in [
        ("p/a@1\t1\t2\t3", "4 columns instead of 5"),
        ("p/a@1\t1\t2\t3\t0\t", "6 columns instead of 5"),
        ("", "1 columns instead of 5"),
        ("p/a\t1\t2\t3\t0", "no snapshot or bookmark"),
        ("p/a@1\t-1\t2\t3\t0", "guid \"-1\" is no number"),
        ("p/a@1\t1\t\t3\t0", "createtxg \"\" is no number"),
        ("p/a@1\t1\t2\tx\t0", "creation \"x\" is no number"),
        ("p/a@1\t1\t2\t3\t-", "userrefs \"-\" is no number"),
        ("p/a#1\t1\t2\t3\t0", "userrefs of a bookmark"),
        ("p/a@1\t18446744073709551616\t2\t3\t0", "guid \"18446744073709551616\" is no number"),
    ] {
        let error = versions(&format!("{row}\n")).unwrap_err().into_problem();
        assert!(error.starts_with(problem), "{row:?}: {error}");
    }
}

#[test]
fn datasets_have_kind_key_token_and_placeholder() {
    let text = "p\ttype\tfilesystem\t-\n\
                p\tkeystatus\t-\t-\n\
                p\treceive_resume_token\t-\t-\n\
                p\tzrepl:placeholder\t-\t-\n\
                p/vol\ttype\tvolume\t-\n\
                p/vol\tkeystatus\tunavailable\t-\n\
                p/vol\treceive_resume_token\t1-b55-b0-789c\t-\n\
                p/a/b\ttype\tfilesystem\t-\n\
                p/a/b\tkeystatus\tavailable\t-\n\
                p/a/b\treceive_resume_token\t-\t-\n\
                p/a/b\tzrepl:placeholder\toff\tlocal\n\
                p/a\ttype\tfilesystem\t-\n\
                p/a\tkeystatus\tnone\t-\n\
                p/a\treceive_resume_token\t-\t-\n\
                p/a\tzrepl:placeholder\ton\tlocal\n";
    let (datasets, skipped) = datasets(text).unwrap();
    assert_eq!(skipped, [""; 0]);
    let rows: Vec<String> = datasets
        .iter()
        .map(|d| format!("{} {:?} {:?} {:?} {:?}", d.name, d.kind, d.encryption, d.resume_token, d.placeholder))
        .collect();
    assert_eq!(
        rows,
        [
            "p Filesystem None None Unset",
            "p/a Filesystem None None On",
            "p/a/b Filesystem Encrypted { key_loaded: true } None Off",
            "p/vol Volume Encrypted { key_loaded: false } Some(\"1-b55-b0-789c\") Unset",
        ]
    );
}

fn with_placeholder(value: &str) -> Result<Placeholder, Unexpected> {
    let text = format!(
        "p/a\ttype\tfilesystem\t-\np/a\tkeystatus\t-\t-\np/a\treceive_resume_token\t-\t-\np/a\tzrepl:placeholder\t{value}\n\
         p/b\ttype\tfilesystem\t-\np/b\tkeystatus\t-\t-\np/b\treceive_resume_token\t-\t-\np/b\tzrepl:placeholder\t-\t-\n"
    );
    let (datasets, _) = datasets(&text)?;
    assert_eq!(datasets.len(), 2, "{value:?}");
    Ok(datasets[0].placeholder)
}

#[test]
fn placeholder_values() {
    // SHA-512/256 of "p/a"
    let legacy = legacy_placeholder(&DatasetName::parse("p/a").unwrap());
    assert_eq!(legacy.len(), 64);
    for (value, expected) in [
        ("on", Placeholder::On),
        ("off", Placeholder::Off),
        ("", Placeholder::Unset),
        ("yes", Placeholder::Unset),
        ("ON", Placeholder::Unset),
        (&*legacy, Placeholder::On),
        (&*legacy.to_uppercase(), Placeholder::Unset),
        ("x\nz\ta", Placeholder::Unset),
        ("on\n", Placeholder::Unset),
        ("\non", Placeholder::Unset),
        ("a\tb\tc", Placeholder::Unset),
        (&"x".repeat(8192), Placeholder::Unset),
        (&"x\n".repeat(4000), Placeholder::Unset),
    ] {
        assert_eq!(with_placeholder(&format!("{value}\tlocal")), Ok(expected), "{value:?}");
    }
}

#[test]
fn the_old_placeholder_hash_is_that_of_zrepl() {
    let hash = legacy_placeholder(&DatasetName::parse("abc").unwrap());
    // The test vector of FIPS 180-4 for the message "abc".
    assert_eq!(hash, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23");
}

#[test]
fn malformed_dataset_rows_are_errors() {
    let rest = "p\tkeystatus\t-\t-\np\treceive_resume_token\t-\t-\n";
    for (text, problem) in [
        ("p\ttype\tfilesystem\n".to_owned(), "3 columns instead of 4"),
        ("p\ttype\tfilesystem\t-\t-\n".to_owned(), "5 columns instead of 4"),
        ("p\n".to_owned(), "less than 4 columns"),
        ("p\ttype\tsnapshot\t-\n".to_owned(), "unknown type"),
        ("p\tquota\t1\t-\n".to_owned(), "a property that was not asked for"),
        (rest.to_owned(), "no type"),
        ("p\ttype\tfilesystem\t-\np\tkeystatus\tbroken\t-\n".to_owned(), "unknown key status"),
        (format!("p\ttype\tfilesystem\t-\n{rest}p\tzrepl:placeholder\ton\n"), "no source column"),
        (
            format!("p\ttype\tfilesystem\t-\n{rest}p\tzrepl:placeholder\ton\nq\ttype\tfilesystem\t-\n"),
            "no source column",
        ),
        (format!("p\ttype\tfilesystem\t-\n{rest}p\ttype\tfilesystem\t-\n{rest}"), "a dataset twice"),
    ] {
        let error = datasets(&text).unwrap_err().into_problem();
        assert!(error.starts_with(problem), "{text:?}: {error}");
    }
}

#[test]
fn hold_tags_may_be_anything() {
    let text = "p/a@6\tT\tSat Nov 21 10:00 2026\n\
                p/a@6\tx\nz\tSat Nov 21 10:00 2026\n\
                p/a@6\tx\ty\tSat Nov 21 10:00 2026\n\
                p/a b@1\ta b\tSat Nov 21 10:00 2026\n";
    assert_eq!(holds(text).unwrap(), ["p/a@6 T", "p/a b@1 a b"]);
    assert_eq!(holds("").unwrap(), [""; 0]);
    for bad in ["p/a@6\n", "p/a@6\tT\n", "p/a\tT\tSat\n"] {
        assert!(holds(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn lines_survive_any_chunking() {
    let text = "one\n\ntwo with more\nthree";
    for size in 1..text.len() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut keep = |line: &str| {
            seen.push(line.to_owned());
            Ok::<(), ()>(())
        };
        for chunk in text.as_bytes().chunks(size) {
            lines.push(chunk, &mut keep).unwrap();
        }
        lines.finish(&mut keep).unwrap();
        assert_eq!(seen, ["one", "", "two with more", "three"], "chunks of {size}");
    }
}

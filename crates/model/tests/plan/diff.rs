use model::Version;
use model::diff::{Comparison, compare};

use crate::notation::{unsorted, versions};

fn words<'a>(versions: impl IntoIterator<Item = &'a &'a Version>) -> String {
    versions.into_iter().map(|version| version.to_string()).collect::<Vec<_>>().join(" ")
}

fn show(comparison: &Comparison<'_>) -> String {
    match comparison {
        Comparison::Unrelated => "unrelated".into(),
        Comparison::Follows { common, later } => format!("{common} then [{}]", words(later)),
        Comparison::Diverged { common, sender_only, receiver_only } => {
            format!("{common} diverged [{}] [{}]", words(sender_only), words(receiver_only))
        }
        Comparison::OrderDiffers { older, newer } => format!("{older} before {newer} only on the sender"),
    }
}

#[test]
fn the_newest_common_version_and_what_follows() {
    let table = [
        // sender, receiver, result
        ("@a @b @c", "@a", "@a then [@b @c]"),
        ("@a @b @c", "@a @b @c", "@c then []"),
        ("@a @b @c", "@c", "@c then []"),
        ("@a @b @c", "@b", "@b then [@c]"),
        ("@a @b", "", "unrelated"),
        ("@a @b", "@x @y", "unrelated"),
        ("", "", "unrelated"),
        ("", "@a @b", "unrelated"),
        ("@a @b", "@a @x", "@a diverged [@b] [@x]"),
        ("@a", "@a @x @y", "@a diverged [] [@x @y]"),
        ("@a @b @c @d", "@a @b @c @x @y", "@c diverged [@d] [@x @y]"),
        // what either side lacks before the common version does not matter
        ("@b @d @e", "@a @b @c @d", "@d then [@e]"),
        ("@d @e", "@a @b @c @d", "@d then [@e]"),
        // the names on the receiver do not matter
        ("@a @b @c", "@x=a @y=b", "@b then [@c]"),
    ];
    for (sender, receiver, expected) in table {
        let (sender_list, receiver_list) = (versions(sender), versions(receiver));
        assert_eq!(show(&compare(&sender_list, &receiver_list)), expected, "{sender} / {receiver}");
    }
}

#[test]
fn a_bookmark_stands_for_a_lost_snapshot_only_on_the_sender() {
    let table = [
        ("#a @b @c", "@a", "#a then [@b @c]"),
        ("#a @b #c @d", "@a", "#a then [@b @d]"),
        ("#a #b @c #d @e #f", "@a @b", "#b then [@c @e]"),
        ("@a #b", "@a @b", "#b then []"),
        ("@a #a @b", "@a", "@a then [@b]"),
        ("#a @a @b", "@a", "@a then [@b]"),
        ("#x=a @a #y=a @b", "@a", "@a then [@b]"),
        ("#x=a #y=a @b", "@a", "#y then [@b]"),
        ("@a @b @c", "@a @b #c", "@b then [@c]"),
        ("@a @b", "@a #x", "@a then [@b]"),
        ("@a @b", "#a", "unrelated"),
        ("#a", "@a", "#a then []"),
    ];
    for (sender, receiver, expected) in table {
        let (sender_list, receiver_list) = (versions(sender), versions(receiver));
        assert_eq!(show(&compare(&sender_list, &receiver_list)), expected, "{sender} / {receiver}");
        let (mut sender_list, receiver_list) = (unsorted(sender), unsorted(receiver));
        sender_list.reverse();
        if !sender.contains('x') {
            assert_eq!(show(&compare(&sender_list, &receiver_list)), expected, "{sender} / {receiver}, unsorted");
        }
    }
}

#[test]
fn common_versions_in_different_orders_have_no_newest() {
    let table = [
        ("@a @b @c", "@b @a", "@a before @b only on the sender"),
        ("@a @b @c", "@a @c @x @b", "@b before @c only on the sender"),
        ("#a @b @c", "@b @a", "#a before @b only on the sender"),
    ];
    for (sender, receiver, expected) in table {
        let (sender_list, receiver_list) = (versions(sender), versions(receiver));
        assert_eq!(show(&compare(&sender_list, &receiver_list)), expected, "{sender} / {receiver}");
    }
}

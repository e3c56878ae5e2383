use model::plan::protection::{
    ProtectionChanges, after_completion, after_receive, protect_before_send, stale_protections,
};
use model::protection::ProtectionStrategy::{self, Incremental, Nothing, Resumability};
use model::protection::parse_cursor_name;

use crate::notation::{job, protections, reference};

/// `+hold @a +cursor:a of @a -hold @b -cursor:b`: what is made, then what is removed.
fn show(changes: &ProtectionChanges) -> String {
    let mut words: Vec<String> = changes.holds.iter().map(|version| format!("+hold {version}")).collect();
    let short = |name: &str| match name {
        name if name.contains("TENTATIVE") => format!("tentative:{}", guid_text(name)),
        name => format!("cursor:{}", guid_text(name)),
    };
    words.extend(changes.bookmarks.iter().map(|(of, name)| format!("+{} of {of}", short(name.as_str()))));
    words.extend(changes.release.iter().map(|hold| format!("-hold {}", hold.version)));
    words.extend(changes.destroy_bookmarks.iter().map(|name| format!("-{}", short(name.as_str()))));
    words.join(" ")
}

/// The name that a guid was made from.
fn guid_text(bookmark: &str) -> String {
    let (_, guid, _) = parse_cursor_name(bookmark).unwrap();
    guid.0.to_be_bytes().iter().filter(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

#[test]
fn before_a_send_both_ends_are_protected_and_leftovers_go() {
    let cursor_c = "#zrepl_CURSOR_G_0000000000000063_J_j=c";
    let tentative_c = "#zrepl_CURSORTENTATIVE__G_0000000000000063_J_j=c";
    let table: [(&str, &str, ProtectionStrategy, &str, &str); 19] = [
        // from, to, strategy, existing, changes
        ("", "@d", Resumability, "", "+hold @d"),
        ("@c", "@d", Resumability, "cursor:c", "+hold @c +hold @d"),
        ("@c", "@d", Resumability, "cursor:c step:c step:d", ""),
        ("@c", "@d", Resumability, "step:b step:c tentative:b", "+hold @d -hold @b -tentative:b"),
        (cursor_c, "@d", Resumability, "cursor:c cursor:b", "+hold @d"),
        (tentative_c, "@d", Resumability, "tentative:c tentative:d", "+hold @d -tentative:d"),
        ("@c", "@d", Resumability, "tentative:c tentative:d", "+hold @c +hold @d -tentative:c -tentative:d"),
        ("", "@d", Incremental, "", "+tentative:d of @d"),
        // the cursor stays until the next one is there
        ("@c", "@d", Incremental, "cursor:c", "+tentative:d of @d"),
        ("@c", "@d", Incremental, "cursor:c tentative:c", "+tentative:d of @d"),
        ("@c", "@d", Incremental, "cursor:b cursor:d", "+tentative:c of @c +tentative:d of @d"),
        ("@c", "@d", Incremental, "tentative:c tentative:d", ""),
        ("@c", "@d", Incremental, "step:c step:d", "+tentative:c of @c +tentative:d of @d -hold @c -hold @d"),
        (tentative_c, "@d", Incremental, "tentative:b tentative:c", "+tentative:d of @d -tentative:b"),
        (cursor_c, "@d", Incremental, "cursor:c", "+tentative:d of @d"),
        ("@c", "@d", Nothing, "", ""),
        ("@c", "@d", Nothing, "cursor:c step:c tentative:d", "-hold @c -tentative:d"),
        (tentative_c, "@d", Nothing, "tentative:b tentative:c", "-tentative:b"),
        ("@c", "@d", Resumability, "received:a step:c step:d", ""),
    ];
    for (from, to, strategy, existing, expected) in table {
        let from = (!from.is_empty()).then(|| reference(from));
        let changes =
            protect_before_send(&job(), from.as_ref(), &reference(to), strategy, &protections(existing)).unwrap();
        assert_eq!(show(&changes), expected, "{from:?} {to} {strategy:?} {existing}");
    }
}

#[test]
fn after_a_step_the_cursor_is_on_its_end_and_nothing_else_is_left() {
    let cursor_d = "#zrepl_CURSOR_G_0000000000000064_J_j=d";
    let tentative_d = "#zrepl_CURSORTENTATIVE__G_0000000000000064_J_j=d";
    let table = [
        // to, strategy, existing, changes
        ("@d", Resumability, "", "+cursor:d of @d"),
        ("@d", Resumability, "cursor:d", ""),
        ("@d", Resumability, "cursor:c step:c step:d", "+cursor:d of @d -hold @c -hold @d -cursor:c"),
        ("@d", Resumability, "cursor:c cursor:d", "-cursor:c"),
        ("@d", Incremental, "cursor:c tentative:c tentative:d", "+cursor:d of @d -cursor:c -tentative:c -tentative:d"),
        ("@d", Incremental, "cursor:d step:b", "-hold @b"),
        ("@d", Nothing, "cursor:c cursor:d step:c tentative:d", "-hold @c -cursor:c -cursor:d -tentative:d"),
        ("@d", Nothing, "", ""),
        // what has only a bookmark left never loses it
        (cursor_d, Resumability, "cursor:c cursor:d tentative:d", "-cursor:c -tentative:d"),
        (tentative_d, Incremental, "cursor:c tentative:d", ""),
        ("#other=d", Resumability, "cursor:c step:c", ""),
        (cursor_d, Nothing, "cursor:c cursor:d", "-cursor:c"),
        (tentative_d, Nothing, "cursor:c tentative:d", "-cursor:c"),
    ];
    for (to, strategy, existing, expected) in table {
        let changes = after_completion(&job(), &reference(to), strategy, &protections(existing)).unwrap();
        assert_eq!(show(&changes), expected, "{to} {strategy:?} {existing}");
    }
}

#[test]
fn after_a_receive_only_its_snapshot_is_held() {
    let table = [
        (Resumability, "", "+hold @d"),
        (Resumability, "received:c", "+hold @d -hold @c"),
        (Incremental, "received:b received:c received:d", "-hold @b -hold @c"),
        (Incremental, "received:d", ""),
        (Nothing, "received:c received:d", "-hold @c -hold @d"),
        (Nothing, "", ""),
        (Resumability, "step:c cursor:c received:d", ""),
    ];
    for (strategy, existing, expected) in table {
        let changes = after_receive(&reference("@d"), strategy, &protections(existing));
        assert_eq!(show(&changes), expected, "{strategy:?} {existing}");
    }
}

#[test]
fn stale_is_what_no_step_and_no_base_can_need() {
    let table = [
        ("", ""),
        ("cursor:c30", ""),
        // if the receiver lost c and b, the cursor on a is all that is left of the base
        ("cursor:a10 cursor:c30 cursor:b20", ""),
        ("received:a10 received:b20", "-hold @a"),
        ("cursor:b20 step:a10 step:b20 step:c30", "-hold @a -hold @b"),
        // a arrived without the sender being told, and the step from a to b was interrupted
        ("step:a10 step:b20", ""),
        ("step:a10", ""),
        ("cursor:b20 tentative:a10 tentative:b20 tentative:c30", "-tentative:b"),
        ("tentative:a10 tentative:b20", ""),
        // a step from b to c was interrupted: what it needs stays
        ("cursor:b20 step:c30 tentative:c30 received:a10", ""),
    ];
    for (existing, expected) in table {
        assert_eq!(show(&stale_protections(&protections(existing))), expected, "{existing}");
    }
}

//! Names of datasets that were moved out of the way of a replication, and are nobody's business since.
//!
//! The name says it all, so that the mark survives a move to another machine and a person sees it.

use jiff::Timestamp;

use crate::name::{DatasetName, MAX_NAME_LEN, NameError};

/// Between the old name and the time.
const MARK: &str = ".zrepl.aside.";

/// `20261121T160413Z`, in UTC.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// What the time looks like, a digit for each `0`.
const TIME_FORM: &str = "00000000T000000Z";

/// The name for `dataset` once it is moved out of the way: `<name>.zrepl.aside.<UTC time>`. The old name
/// is shortened if need be, so that what hangs below it (`longest_below` bytes, such as
/// `/child@snapshot`) still fits.
///
/// # Errors
/// It does not fit even with an old name of one character.
pub fn aside_name(dataset: &DatasetName, at: Timestamp, longest_below: usize) -> Result<DatasetName, NameError> {
    let text = dataset.as_str();
    let (parent, own) = text.rsplit_once('/').map_or(("", text), |(parent, own)| (parent, own));
    let slash = usize::from(!parent.is_empty());
    let suffix = format!("{MARK}{}", at.strftime(TIME));
    let room = MAX_NAME_LEN.saturating_sub(parent.len() + slash + suffix.len() + longest_below);
    let problem = || NameError {
        what: "dataset name",
        name: text.to_owned(),
        problem: format!("leaves no room for {suffix:?} and what is below it in the {MAX_NAME_LEN} bytes of ZFS"),
    };
    // Names are ASCII.
    let own = own.get(..own.len().min(room)).filter(|own| !own.is_empty()).ok_or_else(problem)?;
    match parent {
        "" => DatasetName::parse(&format!("{own}{suffix}")),
        parent => DatasetName::parse(&format!("{parent}/{own}{suffix}")),
    }
}

/// Whether a dataset was moved out of the way, or is below one that was.
pub fn is_aside(dataset: &DatasetName) -> bool {
    dataset.components().any(is_aside_component)
}

fn is_aside_component(component: &str) -> bool {
    let Some((before, time)) = component.rsplit_once(MARK) else { return false };
    let fits = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    !before.is_empty() && time.len() == TIME_FORM.len() && time.bytes().zip(TIME_FORM.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DatasetName {
        DatasetName::parse(text).unwrap()
    }

    fn at() -> Timestamp {
        "2026-11-21T16:04:13.9Z".parse().unwrap()
    }

    #[test]
    fn the_name_says_what_it_was_and_since_when() {
        assert_eq!(aside_name(&name("p/a b"), at(), 0).unwrap().as_str(), "p/a b.zrepl.aside.20261121T160413Z");
        for moved in ["p/a b.zrepl.aside.20261121T160413Z", "p/x.zrepl.aside.20261121T160413Z/child"] {
            assert!(is_aside(&name(moved)), "{moved}");
        }
        for other in [
            "p/a",
            "p/a.zrepl.aside",
            "p/.zrepl.aside.20261121T160413Z",
            "p/a.zrepl.aside.20261121T160413",
            "p/a.zrepl.aside.20261121T160413Z.more",
            "p/a.zrepl.aside.2026112xT160413Z",
        ] {
            assert!(!is_aside(&name(other)), "{other}");
        }
    }

    #[test]
    fn a_long_name_is_shortened_as_far_as_that_helps() {
        let long = name(&format!("p/{}", "x".repeat(253)));
        for below in [0, 100, 222] {
            let moved = aside_name(&long, at(), below).unwrap();
            assert_eq!(moved.as_str().len() + below, MAX_NAME_LEN);
            assert!(is_aside(&moved) && moved.parent() == long.parent());
        }
        assert!(aside_name(&long, at(), 224).is_err());
    }
}

//! Which times a layout tells apart.

use std::time::Duration;

use super::layout::Piece;

/// What a layout can tell of a time, from coarse to fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Month,
    Day,
    HalfDay,
    Hour,
    Minute,
    Second,
    /// So many digits.
    Fraction(usize),
}

const DAY: u64 = 24 * 3600;

impl Unit {
    /// Times further apart than this look different.
    fn span(self) -> Duration {
        Duration::from_secs(match self {
            Unit::Year => 366 * DAY,
            Unit::Month => 31 * DAY,
            Unit::Day => DAY,
            Unit::HalfDay => DAY / 2,
            Unit::Hour => 3600,
            Unit::Minute => 60,
            Unit::Second => 1,
            Unit::Fraction(digits) => {
                let parts = 10_u64.saturating_pow(u32::try_from(digits).unwrap_or(9).min(9));
                return Duration::from_nanos(1_000_000_000 / parts);
            }
        })
    }
}

/// The larger units, each of which the next one is a part of.
const CHAIN: [Unit; 7] = [Unit::Second, Unit::Minute, Unit::Hour, Unit::HalfDay, Unit::Day, Unit::Month, Unit::Year];

fn units(piece: &Piece) -> &'static [Unit] {
    const DIGITS: [&[Unit]; 10] = [
        &[],
        &[Unit::Fraction(1)],
        &[Unit::Fraction(2)],
        &[Unit::Fraction(3)],
        &[Unit::Fraction(4)],
        &[Unit::Fraction(5)],
        &[Unit::Fraction(6)],
        &[Unit::Fraction(7)],
        &[Unit::Fraction(8)],
        &[Unit::Fraction(9)],
    ];
    match piece {
        Piece::Literal(_) | Piece::ZoneName | Piece::Offset(_) => &[],
        Piece::LongYear | Piece::ShortYear => &[Unit::Year],
        Piece::LongMonth | Piece::ShortMonth | Piece::Month(_) => &[Unit::Month],
        Piece::YearDay(_) => &[Unit::Month, Unit::Day],
        Piece::Day(_) => &[Unit::Day],
        // Tells days apart only within a week; see `cycle`.
        Piece::LongWeekday | Piece::ShortWeekday => &[],
        Piece::Hour => &[Unit::HalfDay, Unit::Hour],
        Piece::Hour12(_) => &[Unit::Hour],
        Piece::HalfDay { .. } => &[Unit::HalfDay],
        Piece::Minute(_) => &[Unit::Minute],
        Piece::Second(_) => &[Unit::Second],
        Piece::Fraction { digits, .. } => DIGITS.get(*digits).copied().unwrap_or(&[]),
    }
}

fn shown(pieces: &[Piece]) -> Vec<Unit> {
    pieces.iter().flat_map(units).copied().collect()
}

fn shows_weekday(pieces: &[Piece]) -> bool {
    pieces.iter().any(|piece| matches!(piece, Piece::LongWeekday | Piece::ShortWeekday))
}

/// The span of the finest unit.
pub(super) fn finest(pieces: &[Piece]) -> Option<Duration> {
    let weekday = shows_weekday(pieces).then_some(Unit::Day);
    shown(pieces).into_iter().chain(weekday).max().map(Unit::span)
}

/// The span of the first unit above the finest that is missing: within each such span the same names
/// come again. (A missing hour makes the minutes start anew every hour.)
pub(super) fn cycle(pieces: &[Piece]) -> Option<Duration> {
    let shown = shown(pieces);
    let weekday = shows_weekday(pieces);
    let finest = shown.iter().copied().chain(weekday.then_some(Unit::Day)).max()?;
    let mut inner = finest;
    for unit in CHAIN.into_iter().filter(|unit| *unit < finest || (weekday && *unit == Unit::Day)) {
        if !shown.contains(&unit) {
            let week = weekday && unit == Unit::Day;
            return Some(if week { Duration::from_secs(7 * DAY) } else { whole_of(inner) });
        }
        inner = unit;
    }
    None
}

/// How long it takes until a unit starts anew.
fn whole_of(unit: Unit) -> Duration {
    Duration::from_secs(match unit {
        Unit::Year => 100 * 366 * DAY,
        Unit::Month => 366 * DAY,
        Unit::Day => 31 * DAY,
        Unit::HalfDay => DAY,
        Unit::Hour => DAY / 2,
        Unit::Minute => 3600,
        Unit::Second => 60,
        Unit::Fraction(_) => 1,
    })
}

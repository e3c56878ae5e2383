//! Times written by example, as the Go standard library does: the layout shows how one certain moment
//! (Monday 2 January 2006, 15:04:05, seven hours west of Greenwich) would look.

use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::{Offset, TimeZone};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// One piece of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    LongYear,
    ShortYear,
    LongMonth,
    ShortMonth,
    /// `1`, `01`
    Month(Pad),
    LongWeekday,
    ShortWeekday,
    /// `2`, `_2`, `02`
    Day(Pad),
    /// `__2`, `002`
    YearDay(Pad),
    Hour,
    /// `3`, `03`
    Hour12(Pad),
    Minute(Pad),
    Second(Pad),
    /// A separator and digits; trailing zeros may be left out.
    Fraction {
        separator: char,
        digits: usize,
        trim: bool,
    },
    /// `PM` or `pm`
    HalfDay {
        upper: bool,
    },
    /// `MST`
    ZoneName,
    Offset(OffsetStyle),
}

/// How a number is filled up to its full width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pad {
    None,
    Zero,
    Blank,
}

/// `-0700` and its relatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetStyle {
    /// Greenwich is `Z`.
    zulu: bool,
    colons: bool,
    minutes: bool,
    seconds: bool,
}

/// Longest first, so that no element hides a longer one that begins with it. All of them without the
/// sign or `Z` before them.
const OFFSETS: [(&str, OffsetStyle); 5] = [
    ("07:00:00", OffsetStyle { zulu: false, colons: true, minutes: true, seconds: true }),
    ("070000", OffsetStyle { zulu: false, colons: false, minutes: true, seconds: true }),
    ("07:00", OffsetStyle { zulu: false, colons: true, minutes: true, seconds: false }),
    ("0700", OffsetStyle { zulu: false, colons: false, minutes: true, seconds: false }),
    ("07", OffsetStyle { zulu: false, colons: false, minutes: false, seconds: false }),
];

/// Takes a layout apart.
pub(super) fn parse(layout: &str) -> Vec<Piece> {
    let (mut pieces, mut literal) = (Vec::new(), String::new());
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        let (piece, len) = match element(rest) {
            Some((piece, len)) => (Some(piece), len),
            None => (None, first.len_utf8()),
        };
        let (text, after) = rest.split_at_checked(len).unwrap_or((rest, ""));
        match piece {
            Some(piece) => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
            }
            None => literal.push_str(text),
        }
        rest = after;
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    pieces
}

/// The element that `text` begins with, and its length in bytes.
fn element(text: &str) -> Option<(Piece, usize)> {
    let abbreviation = |short: &str| {
        text.strip_prefix(short).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_lowercase()))
    };
    match text.as_bytes().first()? {
        b'J' if text.starts_with("January") => Some((Piece::LongMonth, 7)),
        b'J' if abbreviation("Jan") => Some((Piece::ShortMonth, 3)),
        b'M' if text.starts_with("Monday") => Some((Piece::LongWeekday, 6)),
        b'M' if abbreviation("Mon") => Some((Piece::ShortWeekday, 3)),
        b'P' if text.starts_with("PM") => Some((Piece::HalfDay { upper: true }, 2)),
        b'p' if text.starts_with("pm") => Some((Piece::HalfDay { upper: false }, 2)),
        b'.' | b',' => fraction(text),
        // An underscore before the year, not a day filled up with a blank.
        b'_' if text.starts_with("_2006") => None,
        b'-' | b'Z' => offset(text),
        _ => FIXED.iter().find(|(word, _)| text.starts_with(word)).map(|(word, piece)| (piece.clone(), word.len())),
    }
}

/// Elements that are told by their text alone. An element stands after the longer ones that begin with it.
const FIXED: [(&str, Piece); 17] = [
    ("MST", Piece::ZoneName),
    ("002", Piece::YearDay(Pad::Zero)),
    ("01", Piece::Month(Pad::Zero)),
    ("02", Piece::Day(Pad::Zero)),
    ("03", Piece::Hour12(Pad::Zero)),
    ("04", Piece::Minute(Pad::Zero)),
    ("05", Piece::Second(Pad::Zero)),
    ("06", Piece::ShortYear),
    ("15", Piece::Hour),
    ("1", Piece::Month(Pad::None)),
    ("2006", Piece::LongYear),
    ("2", Piece::Day(Pad::None)),
    ("__2", Piece::YearDay(Pad::Blank)),
    ("_2", Piece::Day(Pad::Blank)),
    ("3", Piece::Hour12(Pad::None)),
    ("4", Piece::Minute(Pad::None)),
    ("5", Piece::Second(Pad::None)),
];

/// `.000` or `,999`: zeros are printed, nines are printed without trailing zeros. More digits after
/// them make it a plain text.
fn fraction(text: &str) -> Option<(Piece, usize)> {
    let separator = text.chars().next()?;
    let digits = text.get(1..)?;
    let kind = digits.chars().next().filter(|digit| "09".contains(*digit))?;
    let rest = digits.trim_start_matches(kind);
    let count = digits.len() - rest.len();
    if rest.starts_with(|next: char| next.is_ascii_digit()) {
        return None;
    }
    Some((Piece::Fraction { separator, digits: count.min(9), trim: kind == '9' }, 1 + count))
}

fn offset(text: &str) -> Option<(Piece, usize)> {
    let digits = text.get(1..)?;
    let (word, style) = OFFSETS.iter().find(|(word, _)| digits.starts_with(word))?;
    Some((Piece::Offset(OffsetStyle { zulu: text.starts_with('Z'), ..*style }), 1 + word.len()))
}

/// A moment as a place sees it.
pub(super) struct LocalTime {
    civil: DateTime,
    offset: Offset,
    /// The zone's abbreviation.
    zone: String,
}

impl LocalTime {
    pub(super) fn new(moment: Timestamp, zone: &TimeZone) -> Self {
        let info = zone.to_offset_info(moment);
        Self { civil: info.offset().to_datetime(moment), offset: info.offset(), zone: info.abbreviation().to_owned() }
    }

    /// Writes the moment by a layout.
    pub(super) fn write(&self, pieces: &[Piece]) -> String {
        pieces.iter().fold(String::new(), |text, piece| text + &self.piece(piece))
    }

    fn piece(&self, piece: &Piece) -> String {
        let civil = &self.civil;
        match piece {
            Piece::Literal(text) => text.clone(),
            Piece::LongYear if civil.year() < 0 => format!("-{:04}", civil.year().unsigned_abs()),
            Piece::LongYear => format!("{:04}", civil.year()),
            Piece::ShortYear => format!("{:02}", civil.year().max(0) % 100),
            Piece::LongMonth => self.month().to_owned(),
            Piece::ShortMonth => self.month().chars().take(3).collect(),
            Piece::Month(pad) => number(civil.month(), 2, *pad),
            Piece::LongWeekday => self.weekday().to_owned(),
            Piece::ShortWeekday => self.weekday().chars().take(3).collect(),
            Piece::Day(pad) => number(civil.day(), 2, *pad),
            Piece::YearDay(pad) => number(civil.day_of_year(), 3, *pad),
            Piece::Hour => format!("{:02}", civil.hour()),
            Piece::Hour12(pad) => number(if civil.hour() % 12 == 0 { 12 } else { civil.hour() % 12 }, 2, *pad),
            Piece::Minute(pad) => number(civil.minute(), 2, *pad),
            Piece::Second(pad) => number(civil.second(), 2, *pad),
            Piece::Fraction { separator, digits, trim } => self.fraction(*separator, *digits, *trim),
            Piece::HalfDay { upper } => match (civil.hour() < 12, upper) {
                (true, true) => "AM",
                (true, false) => "am",
                (false, true) => "PM",
                (false, false) => "pm",
            }
            .to_owned(),
            Piece::ZoneName => self.zone.clone(),
            Piece::Offset(style) => self.offset(*style),
        }
    }

    fn month(&self) -> &'static str {
        let index = usize::try_from(self.civil.month() - 1).unwrap_or(0);
        MONTHS.get(index).copied().unwrap_or("")
    }

    fn weekday(&self) -> &'static str {
        match self.civil.weekday() {
            Weekday::Monday => "Monday",
            Weekday::Tuesday => "Tuesday",
            Weekday::Wednesday => "Wednesday",
            Weekday::Thursday => "Thursday",
            Weekday::Friday => "Friday",
            Weekday::Saturday => "Saturday",
            Weekday::Sunday => "Sunday",
        }
    }

    fn fraction(&self, separator: char, digits: usize, trim: bool) -> String {
        let all = format!("{:09}", self.civil.subsec_nanosecond());
        let shown: String = all.chars().take(digits).collect();
        let shown = if trim { shown.trim_end_matches('0') } else { &shown };
        if shown.is_empty() { String::new() } else { format!("{separator}{shown}") }
    }

    fn offset(&self, style: OffsetStyle) -> String {
        let seconds = self.offset.seconds();
        if seconds == 0 && style.zulu {
            return "Z".to_owned();
        }
        // By whole minutes: half a minute west of Greenwich is `+0000`, as it has always been written.
        let sign = if seconds <= -60 { '-' } else { '+' };
        let seconds = seconds.unsigned_abs();
        let colon = if style.colons { ":" } else { "" };
        let mut text = format!("{sign}{:02}", seconds / 3600);
        if style.minutes {
            text += &format!("{colon}{:02}", seconds / 60 % 60);
        }
        if style.seconds {
            text += &format!("{colon}{:02}", seconds % 60);
        }
        text
    }
}

fn number(value: impl Into<i64>, width: usize, pad: Pad) -> String {
    let value: i64 = value.into();
    match pad {
        Pad::None => value.to_string(),
        Pad::Zero => format!("{value:0width$}"),
        Pad::Blank => format!("{value:width$}"),
    }
}

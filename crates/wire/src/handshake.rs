//! What both sides say before anything else: the banner with the protocol's version, then the
//! client's label that names what the connection is for.
//!
//! No I/O here. The decoders take bytes as they arrive and never more than belong to them, so that
//! whatever follows in the same segment is left to whoever comes next.

use std::fmt;

use thiserror::Error;

/// The protocol of zrepl 0.6 and 0.7.
pub const PROTOCOL_VERSION: u16 = 7;

/// Longest body of a banner that is read, bytes; zrepl's own limit.
pub const MAX_BODY: usize = 16 * 4096;

/// Most extensions in a banner; zrepl's own limit.
pub const MAX_EXTENSIONS: usize = 9998;

/// Bytes before the body: ten digits and a blank.
const PREFIX: usize = 11;

/// Bytes of a label.
pub const LABEL_LENGTH: usize = 64;

/// What one side says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    /// The version of the protocol, 1 to 9999.
    pub version: u16,
    /// One line each, in the order sent. Whoever does not know a line ignores it.
    pub extensions: Vec<String>,
}

/// A banner that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BannerError {
    /// The first eleven bytes are no length. Something else listens there, perhaps a web server.
    #[error("the peer does not begin with a banner but with {0:?} (is it a zrepl daemon that listens there?)")]
    Length(String),
    /// The announced length is above [`MAX_BODY`].
    #[error("the peer announces a banner of {0} bytes, {MAX_BODY} are allowed")]
    TooLong(u64),
    /// The body is not UTF-8 or has another form.
    #[error("the peer's banner cannot be read: {0}")]
    Body(&'static str),
    /// The number of lines is not the announced one.
    #[error("the peer's banner announces {announced} extensions and has {found}")]
    Count {
        /// The number in the first line.
        announced: usize,
        /// Lines that follow.
        found: usize,
    },
    /// An own banner that the protocol cannot express.
    #[error("a banner cannot carry {0}")]
    Unspeakable(&'static str),
}

/// The two sides speak different protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "protocol versions do not match: ours is {ours}, theirs is {theirs} (zrepl 0.6 and later speak version 7: update the older side)"
)]
pub struct VersionMismatch {
    /// This side's.
    pub ours: u16,
    /// The peer's.
    pub theirs: u16,
}

impl Banner {
    /// The banner of a side that knows these extensions.
    pub fn with_extensions(extensions: Vec<String>) -> Self {
        Self { version: PROTOCOL_VERSION, extensions }
    }

    /// The bytes to send.
    pub fn encode(&self) -> Result<Vec<u8>, BannerError> {
        if !(1..=9999).contains(&self.version) {
            return Err(BannerError::Unspeakable("a version outside 1 to 9999"));
        }
        if self.extensions.len() > MAX_EXTENSIONS {
            return Err(BannerError::Unspeakable("more than 9998 extensions"));
        }
        if self.extensions.iter().any(|line| line.contains('\n')) {
            return Err(BannerError::Unspeakable("an extension with a line feed"));
        }
        let (version, count) = (self.version, self.extensions.len());
        let mut body = format!("ZREPL_ZFS_REPLICATION PROTOVERSION={version:04} EXTENSIONS={count:04}\n");
        for line in &self.extensions {
            body.push_str(line);
            body.push('\n');
        }
        if body.len() > MAX_BODY {
            return Err(BannerError::Unspeakable("extensions of more than 64 KiB"));
        }
        Ok(format!("{:010} {body}", body.len()).into_bytes())
    }

    /// Reads a body. Accepts numbers without padding, as zrepl does.
    fn parse(body: &[u8]) -> Result<Self, BannerError> {
        let text = std::str::from_utf8(body).map_err(|_| BannerError::Body("it is not UTF-8"))?;
        let (first, rest) = text.split_once('\n').ok_or(BannerError::Body("its first line does not end"))?;
        let form = || BannerError::Body("its first line does not name a version and a number of extensions");
        let (version, announced) = first
            .strip_prefix("ZREPL_ZFS_REPLICATION PROTOVERSION=")
            .and_then(|rest| rest.split_once(" EXTENSIONS="))
            .ok_or_else(form)?;
        let (version, announced) = (number(version).ok_or_else(form)?, number(announced).ok_or_else(form)?);
        let found = rest.bytes().filter(|byte| *byte == b'\n').count();
        if !rest.is_empty() && !rest.ends_with('\n') {
            return Err(BannerError::Body("its last line does not end"));
        }
        if found != usize::from(announced) {
            return Err(BannerError::Count { announced: announced.into(), found });
        }
        Ok(Self { version, extensions: rest.split_terminator('\n').map(str::to_owned).collect() })
    }

    /// What both sides know; fails if they speak different protocols.
    pub fn agree(&self, theirs: &Banner) -> Result<Agreement, VersionMismatch> {
        if self.version != theirs.version {
            return Err(VersionMismatch { ours: self.version, theirs: theirs.version });
        }
        let known = self.extensions.iter().filter(|line| theirs.extensions.contains(line));
        Ok(Agreement { extensions: known.cloned().collect() })
    }
}

/// What two sides have agreed on. A peer of zrepl 0.7 announces no extension: nothing is on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreement {
    /// The lines that are in both banners.
    pub extensions: Vec<String>,
}

impl Agreement {
    /// Whether both announced the line.
    pub fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|line| line == extension)
    }
}

/// One to four digits.
fn number(text: &str) -> Option<u16> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Ten digits, of which the first may be blanks, and a blank.
fn length(prefix: &[u8]) -> Result<usize, BannerError> {
    let shown = || BannerError::Length(String::from_utf8_lossy(prefix).into_owned());
    let text = std::str::from_utf8(prefix).map_err(|_| shown())?;
    let digits = text.strip_suffix(' ').ok_or_else(shown)?.trim_start_matches(' ');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(shown());
    }
    let length: u64 = digits.parse().map_err(|_| shown())?;
    match usize::try_from(length) {
        Ok(length) if length <= MAX_BODY => Ok(length),
        _ => Err(BannerError::TooLong(length)),
    }
}

/// Moves at most `missing` bytes from `input` to `kept`.
fn take(kept: &mut Vec<u8>, missing: usize, input: &mut &[u8]) {
    let (piece, rest) = input.split_at(missing.min(input.len()));
    kept.extend_from_slice(piece);
    *input = rest;
}

/// Reads a banner from bytes as they arrive.
#[derive(Debug, Default)]
pub struct BannerDecoder {
    prefix: Vec<u8>,
    body: Vec<u8>,
    body_length: Option<usize>,
}

impl BannerDecoder {
    /// How many bytes may be read without reading what belongs to somebody else; 0 when done.
    pub fn missing(&self) -> usize {
        match self.body_length {
            None => PREFIX.saturating_sub(self.prefix.len()),
            Some(length) => length.saturating_sub(self.body.len()),
        }
    }

    /// Takes from the front of `input` what belongs to the banner; the banner once it is whole. Must
    /// not be called again after a banner or an error.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Banner>, BannerError> {
        if self.body_length.is_none() {
            let missing = self.missing();
            take(&mut self.prefix, missing, input);
            if self.missing() > 0 {
                return Ok(None);
            }
            self.body_length = Some(length(&self.prefix)?);
        }
        let missing = self.missing();
        take(&mut self.body, missing, input);
        if self.missing() > 0 { Ok(None) } else { Banner::parse(&self.body).map(Some) }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// gRPC.
    Control,
    /// Framed requests and streams.
    Data,
}

/// A label that this side does not know; the connection is closed without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown client label {0:?}")]
pub struct UnknownLabel(pub String);

impl Label {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Label::Control => "zrepl_control",
            Label::Data => "zrepl_data",
        }
    }

    /// The bytes on the wire.
    pub fn encode(self) -> [u8; LABEL_LENGTH] {
        let mut bytes = [0; LABEL_LENGTH];
        for (byte, letter) in bytes.iter_mut().zip(self.as_str().bytes()) {
            *byte = letter;
        }
        bytes
    }

    /// Reads a label; all bytes count.
    pub fn decode(bytes: &[u8; LABEL_LENGTH]) -> Result<Self, UnknownLabel> {
        let known = [Label::Control, Label::Data].into_iter().find(|label| label.encode() == *bytes);
        known.ok_or_else(|| UnknownLabel(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;

//! The head of a send stream: which snapshot it carries, checked before a byte is received.

use model::Guid;

/// What the BEGIN record of a stream says. A stream with properties (`-p`, `-b`) wraps its substream
/// in a compound one; this is then the record of the substream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginRecord {
    /// The snapshot being sent.
    pub to: Guid,
    /// The snapshot from which the stream is incremental.
    pub from: Option<Guid>,
    /// Full name of the snapshot on the sender.
    pub to_name: String,
    /// Feature flags (`DMU_BACKUP_FEATURE_*`).
    pub features: u64,
    /// Whether the substream came inside a compound stream.
    pub compound: bool,
}

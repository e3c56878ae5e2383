//! Reads the head of an incoming stream, and what may not be in it.

use model::UnixTime;
use pump::HeadThen;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use wire::{ByteStream, CallError, ReceiveRequest};
use zfs::BeginRecord;
use zfs::stream::{Package, Parsed, creation, feature, parse_begin, parse_package};

use super::passing::Passing;

/// Read at a time; most heads are smaller.
const CHUNK: usize = 4096;

/// The head of a stream with what was read of the stream to see it.
pub(super) struct Head {
    pub(super) begin: BeginRecord,
    bytes: Vec<u8>,
}

impl Head {
    /// Reads it, within the limit for a silent stream.
    pub(super) async fn read(stream: &mut ByteStream, stall: Duration) -> Result<Self, CallError> {
        let read = Self::read_from(stream);
        tokio::time::timeout(stall, read).await.map_err(|_| Passing::NotBegun(stall))?
    }

    async fn read_from(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, CallError> {
        let mut bytes = Vec::new();
        loop {
            let wanted = match parse_begin(&bytes) {
                Ok(Parsed::Done(begin)) => return Ok(Self { begin, bytes }),
                Ok(Parsed::NeedMore(wanted)) => wanted,
                Err(error) => return Err(CallError::permanent(format!("the stream cannot be received: {error}"))),
            };
            // In pieces, so that no memory is set aside on the stream's word alone.
            let missing = wanted.saturating_sub(bytes.len()).clamp(1, CHUNK);
            let mut piece = stream.take(missing as u64);
            match piece.read_to_end(&mut bytes).await {
                Ok(0) => return Err(Passing::NoStream.into()),
                Ok(_) => {}
                Err(error) => return Err(Passing::Stream(error.to_string()).into()),
            }
        }
    }

    /// Whether the stream is what was asked for, as far as every client tells it; checked before anything
    /// changes on disk.
    pub(super) fn check(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        let (begin, filesystem) = (&self.begin, request.filesystem.as_str());
        let refuse = |what: &str| CallError::permanent(format!("the stream for filesystem {filesystem:?} {what}"));
        match parse_package(&self.bytes) {
            Ok(Package { recursive: false, holds: false }) => {}
            Ok(Package { recursive: true, .. }) => {
                return Err(refuse("is a package of several filesystems (`zfs send -R`), which is not accepted"));
            }
            // Their tags are a peer's text, and would count as this side's protections.
            Ok(Package { .. }) => return Err(refuse("carries holds (`zfs send -h`), which is not accepted")),
            Err(error) => return Err(refuse(&format!("cannot be received: {error}"))),
        }
        if begin.to != request.to.guid {
            return Err(CallError::permanent(format!(
                "the stream for filesystem {filesystem:?} carries a snapshot with guid {} ({:?}), not the announced {} with guid {}",
                begin.to, begin.to_name, request.to, request.to.guid
            )));
        }
        if self.resumes() && request.clear_resume_token {
            return Err(CallError::permanent(format!(
                "the stream for filesystem {filesystem:?} continues an interrupted one, which was to be discarded"
            )));
        }
        Ok(())
    }

    /// Whether the stream is incremental from what was announced, for those who announce it.
    pub(super) fn check_base(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        let announced = request.from.as_ref().map(|from| from.guid);
        if self.begin.from == announced {
            return Ok(());
        }
        let name = |guid: Option<model::Guid>| guid.map_or("nothing".to_owned(), |guid| format!("guid {guid}"));
        Err(CallError::permanent(format!(
            "the stream for filesystem {:?} is incremental from {}, not from {} as announced",
            request.filesystem.as_str(),
            name(self.begin.from),
            name(announced)
        )))
    }

    /// When its snapshot was taken.
    pub(super) fn created(&self) -> UnixTime {
        creation(&self.bytes).unwrap_or(UnixTime(0))
    }

    /// Whether the stream continues an interrupted one.
    pub(super) fn resumes(&self) -> bool {
        self.begin.features & feature::RESUMING != 0
    }

    /// The whole stream again.
    pub(super) fn followed_by(self, rest: ByteStream) -> ByteStream {
        Box::pin(HeadThen::new(self.bytes, rest))
    }
}

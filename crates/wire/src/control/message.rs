//! Messages as gRPC frames them, before they are unfolded.

use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;

/// Before each message: whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;

/// Most fields of a message, of which each element of a list is one: a million versions of a filesystem. An
/// empty element takes two bytes on the way and a hundred here.
const MAX_FIELDS: usize = 1_000_000;

/// The length of the message that begins here, if it is known yet.
pub(super) fn announced(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.first_chunk::<PREFIX>()?;
    let [_compressed, length @ ..] = *prefix;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

/// Refuses a message with more fields than any real one has. What cannot be read is left to the decoder.
pub(super) fn check_fields(mut message: &[u8]) -> Result<(), Status> {
    for _ in 0..MAX_FIELDS {
        let read = decode_key(&mut message)
            .and_then(|(tag, kind)| skip_field(kind, tag, &mut message, DecodeContext::default()));
        if read.is_err() || message.is_empty() {
            return Ok(());
        }
    }
    Err(Status::out_of_range(format!("a message has more than {MAX_FIELDS} elements")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_nothing_but_empty_elements_is_refused() {
        let empty = [0x0a, 0];
        assert!(check_fields(&empty.repeat(MAX_FIELDS)).is_ok());
        assert!(check_fields(&empty.repeat(MAX_FIELDS + 1)).is_err());
        assert!(check_fields(&[]).is_ok() && check_fields(&[0xff; 40]).is_ok());
    }

    #[test]
    fn a_length_is_known_when_all_of_it_is_there() {
        assert_eq!(announced(&[0, 0, 1, 0]), None);
        assert_eq!(announced(&[0, 0, 1, 0, 2, 9]), Some(65_538));
    }
}

//! Messages between a server and a session: each with its length before it, a u32, little-endian.

use std::io::{self, ErrorKind, Read, Write};

use prost::Message;

use crate::remote::MOST_MESSAGE_BYTES;

/// Before each message.
pub const HEAD_BYTES: usize = 4;

/// The longest message, without its head: the longest of a client, wrapped, and what a `begin` adds.
pub const MOST_BYTES: usize = MOST_MESSAGE_BYTES + (1 << 20);

/// A message with its head.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if it is longer than [`MOST_BYTES`].
pub fn encode<M: Message>(message: &M) -> io::Result<Vec<u8>> {
    let bytes = message.encoded_len();
    let head = u32::try_from(bytes).ok().filter(|_| bytes <= MOST_BYTES).ok_or_else(|| {
        let why = format!("a message of {bytes} bytes is longer than the {MOST_BYTES} that may be sent");
        io::Error::new(ErrorKind::InvalidInput, why)
    })?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + bytes);
    frame.extend_from_slice(&head.to_le_bytes());
    message.encode(&mut frame).map_err(|why| io::Error::new(ErrorKind::InvalidInput, why))?;
    Ok(frame)
}

/// How many bytes follow a head.
///
/// # Errors
/// [`ErrorKind::InvalidData`] if they are more than [`MOST_BYTES`].
pub fn length(head: [u8; HEAD_BYTES]) -> io::Result<usize> {
    let bytes = u32::from_le_bytes(head) as usize;
    if bytes > MOST_BYTES {
        let why = format!("a message of {bytes} bytes is longer than the {MOST_BYTES} that are read");
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    Ok(bytes)
}

/// The message that these bytes, without a head, are.
///
/// # Errors
/// [`ErrorKind::InvalidData`] if they are none.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<M> {
    M::decode(bytes).map_err(|why| io::Error::new(ErrorKind::InvalidData, why))
}

/// Waits for the next message; `None` if the other side has closed between two.
///
/// # Errors
/// Those of the socket; [`ErrorKind::UnexpectedEof`] in the middle of a message;
/// [`ErrorKind::InvalidData`] if it is too long or none.
pub fn read<M: Message + Default>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    from.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let head = match <[u8; HEAD_BYTES]>::try_from(head.as_slice()) {
        Ok(head) => head,
        Err(_) if head.is_empty() => return Ok(None),
        Err(_) => return Err(ErrorKind::UnexpectedEof.into()),
    };
    let bytes = length(head)?;
    // Grows with what comes, not with what was announced.
    let mut body = Vec::new();
    from.by_ref().take(bytes as u64).read_to_end(&mut body)?;
    if body.len() < bytes {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    decode(&body).map(Some)
}

/// Sends a message, and waits until the socket has taken it.
///
/// # Errors
/// Those of the socket; [`ErrorKind::InvalidInput`] if it is too long: nothing was sent then.
pub fn write<M: Message>(to: &mut impl Write, message: &M) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::wire::session::{Begin, ToSession, to_session};
    use proptest::prelude::*;

    fn begin(run: &str) -> ToSession {
        let begin = Begin { run: run.to_owned(), ..Begin::default() };
        ToSession { what: Some(to_session::What::Begin(begin)) }
    }

    /// Gives one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let bytes = into.len().min(1);
            self.0.read(&mut into[..bytes])
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_trickle_in() {
        let sent = [begin("a"), ToSession::default(), begin(&"b".repeat(100_000))];
        let mut bytes = Vec::new();
        sent.iter().for_each(|message| write(&mut bytes, message).unwrap());
        let mut trickle = Trickle(&bytes);
        for message in &sent {
            assert_eq!(read::<ToSession>(&mut trickle).unwrap().as_ref(), Some(message));
        }
        assert_eq!(read::<ToSession>(&mut trickle).unwrap(), None);
    }

    #[test]
    fn a_message_that_is_cut_off_is_no_end() {
        let bytes = encode(&begin("0123456789")).unwrap();
        for cut in 1..bytes.len() {
            let why = read::<ToSession>(&mut &bytes[..cut]).unwrap_err();
            assert_eq!(why.kind(), ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_too_long_is_neither_sent_nor_read() {
        let long = begin(&"x".repeat(MOST_BYTES));
        let mut bytes = Vec::new();
        assert_eq!(write(&mut bytes, &long).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(bytes.is_empty(), "nothing of it may have been sent");
        for announced in [u32::try_from(MOST_BYTES).unwrap() + 1, u32::MAX] {
            let why = read::<ToSession>(&mut announced.to_le_bytes().as_slice()).unwrap_err();
            assert_eq!(why.kind(), ErrorKind::InvalidData, "{announced}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_a_message_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut framed = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            let _ = read::<ToSession>(&mut framed.as_slice());
            let _ = read::<ToSession>(&mut bytes.as_slice());
        }
    }
}

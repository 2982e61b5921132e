//! HTTP/2 by the byte, as no library would speak it.

#![allow(clippy::big_endian_bytes, reason = "the order of networks")]

use prost::Message;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(body.len()).expect("a frame");
    let mut frame = bytes.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(body);
    frame
}

/// A header in HPACK, spelled out.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127, "a length of one byte");
        bytes.push(text.len() as u8);
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The headers of a call.
pub fn call(method: &str) -> Vec<u8> {
    let path = format!("/fiospdk.v1.Bench/{method}");
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "dut"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    headers.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// A message in gRPC.
pub fn message(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(body.len()).expect("a message").to_be_bytes());
    bytes.extend(body);
    bytes
}

/// What a connection begins with.
pub fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A whole connection with one call of one message.
pub fn session(method: &str, said: &impl Message) -> Vec<u8> {
    let mut bytes = opening();
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &call(method)));
    let body = message(said);
    let (chunks, last) = (body.chunks(16 << 10), body.len().div_ceil(16 << 10));
    for (at, chunk) in chunks.enumerate() {
        bytes.extend(frame(DATA, if at + 1 == last { END_STREAM } else { 0 }, 1, chunk));
    }
    bytes
}

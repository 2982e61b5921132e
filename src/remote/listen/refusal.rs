//! Why a handshake failed, for the server's log.

use std::io::{self, ErrorKind};

use rustls::{CertificateError, Error, InvalidMessage};

/// A sentence about the peer.
pub fn reason(why: &io::Error) -> String {
    let Some(tls) = why.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match why.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "it hung up before it had shown who it is".to_owned()
            }
            _ => why.to_string(),
        };
    };
    match tls {
        Error::NoCertificatesPresented => "it showed no certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is of another authority than ca.pem".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid now; or this machine's clock is wrong".to_owned(),
        Error::InvalidCertificate(why) => format!("its certificate cannot be taken: {why}"),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::InvalidEmptyPayload
            | InvalidMessage::MessageTooLarge,
        ) => "what it sent is no TLS; plain text?".to_owned(),
        Error::PeerIncompatible(why) => format!("it does not speak TLS 1.3 as this server does: {why:?}"),
        Error::NoApplicationProtocol => "it did not ask for HTTP/2 (ALPN h2)".to_owned(),
        Error::AlertReceived(alert) => format!("it refused this server's certificate or ways: {alert:?}"),
        other => other.to_string(),
    }
}

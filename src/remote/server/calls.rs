//! Which limit a call has: only those that drive runs have long messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service as Serve};
use tonic::server::NamedService;

use crate::remote::MOST_MESSAGE_BYTES;
use crate::remote::wire::bench::bench_server::{BenchServer, SERVICE_NAME};

use super::service::Service;

/// What a reply holds besides a message: names and numbers.
const REPLY_BYTES: usize = 1 << 20;
/// A question of one message is no longer. Of those, a connection may have many under way, and nothing
/// else bounds them.
const MOST_QUESTION_BYTES: usize = 64 << 10;

/// The service, with a limit for each kind of call.
#[derive(Clone)]
pub struct Calls {
    drive: BenchServer<Service>,
    questions: BenchServer<Service>,
}

impl Calls {
    /// All calls of a service.
    pub fn new(service: Service) -> Calls {
        let service = Arc::new(service);
        let server = |most| {
            BenchServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(most)
                .max_encoding_message_size(MOST_MESSAGE_BYTES + REPLY_BYTES)
        };
        Calls { drive: server(MOST_MESSAGE_BYTES), questions: server(MOST_QUESTION_BYTES) }
    }
}

impl NamedService for Calls {
    const NAME: &'static str = SERVICE_NAME;
}

impl Serve<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let drives = request.uri().path().strip_suffix("/Drive").is_some();
        if drives { self.drive.call(request) } else { self.questions.call(request) }
    }
}

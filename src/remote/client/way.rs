//! How a server is reached.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use crate::remote::address::Address;

use super::link::{Connector, Missed};

/// Connects as addresses say, with the certificates in `keys`.
pub(super) fn connector(keys: Option<&Path>) -> Connector {
    let keys = keys.map(Path::to_owned);
    Arc::new(move |address, within| {
        let keys = keys.clone();
        Box::pin(async move { reach(&address, keys.as_deref(), within).await })
    })
}

async fn reach(address: &Address, _keys: Option<&Path>, within: Duration) -> Result<Channel, Missed> {
    let Address::Unix(path) = address else {
        return Err(Missed { may_come: false, why: format!("{address}: only unix sockets are reached") });
    };
    let missed = |why: String| Missed { may_come: true, why: format!("{address}: {why}") };
    let path = path.clone();
    let way = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://server").connect_timeout(within);
    endpoint.connect_with_connector(way).await.map_err(|why| {
        let cause = std::error::Error::source(&why).map(ToString::to_string);
        missed(cause.unwrap_or_else(|| why.to_string()))
    })
}

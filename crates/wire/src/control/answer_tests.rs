use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::duplex;

use super::*;
use crate::control::{Remote, Role};
use crate::data::DataClient;
use crate::frame::Limits;
use crate::handshake::Banner;
use crate::service::{CallError, Endpoint as _};
use crate::transport::{Connection, Dialer, Greeting, welcome};

/// A server that answers everything with the same.
#[derive(Clone, Default)]
struct Same {
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

impl Same {
    async fn serve(self, io: tokio::io::DuplexStream) {
        let answer = service_fn(move |request: http::Request<Incoming>| {
            let Self { headers, body, trailers } = self.clone();
            async move {
                drop(request.into_body().collect().await);
                let body = Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers))));
                let mut response = Response::new(body);
                *response.headers_mut() = headers;
                Ok::<_, Infallible>(response)
            }
        });
        drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), answer).await);
    }
}

struct Way(Same);

#[async_trait]
impl Dialer for Way {
    async fn dial(&self) -> Result<Connection, CallError> {
        let (here, mut there) = duplex(1 << 16);
        let same = self.0.clone();
        tokio::spawn(async move {
            welcome(&mut there, &Banner::of_this_program().into()).await.unwrap();
            same.serve(there).await;
        });
        Ok(Box::new(here))
    }
}

/// What a client makes of these answers.
async fn asked(same: Same) -> CallError {
    asked_as(same, Banner::with_extensions(vec![])).await
}

async fn asked_as(same: Same, banner: Banner) -> CallError {
    let greeting = Greeting::from(banner);
    let dialer: Arc<dyn Dialer> = Arc::new(Way(same));
    let data = DataClient::new(Arc::clone(&dialer), greeting.clone(), Limits::default());
    let remote = Remote::connect(&*dialer, &greeting, data, Role::Sender, |_| Err(String::new())).await.unwrap();
    remote.list().await.unwrap_err()
}

fn headers(entries: &[(&'static str, &'static str)]) -> HeaderMap {
    let entry =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    entries.iter().map(entry).collect()
}

#[tokio::test]
async fn details_that_nobody_can_read_are_of_no_matter() {
    let error = [("grpc-status", "2"), ("grpc-message", "the pool is gone"), (DETAILS, "!")];
    for same in [
        Same { headers: headers(&error), ..Same::default() },
        Same { trailers: headers(&error), ..Same::default() },
        Same { trailers: headers(&error), body: Bytes::from_static(&[0; 5]), ..Same::default() },
    ] {
        assert_eq!(asked(same).await.to_string(), "the pool is gone");
    }
}

fn message(bytes: &[u8]) -> Bytes {
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat().into()
}

fn all_is_well() -> HeaderMap {
    headers(&[("grpc-status", "0")])
}

#[tokio::test]
async fn a_list_of_nothing_is_refused_before_it_unfolds() {
    let body = message(&[0x0a, 0].repeat(1_000_001));
    let same = Same { trailers: all_is_well(), body, ..Same::default() };
    assert_eq!(asked(same).await, CallError::permanent("a message has more than 1000000 elements"));
    let body = message(&[0x0a, 3, 0x0a, 1, b'a'].repeat(500_001));
    let same = Same { trailers: all_is_well(), body, ..Same::default() };
    let refused = asked(same).await;
    assert_eq!(refused, CallError::permanent("there are more than 500000 filesystems"));
}

#[tokio::test]
async fn a_part_of_a_listing_is_not_as_long_as_other_answers() {
    // One filesystem with a name of 5 MiB.
    let length = [0x80, 0x80, 0xc0, 0x02];
    let body = message(&[&[0x0a][..], &length, &vec![b'a'; 5 << 20]].concat());
    let same = Same { trailers: all_is_well(), body, ..Same::default() };
    let refused = asked_as(same, Banner::of_this_program()).await.to_string();
    assert!(refused.contains("message length too large") && refused.contains("4194304"), "{refused}");
}

#[tokio::test]
async fn a_length_that_is_announced_is_not_believed() {
    for (announced, why) in [(64_u32 << 20, "Missing response message"), ((64 << 20) + 1, "message length too large")] {
        let body = [&[0][..], &announced.to_be_bytes(), b"some"].concat().into();
        let same = Same { trailers: all_is_well(), body, ..Same::default() };
        let refused = asked(same).await.to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

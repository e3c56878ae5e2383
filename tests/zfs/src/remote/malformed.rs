//! Requests that no client sends.

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::frame::{FrameKind, STREAM_CHUNK, header, message};
use wire::handshake::{Banner, Label};
use wire::pdu::{
    DestroySnapshotsReq, FilesystemVersion, ListFilesystemVersionsReq, ReceiveReq, ReplicationConfig,
    ReplicationConfigProtection, ReplicationCursorReq, SendCompletedReq, SendReq,
};
use wire::transport::{Greeting, greet};

use super::{LONG, Machine, on_real_time, push_job, sink_machine};
use crate::replication::rig::Stage;

/// Longer than any message may be.
const TOO_LONG: usize = 10 << 20;

pub(super) async fn malformed_requests(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let (there, received) = sink_machine(stage, &fs)?;
    let port = there.port().await?;
    for (what, receive) in receives() {
        let answer = data(port, "/v1/recv", &receive).await.with_context(|| format!("receive with {what}"))?;
        ensure!(answer.contains("HANDLER ERROR:\n"), "receive with {what}: {answer:?}");
        let ReceiveReq { filesystem, to, replication_config, .. } = receive;
        let send = SendReq { filesystem, to, replication_config, ..SendReq::default() };
        let answer = data(port, "/v1/send", &send).await.with_context(|| format!("send with {what}"))?;
        ensure!(answer.contains("HANDLER ERROR:\n"), "send with {what}: {answer:?}");
        if what != "a name of 10 MiB" {
            let dry = control(port, "SendDry", &framed(&send)).await?;
            ensure!(dry == Answer::Refused, "dry send with {what}: {dry:?}");
        }
    }
    let answer = data(port, "/v1/unheard-of", &ReceiveReq::default()).await?;
    ensure!(answer.contains("requested endpoint does not exist"), "{answer:?}");
    for (method, message) in control_requests() {
        let answer = control(port, method, &message).await.with_context(|| method.to_owned())?;
        ensure!(answer == Answer::Refused, "{method}: {answer:?}");
    }

    stage.is(&received, &["missing"]).await?;
    let here = Machine::start(stage, &push_job(&fs, port))?;
    ensure!(here.invoke_well("push job").await?.steps == 1);
    let told = there.diary.problems();
    ensure!(!told.iter().any(|text| text.contains("panicked")), "{told:?}");
    here.stop().await?;
    there.stop().await
}

fn version() -> FilesystemVersion {
    FilesystemVersion {
        name: "1".to_owned(),
        guid: 1,
        create_txg: 1,
        creation: "2026-01-02T03:04:05Z".to_owned(),
        ..FilesystemVersion::default()
    }
}

fn config() -> ReplicationConfig {
    ReplicationConfig { protection: Some(ReplicationConfigProtection { initial: 1, incremental: 1 }) }
}

/// With what is wrong.
fn receives() -> Vec<(&'static str, ReceiveReq)> {
    let right = || ReceiveReq {
        filesystem: "a/b".to_owned(),
        to: Some(version()),
        clear_resume_token: true,
        replication_config: Some(config()),
    };
    let named = |filesystem: &str| ReceiveReq { filesystem: filesystem.to_owned(), ..right() };
    let of = |to: FilesystemVersion| ReceiveReq { to: Some(to), ..right() };
    let unknown = ReplicationConfigProtection { initial: 0, incremental: 9 };
    vec![
        ("no config", ReceiveReq { replication_config: None, ..right() }),
        ("an empty config", ReceiveReq { replication_config: Some(ReplicationConfig::default()), ..right() }),
        (
            "unknown guarantees",
            ReceiveReq { replication_config: Some(ReplicationConfig { protection: Some(unknown) }), ..right() },
        ),
        ("no version", ReceiveReq { to: None, ..right() }),
        ("a bad time", of(FilesystemVersion { creation: "yesterday".to_owned(), ..version() })),
        ("no time", of(FilesystemVersion { creation: String::new(), ..version() })),
        ("an unknown type", of(FilesystemVersion { r#type: 7, ..version() })),
        ("an empty version", of(FilesystemVersion { name: String::new(), ..version() })),
        ("a version with a filesystem", of(FilesystemVersion { name: "a@1".to_owned(), ..version() })),
        ("no name", named("")),
        ("@a/b", named("@a/b")),
        ("a/../b", named("a/../b")),
        ("a snapshot's name", named("a/b@c")),
        ("a name of 10 MiB", named(&"a".repeat(TOO_LONG))),
    ]
}

/// Methods with what is sent to them.
fn control_requests() -> Vec<(&'static str, Vec<u8>)> {
    let named = |filesystem: &str| ListFilesystemVersionsReq { filesystem: filesystem.to_owned() };
    let destroy = |snapshot: FilesystemVersion| {
        let filesystem = "a/b".to_owned();
        framed(&DestroySnapshotsReq { filesystem, snapshots: vec![snapshot] })
    };
    let mut garbage = 3_u32.to_be_bytes().to_vec();
    garbage.insert(0, 0);
    garbage.extend([0xff, 0xff, 0xff]);
    let mut announced = vec![0];
    announced.extend(u32::try_from(TOO_LONG).unwrap_or(u32::MAX).to_be_bytes());
    vec![
        ("ListFilesystemVersions", framed(&named(""))),
        ("ListFilesystemVersions", framed(&named("@a/b"))),
        ("ListFilesystemVersions", framed(&named("a/b@c"))),
        ("ListFilesystemVersions", garbage),
        ("ListFilesystemVersions", announced),
        ("ReplicationCursor", framed(&ReplicationCursorReq::default())),
        ("SendCompleted", framed(&SendCompletedReq::default())),
        ("SendCompleted", framed(&SendCompletedReq { original_req: Some(SendReq::default()) })),
        ("DestroySnapshots", framed(&DestroySnapshotsReq::default())),
        ("DestroySnapshots", destroy(FilesystemVersion { creation: "yesterday".to_owned(), ..version() })),
        ("DestroySnapshots", destroy(FilesystemVersion { r#type: 7, ..version() })),
        ("DestroySnapshots", destroy(FilesystemVersion { name: String::new(), ..version() })),
        ("UnheardOf", framed(&named("a"))),
    ]
}

/// A connection after the handshake that asks for something.
async fn connection(port: u16, label: Label, first: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let greeting = Greeting::from(Banner::with_extensions(vec![]));
    greet(&mut stream, &greeting, label, first).await?;
    Ok(stream)
}

/// All that is answered to a request on a data connection.
async fn data(port: u16, path: &str, request: &impl Message) -> Result<String> {
    let mut frames = message(FrameKind::RequestHeader, path.as_bytes())?;
    let body = request.encode_to_vec();
    match body.len() {
        0..TOO_LONG => frames.extend(message(FrameKind::Request, &body)?),
        // By hand what no client lets itself be told.
        _ => {
            for piece in body.chunks(STREAM_CHUNK) {
                frames.extend(header(FrameKind::Request, u32::try_from(piece.len())?));
                frames.extend(piece);
            }
            frames.extend(header(FrameKind::End, 0));
        }
    }
    let mut stream = connection(port, Label::Data, &frames).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A message as gRPC sends it.
fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    framed
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A status without a message.
    Refused,
    /// A message.
    Served,
}

/// What is answered to a request on a control connection.
async fn control(port: u16, method: &str, body: &[u8]) -> Result<Answer> {
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(http2(4, 0, 0, &[]));
    // POST, http, and an empty authority, as clients in Go have it.
    let mut headers = vec![0x83, 0x86, 0x81];
    let path = format!("/Replication/{method}");
    for (name, value) in [(&[0x04][..], path.as_str()), (&[0x0f, 0x10][..], "application/grpc")] {
        headers.extend(name);
        headers.push(u8::try_from(value.len())?);
        headers.extend(value.as_bytes());
    }
    headers.extend(b"\x00\x02te\x08trailers");
    sent.extend(http2(1, 4, 1, &headers));
    sent.extend(http2(0, 1, 1, body));
    let mut stream = connection(port, Label::Control, &sent).await?;
    let answer = tokio::time::timeout(LONG, answer(&mut stream)).await??;
    // Whether it is still there does not matter any more.
    let _ = stream.shutdown().await;
    Ok(answer)
}

/// A frame of HTTP/2.
fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn answer(stream: &mut TcpStream) -> Result<Answer> {
    let mut answer = Answer::Refused;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.context("the connection ended without an answer")?;
        let [a, b, c, kind, flags, _, _, _, number] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        stream.read_exact(&mut payload).await?;
        match (kind, number) {
            (0, 1) if !payload.is_empty() => answer = Answer::Served,
            (1, 1) if flags & 1 != 0 => return Ok(answer),
            (3, _) => bail!("the stream was reset: {payload:?}"),
            (7, _) => bail!("the server said goodbye: {payload:?}"),
            _ => {}
        }
    }
}

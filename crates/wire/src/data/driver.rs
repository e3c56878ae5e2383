//! Moves frames while time passes: heartbeats, limits and the end of a connection.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pump::{ByteStream, HeadThen, Moved, PipeReader, PipeWriter};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::frame::{
    Action, Decoder, Fragment, FrameError, FrameKind, HEADER_LENGTH, Limits, Link, STREAM_CHUNK, StreamError, header,
    stream_error,
};
use crate::transport::Connection;

use super::ends::{Reader, WORTH_MOVING, Writer, poll_move_in, poll_move_out, write_before_more};
use super::shutdowns::{Shutdowns, count};

/// Read at a time, bytes. More saves system calls, but what is passed on in pieces has to stay in the caches of a
/// processor until it is written.
const READ_CHUNK: usize = 128 << 10;

/// Payload of the largest frame that is copied, bytes: as much as is encrypted and written at once.
const COPIED_CHUNK: usize = 128 << 10;

/// Payload of the largest frame that is moved, bytes: a whole pipe, and what a zrepl peer likes.
const MOST_MOVED: usize = 1 << 20;

/// Read and not yet taken by the sink, in pieces of at most [`READ_CHUNK`].
const READ_AHEAD: usize = 4;

/// A connection that is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("reading: {0}")]
    Read(String),
    #[error("writing: {0}")]
    Write(String),
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer sends when it must not")]
    Unexpected,
    #[error("the peer has sent nothing, not even a heartbeat, for {0:?}")]
    Silent(std::time::Duration),
    #[error("the peer has accepted nothing and sent no heartbeat for {0:?}")]
    Stuck(std::time::Duration),
    #[error("the peer lives, but has accepted nothing for {0:?} (is its pool suspended, or what receives stuck?)")]
    Standing(std::time::Duration),
}

/// What the peer sent.
#[derive(Debug)]
pub(super) enum Event {
    Payload(FrameKind, Bytes),
    /// So many bytes of a stream are in the connection's pipe; its end comes with the first of them.
    Piped(usize, Option<PipeReader>),
    End,
}

impl Event {
    pub(super) fn fragment(&self) -> Fragment<'_> {
        match self {
            Event::Payload(kind, bytes) => Fragment::Payload(*kind, bytes),
            Event::Piped(..) => Fragment::Payload(FrameKind::Stream, &[]),
            Event::End => Fragment::End,
        }
    }
}

/// What this side wants to send.
enum Order {
    Frames(Vec<u8>, oneshot::Sender<()>),
    Stream(ByteStream, oneshot::Sender<Sent>),
}

/// What became of a stream that was to be sent.
pub(super) enum Sent {
    /// All of it was written.
    Whole,
    /// Its source failed, which the peer was told.
    Failed(String),
    /// None of it was written, because the connection ended first: here it is again.
    Unsent(ByteStream),
}

impl Order {
    /// Nothing of it was written, nor will be.
    fn give_back(self) {
        if let Order::Stream(stream, done) = self {
            // Whoever does not wait does not want it.
            let _ = done.send(Sent::Unsent(stream));
        }
    }
}

/// One side's hold on a connection. Dropping it ends the connection in order, in the background and
/// within [`Limits::closing`].
pub(super) struct Conversation {
    events: mpsc::Receiver<Event>,
    orders: mpsc::Sender<Order>,
    failure: Arc<OnceLock<Failure>>,
    finish: CancellationToken,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.finish.cancel();
    }
}

impl Conversation {
    /// Begins after the label.
    pub(super) fn begin(io: Connection, limits: Limits) -> Self {
        let (to_owner, events) = mpsc::channel(READ_AHEAD);
        let (orders, from_owner) = mpsc::channel(4);
        let (failure, finish) = (Arc::<OnceLock<Failure>>::default(), CancellationToken::new());
        let driver = Driver {
            link: Mutex::new(Link::new(limits, Instant::now().into_std())),
            limits,
            failure: Arc::clone(&failure),
            finish: finish.clone(),
            ending: OnceLock::new(),
            draining: OnceLock::new(),
        };
        let driver = tokio::spawn(driver.run(io, to_owner, from_owner));
        Self { events, orders, failure, finish, driver }
    }

    /// What comes next; none if nothing will.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// As [`Conversation::next`], for those who are polled.
    pub(super) fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Event>> {
        self.events.poll_recv(context)
    }

    /// Whether either side has ended it, as far as is known here.
    pub(super) fn is_over(&self) -> bool {
        self.finish.is_cancelled() || self.driver.is_finished()
    }

    /// Why nothing more comes.
    pub(super) fn failure(&self) -> Failure {
        self.broken().unwrap_or(Failure::Closed)
    }

    /// Why the connection is of no use any more, if it is known to be.
    pub(super) fn broken(&self) -> Option<Failure> {
        self.failure.get().cloned()
    }

    /// Sends whole frames; returns when they are written.
    pub(super) async fn send(&self, frames: Vec<u8>) -> Result<(), Failure> {
        let (done, written) = oneshot::channel();
        self.orders.send(Order::Frames(frames, done)).await.map_err(|_| self.failure())?;
        written.await.map_err(|_| self.failure())
    }

    /// Sends a stream to its end. The result comes when its last frame was written, or its first one cannot be;
    /// or never, when the connection ended in the middle.
    pub(super) async fn send_stream(&self, stream: ByteStream) -> oneshot::Receiver<Sent> {
        let (done, result) = oneshot::channel();
        if let Err(mpsc::error::SendError(order)) = self.orders.send(Order::Stream(stream, done)).await {
            order.give_back();
        }
        result
    }

    /// Ends the connection and waits until that is done. What was ordered before must have been sent.
    pub(super) async fn close(mut self) {
        self.finish.cancel();
        self.events.close();
        // A panic of the driver has been reported; the connection is gone either way.
        let _ = (&mut self.driver).await;
    }
}

/// The peer may be gone already, and misses nothing then.
fn worth_counting(result: io::Result<()>) -> u64 {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    let gone =
        |error: &io::Error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected);
    u64::from(result.is_err_and(|error| !gone(&error)))
}

struct Driver {
    link: Mutex<Link>,
    limits: Limits,
    failure: Arc<OnceLock<Failure>>,
    /// Nothing more is to be sent: the owner is done, or the peer.
    finish: CancellationToken,
    /// Since when the connection is being ended.
    ending: OnceLock<Instant>,
    /// Since when nobody wants what arrives.
    draining: OnceLock<Instant>,
}

impl Driver {
    async fn run(self, io: Connection, events: mpsc::Sender<Event>, orders: mpsc::Receiver<Order>) {
        match io.into_tcp() {
            Ok(mut socket) => {
                let (reader, writer) = socket.split();
                self.drive(Reader::Tcp(reader), Writer::Tcp(writer), events, orders).await;
            }
            Err(io) => {
                let (reader, writer) = tokio::io::split(io);
                self.drive(Reader::Any(reader), Writer::Any(writer), events, orders).await;
            }
        }
    }

    async fn drive(
        &self,
        reader: Reader<'_>,
        writer: Writer<'_>,
        events: mpsc::Sender<Event>,
        orders: mpsc::Receiver<Order>,
    ) {
        let moved = async { tokio::join!(self.read(reader, events), self.write(writer, orders)) };
        let unfinished = tokio::select! {
            // After a pause of this process, what has arrived in the meantime counts before what is missing.
            biased;
            _ = moved => 0,
            () = self.keep_time() => 1,
        };
        let since = |begun: &OnceLock<Instant>| begun.get().map_or(Duration::ZERO, Instant::elapsed);
        let (took, drained_for) = (since(&self.ending), since(&self.draining));
        count(&Shutdowns { ended: 1, took, drained_for, unfinished, ..Shutdowns::default() });
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first failure is the one that is told.
    fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }

    /// Returns when the connection must be dropped.
    async fn keep_time(&self) {
        loop {
            let now = Instant::now();
            let (action, patience) = {
                let mut link = self.link();
                (link.act(now.into_std()), link.patience())
            };
            match action {
                Some(Action::GiveUpReading) => return self.fail(Failure::Silent(self.limits.idle)),
                Some(Action::GiveUpWriting) => return self.fail(Failure::Stuck(self.limits.idle)),
                Some(Action::GiveUpStuck) => {
                    return self.fail(Failure::Standing(self.limits.stuck.unwrap_or_default()));
                }
                Some(Action::Close) => return,
                None => {}
            }
            // A time that appears while this sleeps lies after the end of the sleep.
            let shortest = self.limits.idle.min(self.limits.closing);
            let latest = now + self.limits.stuck.map_or(shortest, |stuck| stuck.min(shortest));
            let until = patience.map_or(latest, |patience| Instant::from_std(patience).min(latest));
            let open = self.link().is_open();
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.finish.cancelled(), if open => self.link().close(Instant::now().into_std()),
            }
        }
    }

    /// Reads to the end of the connection, whatever the owner still wants of it.
    async fn read(&self, mut reader: Reader<'_>, events: mpsc::Sender<Event>) {
        if let Err(failure) = self.read_frames(&mut reader, events).await {
            self.fail(failure);
        }
        self.finish.cancel();
        self.draining.get_or_init(Instant::now);
        let mut rest = BytesMut::with_capacity(HEADER_LENGTH << 10);
        while let Ok(length @ 1..) = reader.read_buf(&mut rest).await {
            count(&Shutdowns { drained_bytes: length as u64, ..Shutdowns::default() });
            rest.clear();
        }
    }

    /// Reads until the peer's reset, or until the owner is done.
    async fn read_frames(&self, reader: &mut Reader<'_>, events: mpsc::Sender<Event>) -> Result<(), Failure> {
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
        let mut pipe = InPipe::Unmade;
        loop {
            if let (Some(socket), Some(pipe)) = (reader.socket(), pipe.wanted(&decoder)) {
                match self.read_into_pipe(socket, pipe, &mut decoder, &events).await? {
                    Piped::Some => continue,
                    Piped::None => {}
                    Piped::NobodyReads => return Ok(()),
                }
            }
            self.link().read_began(Instant::now().into_std());
            buffer.reserve(READ_CHUNK);
            let most = match reader.socket() {
                // Not beyond the next header: what follows that may be worth moving.
                Some(_) if pipe.is_made() => {
                    HEADER_LENGTH + decoder.missing().map_or(0, |(_, missing)| missing as usize)
                }
                _ => READ_CHUNK,
            };
            let length = tokio::select! {
                read = reader.read_ready(&mut buffer, most) => read.map_err(|error| Failure::Read(error.to_string()))?,
                () = events.closed() => return Ok(()),
            };
            self.link().received(Instant::now().into_std());
            if length == 0 {
                decoder.finish()?;
                return Err(Failure::Closed);
            }
            let bytes = buffer.split().freeze();
            let mut input: &[u8] = &bytes;
            while let Some(fragment) = decoder.next(&mut input)? {
                let event = match fragment {
                    Fragment::Reset => return Ok(()),
                    Fragment::Heartbeat => {
                        self.link().heartbeat_received(Instant::now().into_std());
                        continue;
                    }
                    Fragment::End => {
                        // The next stream has another owner.
                        pipe = InPipe::Unmade;
                        Event::End
                    }
                    Fragment::Payload(kind, piece) => Event::Payload(kind, bytes.slice_ref(piece)),
                };
                self.link().read_paused();
                if events.send(event).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Moves some of the payload that arrives.
    async fn read_into_pipe(
        &self,
        socket: &TcpStream,
        pipe: &mut (PipeWriter, Option<PipeReader>),
        decoder: &mut Decoder,
        events: &mpsc::Sender<Event>,
    ) -> Result<Piped, Failure> {
        let Some((_, missing)) = decoder.missing() else { return Ok(Piped::None) };
        let (writer, reader) = pipe;
        self.link().read_began(Instant::now().into_std());
        let moved = tokio::select! {
            moved = poll_fn(|cx| poll_move_in(socket, cx, writer, missing as usize)) => moved,
            () = events.closed() => return Ok(Piped::NobodyReads),
        };
        match moved {
            Ok(Moved::Bytes(length)) => {
                self.link().received(Instant::now().into_std());
                decoder.skip(u32::try_from(length).unwrap_or(missing));
                self.link().read_paused();
                match events.send(Event::Piped(length, reader.take())).await {
                    Ok(()) => Ok(Piped::Some),
                    Err(_gone) => Ok(Piped::NobodyReads),
                }
            }
            Ok(Moved::Full) => {
                self.link().read_paused();
                tokio::select! {
                    _ = poll_fn(|cx| writer.poll_room(cx)) => Ok(Piped::Some),
                    () = events.closed() => Ok(Piped::NobodyReads),
                }
            }
            // The end, or an error of the connection, which shows again when it is read.
            Ok(Moved::Read) | Err(_) => Ok(Piped::None),
        }
    }

    /// Writes what is ordered, then the end.
    async fn write(&self, mut writer: Writer<'_>, mut orders: mpsc::Receiver<Order>) {
        let written = self.write_orders(&mut writer, &mut orders).await;
        orders.close();
        while let Ok(order) = orders.try_recv() {
            order.give_back();
        }
        if let Err(error) = written {
            // Perhaps the peer has said why before it went away: reading goes on.
            self.fail(Failure::Write(error.to_string()));
            // Nothing is being written any more that could be stuck, and a slow sink may take its time with
            // what has arrived.
            self.link().write_ended(Instant::now().into_std());
            return;
        }
        let now = Instant::now();
        self.ending.get_or_init(|| now);
        self.link().close(now.into_std());
        let written = writer.write_all(&header(FrameKind::Reset, 0)).await;
        let closed = writer.shutdown().await;
        let (write_errors, close_errors) = (worth_counting(written), worth_counting(closed));
        count(&Shutdowns { write_errors, close_errors, ..Shutdowns::default() });
    }

    async fn write_orders(&self, writer: &mut Writer<'_>, orders: &mut mpsc::Receiver<Order>) -> io::Result<()> {
        loop {
            let order = tokio::select! {
                biased;
                order = orders.recv() => order,
                () = self.finish.cancelled() => return Ok(()),
                () = self.heartbeat_time() => {
                    self.write_frames(writer, &header(FrameKind::Heartbeat, 0)).await?;
                    continue;
                }
            };
            match order {
                None => return Ok(()),
                Some(Order::Frames(frames, done)) => {
                    self.write_frames(writer, &frames).await?;
                    // Whoever does not wait does not want to know.
                    let _ = done.send(());
                }
                Some(Order::Stream(stream, done)) => {
                    let mut outgoing = Outgoing { stream, frame: BytesMut::new(), begun: false };
                    match self.write_stream(writer, &mut outgoing).await {
                        Ok(Some(result)) => drop(done.send(result)),
                        unfinished => {
                            if let Some(stream) = outgoing.unsent() {
                                Order::Stream(stream, done).give_back();
                            }
                            return unfinished.map(drop);
                        }
                    }
                }
            }
        }
    }

    /// None if the connection is to be ended before the stream is.
    async fn write_stream(&self, writer: &mut Writer<'_>, outgoing: &mut Outgoing) -> io::Result<Option<Sent>> {
        loop {
            let Outgoing { stream, frame, begun } = outgoing;
            let filled = {
                let moves = writer.socket().is_some();
                let mut filling = pin!(fill(frame, stream, moves));
                loop {
                    tokio::select! {
                        filled = &mut filling => break filled,
                        () = self.finish.cancelled() => return Ok(None),
                        () = self.heartbeat_time() => {
                            self.write_frames(writer, &header(FrameKind::Heartbeat, 0)).await?;
                        }
                    }
                }
            };
            match filled {
                Ok(Filled::Frame) => self.write_frames(writer, frame).await?,
                Ok(Filled::Ready(length)) => {
                    // What was moved cannot be had again.
                    *begun = true;
                    self.move_frame(writer, stream, length).await?;
                }
                Ok(Filled::End) => {
                    self.write_frames(writer, &header(FrameKind::End, 0)).await?;
                    return Ok(Some(Sent::Whole));
                }
                Err(error) => {
                    *begun = true;
                    self.write_frames(writer, &stream_error(&error.to_string())).await?;
                    return Ok(Some(Sent::Failed(error.to_string())));
                }
            }
            *begun = true;
        }
    }

    async fn write_frames(&self, writer: &mut Writer<'_>, frames: &[u8]) -> io::Result<()> {
        self.link().write_began(Instant::now().into_std());
        self.write_part(writer, frames).await?;
        writer.flush().await?;
        self.link().write_ended(Instant::now().into_std());
        Ok(())
    }

    async fn write_part(&self, writer: &mut Writer<'_>, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            let length = writer.write(rest).await?;
            if length == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(length..).unwrap_or_default();
            self.link().wrote(Instant::now().into_std());
        }
        Ok(())
    }

    /// A frame of so many bytes of a stream, which has them ready. An error of the stream within the frame
    /// cannot be told to the peer any more: the connection goes.
    async fn move_frame(&self, writer: &mut Writer<'_>, stream: &mut ByteStream, length: usize) -> io::Result<()> {
        let Some(socket) = writer.socket() else { return Err(io::ErrorKind::Unsupported.into()) };
        self.link().write_began(Instant::now().into_std());
        write_before_more(socket, &header(FrameKind::Stream, u32::try_from(length).unwrap_or(u32::MAX))).await?;
        let mut missing = length;
        while missing > 0 {
            let Some(socket) = writer.socket() else { return Err(io::ErrorKind::Unsupported.into()) };
            let moved = match poll_fn(|cx| poll_move_out(socket, cx, stream, missing)).await? {
                Some(moved) => moved,
                None => {
                    let room = missing.min(WORTH_MOVING);
                    let mut part = Vec::with_capacity(room);
                    if stream.take(room as u64).read_buf(&mut part).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.write_part(writer, &part).await?;
                    part.len()
                }
            };
            self.link().wrote(Instant::now().into_std());
            missing = missing.saturating_sub(moved);
        }
        self.link().write_ended(Instant::now().into_std());
        Ok(())
    }

    async fn heartbeat_time(&self) {
        let due = self.link().heartbeat_due();
        match due {
            Some(due) => sleep_until(Instant::from_std(due)).await,
            None => std::future::pending().await,
        }
    }
}

/// A stream that is being written.
struct Outgoing {
    stream: ByteStream,
    /// The frame that was read of it last.
    frame: BytesMut,
    /// Whether a frame of it has been written, or the stream has failed.
    begun: bool,
}

impl Outgoing {
    /// The stream as it was, if nothing of it has been written as far as is known here.
    fn unsent(self) -> Option<ByteStream> {
        let Self { stream, frame, begun } = self;
        if begun {
            return None;
        }
        match frame.get(HEADER_LENGTH..) {
            None | Some([]) => Some(stream),
            Some(head) => Some(Box::pin(HeadThen::new(head.to_vec(), stream))),
        }
    }
}

/// The pipe into which large payloads of streams are moved.
enum InPipe {
    Unmade,
    /// With the end that the owner gets.
    Made((PipeWriter, Option<PipeReader>)),
    /// There is none to be had.
    Failed,
}

impl InPipe {
    /// The pipe, if what arrives next is worth it.
    fn wanted(&mut self, decoder: &Decoder) -> Option<&mut (PipeWriter, Option<PipeReader>)> {
        decoder.missing().filter(|(kind, missing)| *kind == FrameKind::Stream && *missing as usize >= WORTH_MOVING)?;
        if let InPipe::Unmade = self {
            *self = match pump::pipe() {
                Ok((reader, writer)) => InPipe::Made((writer, Some(reader))),
                Err(_) => InPipe::Failed,
            };
        }
        match self {
            InPipe::Made(pipe) => Some(pipe),
            InPipe::Unmade | InPipe::Failed => None,
        }
    }

    fn is_made(&self) -> bool {
        matches!(self, InPipe::Made(_))
    }
}

enum Piped {
    Some,
    /// It must be read.
    None,
    NobodyReads,
}

enum Filled {
    Frame,
    /// So many bytes can be moved.
    Ready(usize),
    End,
}

/// Reads the next frame of a stream: never one with a single byte, which would kill a zrepl peer.
async fn fill(frame: &mut BytesMut, stream: &mut ByteStream, moves: bool) -> io::Result<Filled> {
    frame.clear();
    if moves
        && let Some(length) = poll_fn(|cx| stream.as_mut().poll_ready(cx)).await
        && length >= WORTH_MOVING
    {
        return Ok(Filled::Ready(length.min(MOST_MOVED)));
    }
    let chunk = if moves { STREAM_CHUNK } else { COPIED_CHUNK };
    frame.reserve(HEADER_LENGTH + chunk);
    frame.extend_from_slice(&[0; HEADER_LENGTH]);
    loop {
        let room = (HEADER_LENGTH + chunk).saturating_sub(frame.len()) as u64;
        let length = stream.take(room).read_buf(frame).await?;
        let payload = frame.len().saturating_sub(HEADER_LENGTH);
        match (length, payload) {
            (0, 0) => return Ok(Filled::End),
            (0, _) => return Err(io::Error::other("the stream ends with a single byte, which cannot be sent")),
            (_, 1) => {}
            _ => {
                let length = u32::try_from(payload).unwrap_or(u32::MAX);
                for (to, from) in frame.iter_mut().zip(header(FrameKind::Stream, length)) {
                    *to = from;
                }
                return Ok(Filled::Frame);
            }
        }
    }
}

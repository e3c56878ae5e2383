//! Peers that are slow, cut their bytes as they like, or end in another way than zrepl.

use super::*;

fn ping_frames() -> Vec<u8> {
    request(PING, &PingReq { message: UUID.into() }).unwrap()
}

fn pong_frames() -> Vec<u8> {
    response(&crate::pdu::PingRes { echo: UUID.into() }).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_may_come_in_one_piece_with_the_banner_or_byte_by_byte() {
    let banner = Banner::with_extensions(vec![]).encode().unwrap();
    let said = [banner.as_slice(), &Label::Data.encode(), &ping_frames()].concat();
    // The banner must be there within ten seconds, and so must the label.
    for (piece, pause) in [(said.len(), Duration::ZERO), (1, SECOND / 10)] {
        let (mut io, there) = duplex(1 << 16);
        let (_, task) = server(there, Fake::default());
        for piece in said.chunks(piece) {
            io.write_all(piece).await.unwrap();
            sleep(pause).await;
        }
        let expected = [banner.clone(), pong_frames(), hex("1000000000000000")].concat();
        // While a request comes slowly, this side shows that it lives.
        assert_eq!(rest_without_heartbeats(io).await, expected);
        drop(task.await.unwrap());
    }
}

async fn rest_without_heartbeats(io: DuplexStream) -> Vec<u8> {
    let (beat, heard) = (hex("0100000000000000"), rest(io).await);
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < heard.len() {
        if heard[at..].starts_with(&beat) {
            at += beat.len();
        } else {
            kept.push(heard[at]);
            at += 1;
        }
    }
    kept
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_sink_stalls_keeps_its_server() {
    // Much more than all buffers on the way hold, so that the server is stuck each time.
    let (client, _, task) = pair(sender(|| vec![Line::Bytes(bytes(3_000_000))]));
    let mut reply = client.send(&step()).await.unwrap();
    let (start, mut piece, mut received) = (Instant::now(), vec![0; 1_000_000], 0);
    loop {
        sleep(25 * SECOND).await;
        match reply.stream.read(&mut piece).await.unwrap() {
            0 => break,
            length => received += length,
        }
    }
    assert_eq!(received, 3_000_000);
    assert!(start.elapsed() > 100 * SECOND);
    drop(reply);
    assert_eq!(task.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_moved_over_tcp_though_its_sink_stalls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut there, _) = listener.accept().await.unwrap();
    let endpoint = Arc::new(Fake { stall: Some(25 * SECOND), ..Fake::default() });
    let serving = Arc::clone(&endpoint);
    let task = tokio::spawn(async move {
        welcome(&mut there, &Banner::with_extensions(vec![]).into()).await.unwrap();
        serve(Box::new(there), serving, Limits::default(), Agreement::default(), Closing::default()).await
    });
    let dialer = Once(Mutex::new(Some(Box::new(here))));
    let client = DataClient::new(Arc::new(dialer), Banner::with_extensions(vec![]).into(), Limits::default());
    client.receive(&announced(), Script(vec![Line::Bytes(bytes(1_000_000))]).stream()).await.unwrap();
    assert!(*endpoint.received.lock().unwrap() == bytes(1_000_000));
    drop(client);
    assert_eq!(task.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_counts_however_the_server_ends() {
    for (end, closes) in [("1000000000000000", true), ("", true), ("1000000000000000", false), ("", false)] {
        let (here, there) = duplex(1 << 16);
        let client = client(here);
        let start = Instant::now();
        let served = async {
            let mut io = raw_server(there, [pong_frames(), hex(end)].concat()).await;
            if closes {
                io.shutdown().await.unwrap();
            }
            io
        };
        let (pong, io) = tokio::join!(client.ping(UUID), served);
        assert_eq!(pong, Ok(()), "{end:?}, closed: {closes}");
        assert!(start.elapsed() < SECOND);
        // This side leaves at once, or when it has waited for the other's end for long enough.
        let said = rest(io).await;
        assert!(said.ends_with(&hex("1000000000000000")), "{said:x?}");
        assert!(start.elapsed() <= 10 * SECOND, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_may_come_between_any_two_frames() {
    let beat = header(crate::frame::FrameKind::Heartbeat, 0);
    let asked = request(RECEIVE, &ReceiveReq::from(&announced())).unwrap();
    let frame = hex("0000000500000004 61626364");
    let (path, message) = asked.split_at(8 + RECEIVE.len() + 8);
    let sent = [&beat, path, &beat, message, &beat, &frame, &beat, &beat, &frame, &beat, &hex("0002000000000000")];
    let (mut io, task) = raw_client(Fake::default()).await;
    io.write_all(&sent.concat()).await.unwrap();
    let answered = response(&crate::pdu::ReceiveRes {}).unwrap();
    let mut heard = vec![0; answered.len()];
    io.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, answered);
    io.write_all(&header(crate::frame::FrameKind::Reset, 0)).await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(task.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn no_frame_has_a_single_byte_however_the_stream_comes() {
    let lines = || {
        let piece = |length: usize| [Line::Bytes(vec![7; length]), Line::Pause(SECOND / 2)];
        [1, 1, 1, 1, 3, 1, 524_288, 1, 2].into_iter().flat_map(piece).collect()
    };
    let (mut io, _task) = raw_client(sender(lines)).await;
    io.write_all(&request(SEND, &SendReq::from(&step())).unwrap()).await.unwrap();
    let all = rest(io).await;
    let (mut heard, mut received) = (all.as_slice(), 0);
    while let Some((head, behind)) = heard.split_first_chunk::<8>() {
        let length = u32::from_be_bytes(*head.last_chunk().unwrap()) as usize;
        assert_ne!(length, 1, "{head:x?}");
        received += if head[3] == 5 { length } else { 0 };
        heard = &behind[length..];
    }
    assert_eq!(received, 524_288 + 11);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lives_but_takes_nothing_gives_the_source_back() {
    let (mut io, mut task) = raw_client(sender(|| vec![Line::Bytes(bytes(8_000_000))])).await;
    io.write_all(&request(SEND, &SendReq::from(&step())).unwrap()).await.unwrap();
    let start = Instant::now();
    let served = loop {
        tokio::select! {
            served = &mut task => break served.unwrap(),
            () = sleep(5 * SECOND) => io.write_all(&hex("0100000000000000")).await.unwrap(),
        }
    };
    let why = served.unwrap_err().to_string();
    assert!(why.starts_with("sending a stream: the peer lives, but has accepted nothing for 1800s"), "{why}");
    assert!((1800..1810).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_may_begin_late_and_has_a_minute_then() {
    let (mut io, task) = raw_client(Fake::default()).await;
    let beat = hex("0100000000000000");
    for _ in 0..1000 {
        io.write_all(&beat).await.unwrap();
        sleep(4 * SECOND).await;
    }
    assert!(!task.is_finished(), "heartbeats are enough");
    let begun = crate::frame::encode::message(FrameKind::RequestHeader, PING.as_bytes()).unwrap();
    io.write_all(&begun).await.unwrap();
    let start = Instant::now();
    while !task.is_finished() {
        // Perhaps this side has just ended it.
        let _ = io.write_all(&beat).await;
        sleep(SECOND).await;
    }
    assert_eq!(task.await.unwrap(), Err(server::ServeError::Slow));
    // The end itself takes ten seconds with a peer that goes on.
    assert!((60..75).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

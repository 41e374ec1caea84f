use std::time::Instant;

use super::*;

/// A server that sends everything back behind `greeting`.
struct Echo {
    address: SocketAddr,
    accepting: JoinSet<()>,
}

impl Echo {
    async fn start(greeting: &'static [u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    // A connection that was cut has nothing more to say.
                    if to.write_all(greeting).await.is_ok() {
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    }
                });
            }
        });
        Self { address, accepting }
    }
}

async fn open(link: &Link) -> TcpStream {
    TcpStream::connect(link.address())
        .await
        .expect("the link accepts")
}

async fn echoed(stream: &mut TcpStream, sent: &[u8]) -> Vec<u8> {
    stream.write_all(sent).await.expect("sent");
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).await.expect("echoed");
    back
}

/// Whether the other side ended the connection.
async fn ended(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn bytes_pass_whole_and_in_order_and_so_does_the_end() {
    let echo = Echo::start(b"").await;
    let link = Link::to(echo.address).await;
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut from, mut to) = open(&link).await.into_split();
    let mut back = Vec::new();
    let write = async {
        to.write_all(&sent).await.expect("sent");
        to.shutdown().await.expect("half closed");
    };
    let (_, read) = tokio::join!(write, from.read_to_end(&mut back));
    assert_eq!(read.expect("read to the end"), sent.len());
    assert!(back == sent, "the same bytes");
    assert_eq!(link.carried(), 2 * sent.len() as u64);
    drop((from, to));
    crate::eventually("the connection is over", || async {
        if link.connections() == 0 {
            Ok(())
        } else {
            Err(link.connections())
        }
    })
    .await;
}

#[tokio::test]
async fn a_cut_ends_what_is_open_and_what_comes_until_it_passes_again() {
    let echo = Echo::start(b"").await;
    let link = Link::to(echo.address).await;
    let mut early = open(&link).await;
    assert_eq!(echoed(&mut early, b"hello").await, b"hello");
    link.set(Flow::Cut);
    assert!(ended(&mut early).await);
    assert!(ended(&mut open(&link).await).await);
    link.set(Flow::Pass);
    assert_eq!(echoed(&mut open(&link).await, b"again").await, b"again");
}

#[tokio::test]
async fn a_frozen_link_keeps_its_connections_and_its_bytes() {
    let echo = Echo::start(b"").await;
    let link = Link::to(echo.address).await;
    let mut stream = open(&link).await;
    assert_eq!(echoed(&mut stream, b"before").await, b"before");
    link.set(Flow::Freeze);
    let carried = link.carried();
    let silence = tokio::time::timeout(Duration::from_millis(100), echoed(&mut stream, b"within")).await;
    assert!(silence.is_err(), "nothing arrives");
    assert_eq!((link.connections(), link.carried()), (1, carried));
    link.set(Flow::Pass);
    let mut back = [0; 6];
    stream.read_exact(&mut back).await.expect("it arrives after all");
    assert_eq!(&back, b"within");
}

#[tokio::test]
async fn delay_and_throttle_take_their_time() {
    let echo = Echo::start(b"").await;
    let link = Link::to(echo.address).await;
    let mut stream = open(&link).await;
    for (flow, size, least) in [
        (
            Flow::Delay(Duration::from_millis(40)),
            1,
            Duration::from_millis(80),
        ),
        (Flow::Throttle(1 << 20), 200 << 10, Duration::from_millis(150)),
    ] {
        link.set(flow);
        let sent = vec![7; size];
        let began = Instant::now();
        let (mut from, mut to) = stream.split();
        let mut back = vec![0; size];
        let (written, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut back));
        written.expect("sent");
        read.expect("echoed");
        assert!(began.elapsed() >= least, "{flow:?}: {:?}", began.elapsed());
        assert!(back == sent);
    }
}

#[tokio::test]
async fn new_connections_lead_where_the_link_was_last_aimed() {
    let (mut first, second) = tokio::join!(Echo::start(b"1"), Echo::start(b"2"));
    let link = Link::open().await;
    assert!(ended(&mut open(&link).await).await, "it leads nowhere yet");
    let mut byte = [0];
    link.aim(first.address);
    let mut old = open(&link).await;
    old.read_exact(&mut byte).await.expect("a greeting");
    assert_eq!(&byte, b"1");
    link.aim(second.address);
    open(&link).await.read_exact(&mut byte).await.expect("a greeting");
    assert_eq!(&byte, b"2");
    assert_eq!(echoed(&mut old, b"still here").await, b"still here");
    first.accepting.shutdown().await;
    link.aim(first.address);
    assert!(ended(&mut open(&link).await).await, "nobody is there");
    let address = link.address();
    drop(link);
    crate::eventually("the link is gone", || async {
        match TcpStream::connect(address).await {
            Ok(_) => Err(address),
            Err(_) => Ok(()),
        }
    })
    .await;
}

//! What fan-out costs before any product: a thread that writes the same bytes to every socket in a plain loop. The
//! share of a delivery's time that no server can save on this machine.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::live::{Delivered, PACE, PACED, SOCKETS, close, read};
use crate::report::percentile;

/// A delta of one message is about this long.
const FRAME_BYTES: usize = 400;

/// p50 and p99 in milliseconds from the order to write until each socket has its frame, 100 times a second.
pub(crate) async fn paced() -> (f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let (order, orders): (SyncSender<()>, Receiver<()>) = sync_channel(1);
    let writer = std::thread::spawn(move || write_to_all(&listener, &orders));
    let (send, mut arrivals) = mpsc::channel(PACED * SOCKETS);
    let delivered = Arc::new(Delivered::default());
    let mut readers = Vec::with_capacity(SOCKETS);
    for number in 0..SOCKETS {
        let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        readers.push(read(number, stream, Arc::clone(&delivered), Some(send.clone())));
    }
    let mut latencies = Vec::with_capacity(PACED * SOCKETS);
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for number in 0..PACED {
        ticks.tick().await;
        let sent = Instant::now();
        order.send(()).expect("the writer waits");
        delivered.wait_for((SOCKETS * (number + 1)) as u64).await;
        while let Ok((_, at)) = arrivals.try_recv() {
            latencies.push((at - sent).as_secs_f64() * 1e3);
        }
    }
    drop(order);
    writer.join().expect("the writer ends with its orders");
    close(readers);
    latencies.sort_by(f64::total_cmp);
    (percentile(&latencies, 0.50), percentile(&latencies, 0.99))
}

fn write_to_all(listener: &TcpListener, orders: &Receiver<()>) {
    let accept = |_| listener.accept().expect("a client connects").0;
    let mut sockets: Vec<TcpStream> = (0..SOCKETS).map(accept).collect();
    for socket in &sockets {
        socket.set_nodelay(true).expect("a socket option");
    }
    let mut frame = b"\"channel\":".to_vec();
    frame.resize(FRAME_BYTES, b'.');
    while orders.recv().is_ok() {
        for socket in &mut sockets {
            socket.write_all(&frame).expect("written");
        }
    }
}

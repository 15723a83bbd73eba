//! Connections: how many there may be, what becomes of clients that do not read, and what strangers may take.

use std::future::pending;
use std::time::Duration;

use finetuned::api::{self, ApiState, ConnectionLimits, Pace};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::support::logs;
use super::support::service::{Service, eventually};

/// Whoever reads nothing for a second is cut off.
const LIMITS: ConnectionLimits = ConnectionLimits {
    total: 0,
    per_address: 0,
    pace: Pace { stretch: Duration::from_secs(1), bytes: 512 },
    strangers: 0,
};

/// A second address of the service, with limits of its own.
async fn serve(service: &Service, limits: ConnectionLimits) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api::router(ApiState::new(service.app.clone(), finetuned::telemetry::init_metrics()));
    tokio::spawn(api::serve(listener, router, limits, pending()));
    address
}

/// The size of the file that is downloaded.
const SIZE: usize = 8 << 20;

/// A connection on which a file is asked for.
async fn download(service: &Service, address: std::net::SocketAddr) -> TcpStream {
    let file = service.client().upload_as("user_data", "data.bin", vec![b'x'; SIZE]).await.good();
    let mut stream = narrow(address).await;
    let id = file["id"].as_str().unwrap();
    let request = format!(
        "GET /v1/files/{id}/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        service.key
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A connection that takes little at once.
async fn narrow(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(address).await.unwrap()
}

/// The whole answer to a request on a connection of its own.
async fn answer(address: std::net::SocketAddr) -> String {
    answer_to(address, "").await
}

/// The same with these lines in the request's head.
async fn answer_to(address: std::net::SocketAddr, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
    let mut text = String::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = stream.read_to_string(&mut text).await;
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_lose_their_connections() {
    const CLIENTS: usize = 40;
    let service = Service::api().await;
    let address = serve(&service, ConnectionLimits { total: CLIENTS, ..LIMITS }).await;
    let requests = "GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let mut unread = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = narrow(address).await;
        stream.write_all(requests.as_bytes()).await.unwrap();
        unread.push(stream);
    }
    eventually("all of them to be cut off", 30, async || {
        unread.retain(|stream| stream.take_error().unwrap().is_none());
        unread.is_empty().then_some(())
    })
    .await;
    // Their places are free again.
    let mut idle = Vec::new();
    for _ in 1..CLIENTS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    eventually("a place", 5, async || answer(address).await.starts_with("HTTP/1.1 200").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_but_steady_download_is_not_cut_off() {
    let service = Service::api().await;
    let address = serve(&service, LIMITS).await;
    let mut stream = download(&service, address).await;
    let (mut got, mut buffer) = (0, vec![0; 4 << 10]);
    // Several seconds, where one without progress would end it, and so little that the system need take nothing more.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        got += stream.read_exact(&mut buffer).await.unwrap();
    }
    buffer.resize(128 << 10, 0);
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        match stream.read_exact(&mut buffer).await {
            Ok(read) => got += read,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                break;
            }
        }
    }
    assert!(got + buffer.len() > SIZE, "only {got} bytes came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_told_to_come_back() {
    let service = Service::api().await;
    let address = serve(&service, ConnectionLimits { per_address: 3, ..LIMITS }).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    let refused = eventually("all places to be taken", 5, async || {
        let text = answer(address).await;
        text.starts_with("HTTP/1.1 503").then_some(text)
    })
    .await;
    let text = refused.to_lowercase();
    assert!(text.contains("retry-after: 2") && text.contains("connection: close"), "{refused}");
    assert!(text.contains("\"type\":\"server_error\"") && text.contains("x-request-id: req_"), "{refused}");
    open.pop();
    eventually("a place", 5, async || answer(address).await.starts_with("HTTP/1.1 200").then_some(())).await;
}

/// 256 requests without end from each of two addresses kept everybody out.
#[tokio::test(flavor = "multi_thread")]
async fn connections_without_work_make_room_for_others() {
    let service = Service::api().await;
    let pace = Pace { stretch: Duration::from_mins(1), bytes: 512 };
    let address = serve(&service, ConnectionLimits { total: 5, pace, ..LIMITS }).await;
    let mut working = download(&service, address).await;
    let mut got = vec![0; 100];
    working.read_exact(&mut got).await.unwrap();
    let mut idle = Vec::new();
    for source in ["127.0.0.2:0", "127.0.0.3:0"] {
        for _ in 0..2 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(source.parse().unwrap()).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
            idle.push(stream);
        }
    }
    for _ in 0..10 {
        let text = answer(address).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    assert!(matches!(idle[0].read(&mut [0]).await, Ok(0) | Err(_)), "the oldest is closed");
    working.read_to_end(&mut got).await.unwrap();
    assert!(got.len() > SIZE, "only {} bytes came", got.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_head_is_refused() {
    let service = Service::api().await;
    let address = serve(&service, LIMITS).await;
    let line = format!("X-Long: {}\r\n", "x".repeat(10_000));
    let served = answer_to(address, &line.repeat(3)).await;
    assert!(served.starts_with("HTTP/1.1 200"), "{served}");
    // What is read at once may hold as much again.
    let refused = answer_to(address, &line.repeat(14)).await;
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_limited_by_address_and_right_ones_are_not() {
    logs::capture();
    let service = Service::api().await;
    let address = serve(&service, ConnectionLimits { strangers: 1, ..LIMITS }).await;
    let client = service.client().at(&address.to_string());
    let wrong = client.with_key(Some("sk-ft-wrong"));
    let path = format!("/v1/files/file-none-{}", address.port());
    assert_eq!(wrong.get(&path).await.error().0, 401);
    for client in [&wrong, &client.with_key(None)] {
        for _ in 0..5 {
            let refused = client.get(&path).await;
            assert_eq!((refused.error().0, refused.error().2.as_deref()), (429, Some("rate_limit_exceeded")));
            let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
    }
    assert_eq!(logs::lines_with(&path).len(), 1, "the log tells of the first one");
    // One that was never seen before, and then one that was.
    for _ in 0..2 {
        client.get("/v1/models").await.good();
        assert_eq!(client.get(&path).await.error().0, 404);
    }
    assert_eq!(logs::lines_with(&path).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_comes() {
    let service = Service::api().await;
    for (path, bytes) in [("/v1/fine_tuning/jobs", (1 << 20) + 1), ("/v1/classifications", (16 << 20) + 1)] {
        let mut stream = TcpStream::connect(&service.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {bytes}\r\n\r\n",
            service.key
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 413", "{path}");
        // Whoever sends all of it before reading is told as well.
        for _ in 0..5 {
            let request = service.client().request(Method::POST, path).body(vec![b' '; bytes]);
            assert_eq!(request.send().await.unwrap().status(), 413, "{path}");
        }
    }
}

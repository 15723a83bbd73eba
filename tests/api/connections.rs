//! Connections: how many there may be, and what becomes of clients that do not read.

use std::future::pending;
use std::time::Duration;

use finetuned::api::{self, ApiState, ConnectionLimits, Pace};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::support::service::{Service, eventually};

/// A second address of the service, with limits of its own.
async fn serve(service: &Service, total: usize, per_address: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api::router(ApiState::new(service.app.clone(), finetuned::telemetry::init_metrics()));
    let pace = Pace { stretch: Duration::from_secs(1), bytes: 512 };
    tokio::spawn(api::serve(listener, router, ConnectionLimits { total, per_address, pace }, pending()));
    address
}

/// A connection that takes little at once.
async fn narrow(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(address).await.unwrap()
}

/// The whole answer to a request on a connection of its own.
async fn answer(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut text = String::new();
    if stream.write_all(request).await.is_ok() {
        let _ = stream.read_to_string(&mut text).await;
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_lose_their_connections() {
    const CLIENTS: usize = 40;
    let service = Service::api().await;
    let address = serve(&service, CLIENTS, 0).await;
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
    const SIZE: usize = 8 << 20;
    let service = Service::api().await;
    let address = serve(&service, 0, 0).await;
    let file = service.client().upload_as("user_data", "data.bin", vec![b'x'; SIZE]).await.good();
    let mut stream = narrow(address).await;
    let id = file["id"].as_str().unwrap();
    let request = format!(
        "GET /v1/files/{id}/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        service.key
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut got, mut buffer) = (0, vec![0; 128 << 10]);
    loop {
        // Several seconds in all, where one without progress would end it.
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
    let address = serve(&service, 0, 3).await;
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

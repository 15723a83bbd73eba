//! Keys, headers, limits, and what every answer has.

use finetuned::api;
use finetuned::app::keys;
use reqwest::Method;

use super::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_but_the_operators_needs_a_key() {
    let service = Service::api().await;
    let client = service.client();
    let revoked = {
        let (id, secret) = keys::create(&service.app, "acme", "old").await.unwrap();
        assert!(keys::revoke(&service.app, id).await.unwrap());
        assert!(!keys::revoke(&service.app, id).await.unwrap());
        secret.expose().to_owned()
    };
    for route in api::routes() {
        let path = route.path.replace("{*path}", "x").replace(['{', '}'], "");
        for (key, code) in
            [(None, None), (Some("sk-ft-wrong"), Some("invalid_api_key")), (Some(&*revoked), Some("invalid_api_key"))]
        {
            let client = client.with_key(key);
            let answer = client.send(client.request(route.method.clone(), &path)).await;
            if path.starts_with("/v1") {
                assert_eq!((answer.error().0, answer.error().2.as_deref()), (401, code), "{path}");
            } else {
                assert_eq!(answer.status, 200, "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_headers_of_openais() {
    let service = Service::api().await;
    let first = service.client().get("/v1/models").await;
    assert_eq!(first.header("openai-organization"), Some("acme"));
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("6000"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("5999"));
    let second = service.client().get("/v1/models").await;
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let service = Service::with(|config| config.rate_limit = 3).await;
    let client = service.client();
    for _ in 0..3 {
        client.get("/v1/models").await.good();
    }
    let denied = client.get("/v1/models").await;
    assert_eq!((denied.error().0, denied.error().2.as_deref()), (429, Some("rate_limit_exceeded")));
    let wait: u64 = denied.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert!(denied.header("retry-after-ms").unwrap().parse::<u64>().unwrap() <= wait * 1000);
    service.stranger().await.get("/v1/models").await.good();
    service.client().get("/healthz").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_refused_in_the_envelope() {
    let service = Service::api().await;
    let client = service.client();
    for path in ["/", "/v1", "/v1/nothing", "/v1/files/a/b/c", "/v1/fine_tuning/jobs/", "/v2/models", "/v1//files"] {
        assert_eq!(client.get(path).await.error().0, 404, "{path}");
    }
    let answer = client.send(client.request(Method::PUT, "/v1/files")).await;
    assert_eq!((answer.error().0, answer.error().2.as_deref()), (405, Some("method_not_allowed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_depends_on_the_database_and_health_does_not() {
    let service = Service::api().await;
    assert_eq!(service.client().get("/readyz").await.good()["status"], "ready");
    service.app.db.close().await;
    let unready = service.client().get("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.header("retry-after").is_some());
    service.client().get("/healthz").await.good();
    let models = service.client().get("/v1/models").await;
    assert_eq!(models.error().0, 503);
    assert!(!String::from_utf8_lossy(&models.bytes).to_lowercase().contains("pool"), "nothing internal leaks");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_are_all_told_that_the_service_is_ready() {
    let service = Service::api().await;
    // Whatever the pool is busy with.
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(service.app.db.begin().await.unwrap());
    }
    let client = service.client();
    let answers = futures_util::future::join_all((0..240).map(|_| client.get("/readyz"))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let left: Vec<_> = std::fs::read_dir(service.objects()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_by_route() {
    let service = Service::api().await;
    service.client().get("/v1/files/file-none").await;
    let text = String::from_utf8(service.client().get("/metrics").await.bytes).unwrap();
    assert!(
        text.contains(r#"finetuned_http_requests_total{method="GET",route="/v1/files/{file_id}",status="404"}"#),
        "{text}"
    );
    assert!(text.contains("finetuned_http_request_duration_seconds_bucket{route=\"/v1/files/{file_id}\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served() {
    let service = Service::api().await;
    let answer = service.client().get("/openapi.yaml").await;
    assert_eq!(answer.bytes, include_bytes!("../../openapi.yaml"));
}

/// A client that does not get to the end of its request's head is cut off, whatever it goes on sending.
#[tokio::test(flavor = "multi_thread")]
async fn a_dribbling_client_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let service = Service::api().await;
    let dribble = async || {
        let mut stream = tokio::net::TcpStream::connect(&service.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let writing = tokio::spawn(async move {
            while write.write_all(b"X-Slow: 1\r\n").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        });
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), read.read_to_end(&mut answer)).await;
        writing.abort();
        (ended.is_ok(), String::from_utf8_lossy(&answer).into_owned())
    };
    let dribblers = futures_util::future::join_all((0..50).map(|_| dribble()));
    let (ended, ()) = tokio::join!(dribblers, async {
        // Others are served meanwhile.
        for _ in 0..20 {
            assert_eq!(service.client().get("/healthz").await.status, 200);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    for (ended, answer) in ended {
        assert!(ended && !answer.contains("200 OK"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_refused_by_name() {
    let service = Service::api().await;
    let request = service.client().request(Method::POST, "/v1/fine_tuning/jobs");
    let answer = service.client().send(request.header("content-encoding", "gzip").body(vec![0x1F, 0x8B, 8, 0])).await;
    let (status, param, _, message) = answer.error();
    assert_eq!((status, param.as_deref()), (415, Some("content-encoding")));
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    assert!(message.contains("must not be compressed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stands_twice_in_a_body_is_refused() {
    let service = Service::api().await;
    let body = r#"{"model": "m", "training_file": "f", "hyperparameters": {"n_epochs": 1, "n_epochs": 2}}"#;
    let answer = service.client().send(service.client().request(Method::POST, "/v1/fine_tuning/jobs").body(body)).await;
    let (status, _, code, message) = answer.error();
    assert_eq!((status, code.as_deref()), (400, Some("invalid_json")));
    assert!(message.contains("duplicate key \"n_epochs\""), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_not_the_keys_own_is_refused() {
    let service = Service::api().await;
    let client = service.client();
    let ask = async |project: &str| {
        client.send(client.request(Method::GET, "/v1/models").header("openai-project", project)).await
    };
    let (status, param, code, message) = ask("proj_abc").await.error();
    assert_eq!((status, param.as_deref(), code.as_deref()), (401, Some("openai-project"), Some("mismatched_project")));
    let own = message.split("send ").nth(1).unwrap().trim_end_matches('.').to_owned();
    assert!(own.starts_with("proj_"), "{message}");
    for named in [own.as_str(), "acme", ""] {
        assert_eq!(ask(named).await.status, 200, "{named}");
    }
}

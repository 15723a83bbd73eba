//! A client that speaks plain HTTP and holds every answer against the contract.

use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::contract;
use super::service::eventually;

/// How long a client waits that expects trouble.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Sends requests with one key, or none.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// An answer that fits openapi.yaml.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The JSON body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// The JSON body of a success.
    #[track_caller]
    pub fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// Status, `param`, `code` and message of an error.
    #[track_caller]
    pub fn error(&self) -> (u16, Option<String>, Option<String>, String) {
        assert!(self.status >= 400, "{} {}", self.status, String::from_utf8_lossy(&self.bytes));
        let error = self.json()["error"].clone();
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (self.status, text("param"), text("code"), text("message").unwrap())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    pub fn new(address: &str, key: Option<&str>) -> Self {
        // The client is built with TLS for the object store's sake, and wants to know by whom.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, base: format!("http://{address}"), key: key.map(str::to_owned) }
    }

    /// The same client of a service elsewhere.
    pub fn at(&self, address: &str) -> Self {
        Self { base: format!("http://{address}"), ..self.clone() }
    }

    /// The same client with another key, or none.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request and checks the answer against the contract.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let (method, path) = {
            let request = request.try_clone().map(|r| r.build().unwrap());
            match request {
                Some(request) => (Some(request.method().clone()), request.url().path().to_owned()),
                None => (None, String::new()),
            }
        };
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let path = if path.is_empty() { response.url().path().to_owned() } else { path };
        let answer = Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() };
        contract::check(method.unwrap_or(Method::POST).as_str(), &path, &answer);
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Uploads bytes as a file for fine-tuning, and returns its id.
    pub async fn upload(&self, filename: &str, bytes: impl Into<Vec<u8>>) -> String {
        let answer = self.upload_as("fine-tune", filename, bytes).await;
        answer.good()["id"].as_str().unwrap().to_owned()
    }

    pub async fn upload_as(&self, purpose: &str, filename: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        let file = Part::bytes(bytes.into()).file_name(filename.to_owned());
        self.send_form(Form::new().text("purpose", purpose.to_owned()).part("file", file)).await
    }

    pub async fn send_form(&self, form: Form) -> Answer {
        self.send_form_to("/v1/files", form).await
    }

    pub async fn send_form_to(&self, path: &str, form: Form) -> Answer {
        let response = self.request(Method::POST, path).multipart(form).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() };
        contract::check("POST", path, &answer);
        answer
    }

    /// Creates a job on `tiny-bert` with these hyperparameters and returns its id.
    pub async fn create_job(&self, training_file: &str, hyperparameters: Value) -> String {
        let body = json!({"model": "tiny-bert", "training_file": training_file, "hyperparameters": hyperparameters});
        self.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned()
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/fine_tuning/jobs/{id}")).await.good()
    }

    /// All of a job's metrics, but for what the clock says, which is another in each run.
    pub async fn metrics(&self, id: &str) -> Value {
        let mut rows = self.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=10000")).await.good()["data"].take();
        for row in rows.as_array_mut().unwrap() {
            row["metrics"].as_object_mut().unwrap().remove("tokens_per_second");
        }
        rows
    }

    /// The status of an answer; None if there is none, since the service may be away.
    pub async fn try_get(&self, path: &str) -> Option<u16> {
        let answer = self.request(Method::GET, path).timeout(PATIENCE).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// A job; None if the service is away.
    pub async fn try_job(&self, id: &str) -> Option<Value> {
        let request = self.request(Method::GET, &format!("/v1/fine_tuning/jobs/{id}")).timeout(PATIENCE);
        let answer = request.send().await.ok()?;
        if answer.status() == 200 { answer.json().await.ok() } else { None }
    }

    /// A request without body; true if it was acknowledged.
    pub async fn try_post(&self, path: &str) -> bool {
        let answer = self.request(Method::POST, path).timeout(2 * PATIENCE).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// Creates a job and returns its id, if that was acknowledged in one of a few tries with the same key.
    pub async fn try_create(&self, body: &Value, key: &str) -> Option<String> {
        for _ in 0..5 {
            let request = self.request(Method::POST, "/v1/fine_tuning/jobs").json(body).header("idempotency-key", key);
            if let Ok(answer) = request.timeout(PATIENCE).send().await
                && answer.status() == 200
            {
                return answer.json::<Value>().await.ok()?["id"].as_str().map(str::to_owned);
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        None
    }

    /// Uploads a file once; its id, if that was acknowledged.
    pub async fn try_upload(&self, filename: &str, bytes: Vec<u8>) -> Option<String> {
        let file = Part::bytes(bytes).file_name(filename.to_owned());
        let form = Form::new().text("purpose", "fine-tune").part("file", file);
        let answer = self.request(Method::POST, "/v1/files").multipart(form).timeout(PATIENCE).send().await.ok()?;
        if answer.status() != 200 {
            return None;
        }
        answer.json::<Value>().await.ok()?["id"].as_str().map(str::to_owned)
    }

    /// Waits until a job is in one of these statuses.
    pub async fn wait_for(&self, id: &str, statuses: &[&str], seconds: u64) -> Value {
        eventually(&format!("job to be {statuses:?}"), seconds, async || {
            let job = self.job(id).await;
            statuses.contains(&job["status"].as_str().unwrap()).then_some(job)
        })
        .await
    }

    /// Waits until a job has ended.
    pub async fn wait_for_end(&self, id: &str) -> Value {
        self.wait_for(id, &["succeeded", "failed", "cancelled"], 120).await
    }

    /// The messages of a job's events, oldest first.
    pub async fn messages(&self, id: &str) -> Vec<String> {
        let events = self.get(&format!("/v1/fine_tuning/jobs/{id}/events?limit=1000")).await.good();
        let mut messages: Vec<String> = events["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect();
        messages.reverse();
        messages
    }
}

//! The unmodified `openai` package for Python against the running service.

use std::process::Command;

use super::support::service::Service;
use super::tasks::service;

/// What an example prints that drives the service with the SDK.
async fn run(service: &Service, example: &'static str, arguments: &'static [&'static str]) -> String {
    let python = std::env::var("FINETUNED_TEST_PYTHON").unwrap_or_else(|_| {
        panic!("FINETUNED_TEST_PYTHON is not set: run `make test`, which makes a Python with the SDK")
    });
    let (address, key) = (service.address.clone(), service.key.clone());
    let walk = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .arg(format!("{}/examples/{example}", env!("CARGO_MANIFEST_DIR")))
            .args(arguments)
            .env("OPENAI_BASE_URL", format!("http://{address}/v1"))
            .env("OPENAI_API_KEY", key)
            .output()
            .unwrap()
    });
    let output = walk.await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_drives_the_whole_path() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let out = run(&service, "openai_sdk.py", &["--model", "tiny-bert", "--limit", "60"]).await;
    for expected in [
        "status: succeeded",
        "checkpoint at step",
        "columns: step,train_loss,train_accuracy",
        "'examples': 58, 'loss'",
        "deleted",
    ] {
        assert!(out.contains(expected), "{expected}:\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_tunes_a_language_model_by_openais_guide_and_chats_with_it() {
    let service = service(&["tiny-llama"]).await;
    let out = run(&service, "openai_chat.py", &["--model", "tiny-llama"]).await;
    for expected in [
        "supervised on tiny-llama",
        "dpo on ft:tiny-llama:",
        "checkpoint at step",
        "The job has successfully completed",
        "completion_tokens=",
        "streamed: '",
        "refused: n: n is 99; it must be 1 to 16.",
    ] {
        assert!(out.contains(expected), "{expected}:\n{out}");
    }
}

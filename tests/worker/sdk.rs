//! The unmodified `openai` package for Python against the running service.

use std::process::Command;

use super::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_drives_the_whole_path() {
    let python = std::env::var("FINETUNED_TEST_PYTHON").unwrap_or_else(|_| {
        panic!("FINETUNED_TEST_PYTHON is not set: run `make test`, which makes a Python with the SDK")
    });
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let (address, key) = (service.address.clone(), service.key.clone());
    let walk = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/openai_sdk.py"))
            .args(["--model", "tiny-bert", "--limit", "60"])
            .env("OPENAI_BASE_URL", format!("http://{address}/v1"))
            .env("OPENAI_API_KEY", key)
            .output()
            .unwrap()
    });
    let output = walk.await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
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

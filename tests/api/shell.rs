//! The shell functions of examples/functions.sh, which the manuals use.

use std::process::Command;

use super::support::service::Service;

/// What a command of `shell` says on standard output and on standard error, and whether its status is 0.
async fn run(service: &Service, shell: &'static str, command: &str) -> (String, String, bool) {
    let command = format!(". examples/functions.sh\n{command}");
    let (address, key) = (service.address.clone(), service.key.clone());
    let run = tokio::task::spawn_blocking(move || {
        Command::new(shell)
            .args(["-c", &command])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("OPENAI_BASE_URL", format!("http://{address}/v1"))
            .env("OPENAI_API_KEY", key)
            .output()
            .unwrap()
    });
    let output = run.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_refuses_is_an_error_of_the_shell_functions() {
    let service = Service::api().await;
    for shell in ["bash", "sh"] {
        for (command, said) in [
            ("api /models/gone", "The model 'gone' does not exist"),
            ("OPENAI_API_KEY=wrong api /models", "Incorrect API key provided"),
            ("upload examples/gone.csv", "there is no file examples/gone.csv"),
            (
                "create_job '{\"model\": \"gone\", \"training_file\": \"\"}'",
                "Missing required parameter: 'training_file'",
            ),
            ("post /classifications '{'", "invalid_json"),
            ("download /models/gone/archive /nowhere/archive", "curl: (23)"),
            ("wait_for ''", "expected the id of a job or of an evaluation"),
            ("wait_for ftjob-0", "Could not find fine tune"),
            ("OPENAI_BASE_URL= api /models", "paste the lines that the service printed"),
        ] {
            let (out, error, well) = run(&service, shell, command).await;
            assert!(!well && out.is_empty() && error.contains(said), "{shell} {command}: {out}\n{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_functions_wait_for_the_status_that_is_asked_for() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let create =
        "JOB=$(create_job '{\"model\": \"tiny-bert\", \"training_file\": \"'$(upload examples/data/urgency.csv)'\"}')
        api /fine_tuning/jobs/$JOB/cancel -X POST >/dev/null\n";
    for shell in ["bash", "sh"] {
        let (out, error, well) = run(&service, shell, &format!("{create}wait_for $JOB cancelled")).await;
        assert!(well && out.ends_with("  cancelled\n"), "{out}\n{error}");
        let (_, error, well) = run(&service, shell, &format!("{create}wait_for $JOB")).await;
        assert!(!well && error.contains(" is cancelled: no error"), "{error}");
    }
}

//! What requests may make the service hold. The service is a process of its own, whose peak the system keeps.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Method;

use finetuned::app::validation;
use image::{ImageBuffer, ImageEncoder, ImageFormat, Rgba};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::support::client::Client;
use super::support::fleet::{Fleet, Member};
use super::support::service::{Service, eventually};
use super::support::{data, database};

const MIB: usize = 1 << 20;

/// The most memory that the process ever had, in bytes.
fn peak(member: &Member) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", member.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A service without worker, with a client.
async fn service(folder: &tempfile::TempDir) -> (Member, Client) {
    let url = database::fresh().await;
    let fleet = Fleet::new(folder.path(), BTreeMap::from([("DATABASE_URL".to_owned(), url)]));
    let key = fleet.set_up();
    let (member, address) = fleet.start_api("api", "127.0.0.1:0").await;
    (member, Client::new(&address, Some(&key)))
}

/// JSON that becomes eighty times as large where it is held as values.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_small_values_are_not_held_as_values() {
    const BODY: usize = 15 * MIB;
    let folder = tempfile::tempdir().unwrap();
    let (member, client) = service(&folder).await;
    let small = "{\"a\":0},".repeat(BODY / 8);
    let list = format!("[{small}0]");
    let bodies = [
        ("/v1/classifications", small.clone(), 400),
        ("/v1/classifications", list.clone(), 400),
        ("/v1/classifications", format!("{{\"model\":\"tiny-bert\",\"input\":{list}}}"), 400),
        ("/v1/classifications", format!("{{\"model\":\"gpt-17\",\"input\":\"{}\"}}", "a".repeat(BODY)), 404),
        ("/v1/fine_tuning/jobs", small.clone(), 413),
        ("/v1/evaluations", format!("{{\"model\":\"m\",\"method\":{}0]}}", "[".repeat(MIB / 2)), 400),
    ];
    let quarter = format!("[{}0]", &small[..BODY / 32 * 8]);
    let row = format!("{{\"text\":\"a\",\"label\":\"b\",\"other\":{quarter}}}\n");
    let before = peak(&member);
    for (path, body, status) in bodies {
        let body = bytes::Bytes::from(body);
        let answers = join_all((0..8).map(|_| {
            let request = client.request(Method::POST, path).body(body.clone());
            client.send(request)
        }));
        for answer in answers.await {
            // One that waited for room for too long may come again.
            assert!(answer.status == status || answer.header("retry-after").is_some(), "{path}: {answer:?}");
        }
    }
    let uploads = join_all((0..4).map(|_| client.upload_as("fine-tune", "data.jsonl", row.clone())));
    for answer in uploads.await {
        assert_eq!(answer.good()["validation"]["rows"], 1);
    }
    let grown = peak(&member) - before;
    assert!(grown < 600 * MIB, "memory grew by {} MiB", grown / MIB);
}

/// A small image whose colour profile unpacks to a hundred megabytes.
fn image_with_large_profile() -> Vec<u8> {
    let mut png = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut png);
    encoder.set_icc_profile(vec![0; 100 * MIB]).unwrap();
    encoder.write_image(&[7; 3 * 8 * 8], 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    png
}

#[tokio::test(flavor = "multi_thread")]
async fn colour_profiles_are_not_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let (member, client) = service(&folder).await;
    let png = image_with_large_profile();
    assert!(png.len() < MIB);
    let mut builder = tar::Builder::new(Vec::new());
    for i in 0..6 {
        let mut header = tar::Header::new_gnu();
        header.set_size(png.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("{}/{i}.png", i % 2), &png[..]).unwrap();
    }
    let before = peak(&member);
    let report = client.upload_as("fine-tune", "images.tar", builder.into_inner().unwrap()).await.good();
    assert_eq!(report["validation"]["image_classification"]["examples"], 6);
    let grown = peak(&member) - before;
    assert!(grown < 60 * MIB, "memory grew by {} MiB", grown / MIB);
}

/// A tar archive of twelve images of two classes, of 16 bits in four channels: 2 MiB each once it is decoded.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for i in 0..12_u16 {
        let image = ImageBuffer::from_fn(512, 512, |x, y| Rgba([i << 8, x as u16, y as u16, u16::MAX]));
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(png.get_ref().len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("{}/{i}.png", i % 2), &png.get_ref()[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A service that may hold so much of decoded images, with an image model and a file of images.
async fn image_service(room: u64) -> (Service, String) {
    let service = Service::with(|config| config.image_memory = room).await;
    let directory = data::tiny_model().with_file_name("tiny-vit");
    finetuned::app::models::import(&service.app, &directory, "tiny-vit").await.unwrap();
    let file = service.client().upload("images.tar", archive()).await;
    (service, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_are_checked_share_one_room() {
    const ROOM: u64 = 5 << 20;
    let (service, file) = image_service(ROOM).await;
    let client = service.client();
    let body = json!({"model": "tiny-vit", "training_file": file, "dry_run": true});
    let answers = join_all((0..4).map(|_| client.post_json("/v1/fine_tuning/jobs", &body))).await;
    for answer in answers {
        assert_eq!(answer.good()["validation"]["training"]["examples"], 12);
    }
    let usage = service.app.decoding.usage();
    assert!((2 << 20..=ROOM).contains(&usage.peak) && usage.used == 0, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_for_a_client_that_is_gone_stops() {
    let (service, file) = image_service(4 << 20).await;
    let client = service.client();
    // All the room is taken, so nothing gets on until the test says so.
    let all =
        [7_u64 << 19, 1 << 19].map(|bytes| service.app.decoding.enter(None, bytes, &CancellationToken::new()).unwrap());
    let waiting = async |count: usize| {
        let what = format!("{count} to wait for room");
        eventually(&what, 10, async || (service.app.decoding.usage().waiting == count).then_some(())).await;
    };
    let body = json!({"model": "tiny-vit", "training_file": file, "dry_run": true});
    let dry_run = tokio::spawn({
        let (client, body) = (client.clone(), body.clone());
        async move { client.post_json("/v1/fine_tuning/jobs", &body).await }
    });
    waiting(1).await;
    let upload = tokio::spawn({
        let client = client.clone();
        async move { client.upload("images.tar", archive()).await }
    });
    waiting(2).await;
    dry_run.abort();
    waiting(1).await;
    upload.abort();
    waiting(0).await;
    assert_eq!(std::fs::read_dir(service.app.scratch()).unwrap().count(), 0);

    let job = json!({"model": "tiny-vit", "training_file": file});
    client.post_json("/v1/fine_tuning/jobs", &job).await.good();
    let app = service.app.clone();
    let validating = tokio::spawn(async move { validation::run_once(&app).await });
    waiting(1).await;
    validating.abort();
    waiting(0).await;
    // Others get on as soon as there is room.
    drop(all);
    client.post_json("/v1/fine_tuning/jobs", &body).await.good();
}

//! Image processing against Pillow, torchvision and Transformers: `tests/golden/images.py` makes the values.

use std::collections::HashMap;

use finetuned::domain::hyperparameters::Augmentation;
use finetuned::domain::random::mix_all;
use finetuned_engine::vision::RgbImage;
use finetuned_engine::vision::augment::{DrawKey, Variation};
use finetuned_engine::vision::mix::Mix;
use finetuned_engine::vision::operation::Operation;
use finetuned_engine::vision::processor::ImageProcessor;
use finetuned_engine::vision::randaugment;
use finetuned_engine::vision::resize::{Area, Filter, crop, resize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use crate::support::{golden, golden_path};

fn image(golden: &HashMap<String, Tensor>, name: &str) -> RgbImage {
    let tensor = &golden[name];
    let (height, width) = (tensor.size()[0] as u32, tensor.size()[1] as u32);
    assert_eq!(tensor.kind(), Kind::Uint8);
    RgbImage::from_raw(width, height, Vec::<u8>::try_from(tensor.flatten(0, -1)).unwrap()).unwrap()
}

/// A processor of a file that says its class.
fn parse(config: &Value) -> finetuned_engine::error::Result<ImageProcessor> {
    ImageProcessor::parse(config.to_string().as_bytes(), "")
}

/// The most levels that two images differ by, and the share of values that differ at all.
fn levels(one: &RgbImage, other: &RgbImage) -> (u8, f64) {
    assert_eq!(one.dimensions(), other.dimensions());
    let off: Vec<u8> = one.iter().zip(other.iter()).map(|(&a, &b)| a.abs_diff(b)).collect();
    let different = off.iter().filter(|&&levels| levels > 0).count();
    (off.iter().copied().max().unwrap(), different as f64 / off.len() as f64)
}

#[test]
fn resizing_is_pillows() {
    let golden = golden("images");
    let mut compared = 0;
    let mut names: Vec<&String> = golden.keys().filter(|name| name.starts_with("resize.")).collect();
    names.sort();
    for name in names {
        let parts: Vec<&str> = name.split('.').collect();
        let filter = Filter::of_pillow(parts[1].parse().unwrap()).unwrap();
        let size = (parts[3].parse().unwrap(), parts[4].parse().unwrap());
        let (most, share) = levels(&resize(&image(&golden, parts[2]), size, filter).unwrap(), &image(&golden, name));
        println!("{name}: at most {most} levels off, {:.2} % of values differ", 100.0 * share);
        assert_eq!(most, 0, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 60);
    let area = Area { left: 5, top: 3, width: 21, height: 17 };
    let resized = resize(&crop(&image(&golden, "wide"), area), (24, 24), Filter::Bilinear).unwrap();
    let (most, share) = levels(&resized, &image(&golden, "resized_crop"));
    println!("resized_crop: at most {most} levels off, {:.2} % of values differ", 100.0 * share);
    assert_eq!(most, 0);
}

#[test]
fn operations_are_torchvisions() {
    let golden = golden("images");
    let wide = image(&golden, "wide");
    let mut names: Vec<&String> = golden.keys().filter(|name| name.starts_with("op.")).collect();
    names.sort();
    assert_eq!(names.len(), 35);
    for name in names {
        let (kind, value) = name.strip_prefix("op.").unwrap().split_once('.').unwrap();
        let value: f64 = value.parse().unwrap();
        let operation = match kind {
            "ShearX" => Operation::ShearX(value),
            "ShearY" => Operation::ShearY(value),
            "TranslateX" => Operation::TranslateX(value),
            "TranslateY" => Operation::TranslateY(value),
            "Rotate" => Operation::Rotate(value),
            "Brightness" => Operation::Brightness(1.0 + value),
            "Color" => Operation::Color(1.0 + value),
            "Contrast" => Operation::Contrast(1.0 + value),
            "Sharpness" => Operation::Sharpness(1.0 + value),
            "Posterize" => Operation::Posterize(value as u32),
            "Solarize" => Operation::Solarize(value),
            "AutoContrast" => Operation::AutoContrast,
            "Equalize" => Operation::Equalize,
            "Hue" => Operation::Hue(value),
            _ => panic!("{name}"),
        };
        let expected = image(&golden, name);
        let (most, share) = levels(&operation.apply(&wide), &expected);
        println!("{name}: at most {most} levels off, {:.2} % of values differ", 100.0 * share);
        assert_eq!(most, 0, "{name}");
        assert!(levels(&wide, &expected).0 > 0, "{name} changes something");
    }
}

fn golden_json() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden_path("images.json")).unwrap()).unwrap()
}

#[test]
fn randaugment_has_torchvisions_operations_and_magnitudes() {
    let table = golden_json()["magnitudes"].clone();
    let names = [
        "Identity",
        "ShearX",
        "ShearY",
        "TranslateX",
        "TranslateY",
        "Rotate",
        "Brightness",
        "Color",
        "Contrast",
        "Sharpness",
        "Posterize",
        "Solarize",
        "AutoContrast",
        "Equalize",
    ];
    assert_eq!(table.as_object().unwrap().len(), names.len());
    for (number, name) in names.into_iter().enumerate() {
        for magnitude in 0..31 {
            let expected = table[name][magnitude].as_f64().unwrap();
            let operation = randaugment::operation(number as u64, magnitude as u32, false, (224, 192));
            let (found, value) = match operation {
                Operation::Identity => ("Identity", 0.0),
                Operation::ShearX(value) => ("ShearX", value),
                Operation::ShearY(value) => ("ShearY", value),
                Operation::TranslateX(value) => ("TranslateX", value),
                Operation::TranslateY(value) => ("TranslateY", value),
                Operation::Rotate(value) => ("Rotate", value),
                Operation::Brightness(factor) => ("Brightness", factor - 1.0),
                Operation::Color(factor) => ("Color", factor - 1.0),
                Operation::Contrast(factor) => ("Contrast", factor - 1.0),
                Operation::Sharpness(factor) => ("Sharpness", factor - 1.0),
                Operation::Posterize(bits) => ("Posterize", f64::from(bits)),
                Operation::Solarize(threshold) => ("Solarize", threshold),
                Operation::AutoContrast => ("AutoContrast", 0.0),
                Operation::Equalize => ("Equalize", 0.0),
                Operation::Hue(_) => panic!("not in the list"),
            };
            assert_eq!(found, name);
            // torch.linspace may round its last bit another way where it is vectorised.
            assert!(
                (value - expected).abs() <= 2e-7 * expected.abs().max(1.0),
                "{name} {magnitude}: {value}, {expected}"
            );
        }
        let signed = randaugment::operation(number as u64, 9, true, (224, 192));
        assert_eq!(signed != randaugment::operation(number as u64, 9, false, (224, 192)), (1..10).contains(&number));
    }
}

#[test]
fn image_processors_are_transformers() {
    let golden = golden("images");
    let configs = golden_json()["processors"].clone();
    for (name, usual) in [
        ("vit", ""),
        ("resnet", ""),
        ("deit", ""),
        ("bit", ""),
        ("padded", ""),
        ("older_vit", "ViTImageProcessor"),
        ("older_resnet", ""),
        ("older_bit", ""),
    ] {
        let processor = ImageProcessor::parse(configs[name].to_string().as_bytes(), usual).unwrap();
        let deviation = configs[name]["image_std"].as_array().into_iter().flatten().map(|v| v.as_f64().unwrap());
        // One level of 255, in units of the smallest deviation.
        let level = 1.0 / 255.0 / deviation.fold(1.0, f64::min);
        for size in ["wide", "tall"] {
            let expected = &golden[&format!("processor.{name}.{size}")];
            let evaluated = processor.evaluate(&image(&golden, size)).unwrap();
            assert_eq!(evaluated.dimensions(), processor.size());
            let values = Tensor::from_slice(&processor.normalise(&evaluated)).reshape(expected.size());
            let off = (&values - expected).abs();
            let most = off.max().double_value(&[]) / level;
            println!("{name} {size}: at most {most:.1e} levels off");
            assert!(most < 1e-3, "{name} {size}: {most}");
        }
    }
}

#[test]
fn processors_that_are_not_built_are_refused_by_field() {
    let base = json!({"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}});
    assert!(parse(&base).is_ok());
    for (field, value, why) in [
        ("image_processor_type", json!("CLIPImageProcessor"), "is \"CLIPImageProcessor\"; supported: ViT"),
        ("image_processor_type", json!(7), "image_processor_type is \"\"; supported: ViT"),
        ("do_resize", json!(false), "do_resize must be true"),
        ("do_normalize", json!("yes"), "do_normalize must be true or false"),
        ("resample", json!(6), "resample is 6; supported: 0 (nearest), 1 (lanczos), 2 (bilinear)"),
        ("resample", json!(2.5), "resample is 2.5; supported: 0"),
        ("resample", json!("bicubic"), "resample must be a number"),
        ("size", json!({"longest_edge": 8}), "size is {\"longest_edge\":8}; supported: height and width"),
        ("size", json!({"height": 8}), "sides are whole numbers"),
        ("size", json!({"height": 0, "width": 8}), "sides are whole numbers from 1 to 2048"),
        ("size", json!({"shortest_edge": 8}), "needs do_center_crop"),
        ("rescale_factor", json!(0), "rescale_factor must be above 0"),
        ("image_mean", json!([0.5]), "image_mean must be a number or a list of three"),
        ("image_std", json!([0.5, 0, 0.5]), "image_std must be above 0"),
    ] {
        let mut config = base.clone();
        config[field] = value;
        let message = parse(&config).err().unwrap().to_string();
        assert!(message.contains(why), "{message}");
    }
    let convnext = json!({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 8, "width": 8}});
    assert!(parse(&convnext).err().unwrap().to_string().contains("shortest_edge"));
}

#[test]
fn older_files_and_absent_ones_have_their_sizes() {
    let parse = |config: Value| parse(&config).unwrap();
    let resnet = parse(
        json!({"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "resample": 3, "size": 224}),
    );
    assert_eq!((resnet.size(), resnet.filter()), ((224, 224), Filter::Bicubic));
    let deit =
        parse(json!({"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224, "resample": 3}));
    assert_eq!(deit.size(), (224, 224));
    assert_eq!(parse(json!({"image_processor_type": "ViTImageProcessorFast"})).size(), (224, 224));
    let large = parse(json!({"image_processor_type": "ConvNextImageProcessor"}));
    assert_eq!(large.evaluate(&RgbImage::new(50, 20)).unwrap().dimensions(), (384, 384));
    let folder = tempfile::tempdir().unwrap();
    let absent = ImageProcessor::open(folder.path(), 64, "ViTImageProcessor").unwrap();
    assert_eq!((absent.size(), absent.filter()), ((64, 64), Filter::Bilinear));
    let black = absent.normalise(&absent.evaluate(&RgbImage::new(100, 80)).unwrap());
    assert!((black[0] + 0.485 / 0.229).abs() < 1e-6);
    // Without a class it is the family's, and what is written for the model says so.
    let untyped = ImageProcessor::parse(b"\xEF\xBB\xBF{\"size\": 32}", "ConvNextImageProcessor").unwrap();
    assert_eq!((untyped.size(), untyped.filter()), ((32, 32), Filter::Bicubic));
    assert_eq!(untyped.config()["image_processor_type"], "ConvNextImageProcessor");
    // What is written for the model gives the same processor.
    std::fs::write(folder.path().join("preprocessor_config.json"), absent.config().to_string()).unwrap();
    assert_eq!(ImageProcessor::open(folder.path(), 1, "ViTImageProcessor").unwrap().size(), (64, 64));
}

#[test]
fn mixing_is_torchvisions() {
    let golden = golden("images");
    let images: Vec<Vec<f32>> =
        (0..3).map(|i| Vec::<f32>::try_from(golden["mix.images"].get(i).flatten(0, -1)).unwrap()).collect();
    let area = Area { left: 2, top: 1, width: 5, height: 3 };
    for (name, mix) in
        [("mixup", Mix::Mixup { lambda: 0.3 }), ("cutmix", Mix::CutMix { lambda: 1.0 - 15.0 / 48.0, area })]
    {
        let expected = &golden[&format!("mix.{name}.images")];
        let mixed = Tensor::from_slice(&mix.apply(&images, 8).concat()).reshape(expected.size());
        assert!((&mixed - expected).abs().max().double_value(&[]) < 1e-6, "{name}");
        let targets = Tensor::from_slice(&mix.targets(&[2, 0, 1], 4).concat()).reshape([3, 4]);
        let off = (&targets - &golden[&format!("mix.{name}.targets")]).abs().max().double_value(&[]);
        assert!(off < 1e-6, "{name}: {off}");
    }
}

#[test]
fn batches_are_mixed_as_asked_for() {
    let settings = |mixup: f64, cutmix: f64| Augmentation { mixup, cutmix, ..Augmentation::default() };
    assert_eq!(Mix::draw(&settings(0.0, 0.0), 1, 1, (8, 8)), None);
    let all: Vec<Mix> = (0..200).map(|step| Mix::draw(&settings(0.2, 1.0), 1, step, (20, 12)).unwrap()).collect();
    let cut = all.iter().filter(|mix| matches!(mix, Mix::CutMix { .. })).count();
    assert!((70..130).contains(&cut), "{cut}");
    for mix in all {
        assert!((0.0..=1.0).contains(&mix.lambda()));
        if let Mix::CutMix { lambda, area } = mix {
            assert!(area.left + area.width <= 20 && area.top + area.height <= 12);
            assert!((1.0 - lambda - f64::from(area.width * area.height) / 240.0).abs() < 1e-12);
        }
    }
}

fn everything() -> Augmentation {
    serde_json::from_value(json!({
        "random_resized_crop": {}, "horizontal_flip": 0.5, "vertical_flip": 0.5, "random_erasing": 0.5,
        "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}, "rand_augment": {},
    }))
    .unwrap()
}

/// All bytes of an example as it is trained with in an epoch.
fn trained(epoch: u64, example: u64) -> (RgbImage, Vec<f32>) {
    // Made up here, so that the bytes hang on this code alone.
    let image = RgbImage::from_fn(60, 45, |x, y| {
        let noise = mix_all(&[x.into(), y.into()]) % 32;
        [(x * 4) as u8, (y * 5) as u8, 100 + noise as u8].into()
    });
    let processor =
        parse(&json!({"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}})).unwrap();
    let variation =
        Variation::draw(&everything(), DrawKey { seed: 42, epoch, example }, image.dimensions(), processor.size());
    let out = variation.apply(&image, &processor).unwrap();
    let mut values = processor.normalise(&out);
    variation.erase(&mut values, 24);
    (out, values)
}

#[test]
fn an_example_is_the_same_in_each_run_and_another_in_each_epoch() {
    let mut hash = Sha256::new();
    for example in 0..20 {
        for epoch in 0..2 {
            let (image, values) = trained(epoch, example);
            hash.update(image.as_raw());
            for value in values {
                hash.update(value.to_le_bytes());
            }
        }
        assert_eq!(trained(0, example).1, trained(0, example).1);
        assert_ne!(trained(0, example).0, trained(1, example).0, "{example}");
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, "d8de1493a070c19eefc9dd3d34a97794b88186b0f4bab23f5e0d3df0dd1293a3");
}

#[test]
fn variations_keep_to_their_settings() {
    let settings = everything();
    let place = |example| DrawKey { seed: 1, epoch: 0, example };
    let all: Vec<Variation> = (0..400).map(|i| Variation::draw(&settings, place(i), (100, 60), (24, 20))).collect();
    let share = |is: fn(&Variation) -> bool| all.iter().filter(|variation| is(variation)).count();
    for count in [share(|v| v.mirrored), share(|v| v.upside_down), share(|v| v.erased.is_some())] {
        assert!((160..240).contains(&count), "{count}");
    }
    for variation in &all {
        let area = variation.crop.unwrap();
        assert!(area.left + area.width <= 100 && area.top + area.height <= 60);
        let (share, ratio) =
            (f64::from(area.width * area.height) / 6000.0, f64::from(area.width) / f64::from(area.height));
        assert!((0.07..=1.0).contains(&share) && (0.7..=1.4).contains(&ratio), "{area:?}");
        assert_eq!(variation.operations.len(), 2 + 4);
        if let Some(area) = variation.erased {
            assert!(area.left + area.width <= 24 && area.top + area.height <= 20);
        }
    }
    // Where no rectangle of the ratio fits, the middle is taken.
    let narrow = Variation::draw(&settings, place(0), (1, 5000), (24, 20)).crop.unwrap();
    assert_eq!((narrow.width, narrow.height, narrow.top), (1, 1, 2499));
    let none = Variation::draw(&Augmentation::default(), place(0), (100, 60), (24, 20));
    assert_eq!((none.crop, none.operations.len(), none.erased), (None, 0, None));
}

#[test]
fn flips_and_erasing_do_what_they_say() {
    let image = RgbImage::from_fn(3, 2, |x, y| [(10 * y + x) as u8; 3].into());
    let processor =
        parse(&json!({"image_processor_type": "ViTImageProcessor", "size": {"height": 2, "width": 3}})).unwrap();
    let none = Variation { crop: None, mirrored: false, upside_down: false, operations: Vec::new(), erased: None };
    let reds = |variation: &Variation| {
        variation.apply(&image, &processor).unwrap().pixels().map(|pixel| pixel.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(reds(&none), [0, 1, 2, 10, 11, 12]);
    assert_eq!(reds(&Variation { mirrored: true, ..none.clone() }), [2, 1, 0, 12, 11, 10]);
    assert_eq!(reds(&Variation { upside_down: true, ..none.clone() }), [10, 11, 12, 0, 1, 2]);
    let erased = Variation { erased: Some(Area { left: 1, top: 1, width: 2, height: 1 }), ..none };
    let mut values = vec![1.0; 18];
    erased.erase(&mut values, 3);
    assert_eq!(values, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0].repeat(3));
}

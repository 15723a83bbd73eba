//! BERT against Transformers: logits, loss and every gradient.

use finetuned_engine::models::text::TextConfig;
use finetuned_engine::nn::Mode;
use tch::Tensor;

use super::support::{
    BF16, FP32, Tolerance, assert_close, assert_within, classifier, difference, golden, loss, packed, tiny_config,
};

fn compare(activation: &str, tolerance: &Tolerance) {
    let golden = golden(&format!("bert_{activation}"));
    let (model, table) = classifier(&golden, &tiny_config(activation), tolerance.kind);
    let logits = model.forward(&packed(&golden["input_ids"], &golden["lengths"]), &Mode::eval()).unwrap();
    assert_close(&logits, &golden["logits"], tolerance.logits, "logits");
    let loss = loss(&logits, &golden["labels"]);
    assert_close(&loss.reshape([1]), &golden["loss"], tolerance.losses, "loss");
    loss.backward();
    let mut compared = 0;
    let mut worst: (f64, String) = (0.0, String::new());
    for param in table.iter() {
        for (name, grad) in param.split(&param.grad().unwrap()).unwrap() {
            let expected = &golden[&format!("grad.{name}")];
            // The keys' bias cannot change a softmax: its gradient is rounding noise around 0 on both sides.
            if name.ends_with("key.bias") {
                assert!(grad.abs().max().double_value(&[]) < 1e-3, "{name}");
            } else {
                let difference = difference(&grad, expected);
                if difference > worst.0 {
                    worst = (difference, name.to_owned());
                }
            }
            compared += 1;
        }
    }
    assert_eq!(compared, golden.keys().filter(|name| name.starts_with("grad.")).count(), "every parameter");
    assert_within(worst.0, tolerance.gradients, &format!("gradient of {} ({activation})", worst.1));
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    for activation in ["gelu", "gelu_new", "relu"] {
        compare(activation, &FP32);
    }
}

#[test]
fn bfloat16_stays_near_float32() {
    compare("gelu", &BF16);
}

#[test]
fn the_order_of_a_batch_does_not_change_its_results() {
    let golden = golden("bert_gelu");
    let (model, _) = classifier(&golden, &tiny_config("gelu"), FP32.kind);
    let tokens = packed(&golden["input_ids"], &golden["lengths"]);
    let all = model.forward(&tokens, &Mode::eval()).unwrap();
    let order = Tensor::from_slice(&[5_i64, 0, 3, 1, 4, 2]);
    let shuffled = packed(&golden["input_ids"].index_select(0, &order), &golden["lengths"].index_select(0, &order));
    let again = model.forward(&shuffled, &Mode::eval()).unwrap();
    assert_close(&again, &all.index_select(0, &order.to_device(all.device())), 1e-5, "logits");
}

#[test]
fn a_config_that_asks_for_what_is_not_built_is_refused_by_name() {
    let json = std::fs::read_to_string(super::support::golden_path("tiny-bert/config.json")).unwrap();
    let refused = |field: &str, value: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&json).unwrap();
        config[field] = value;
        TextConfig::parse(&config.to_string()).unwrap_err().to_string()
    };
    assert!(refused("hidden_act", "mish".into()).contains("hidden_act is mish"));
    assert!(refused("position_embedding_type", "relative_key".into()).contains("position_embedding_type"));
    assert!(refused("is_decoder", true.into()).contains("is_decoder"));
    assert!(refused("num_attention_heads", 5.into()).contains("num_attention_heads"));
    assert!(refused("vocab_size", "many".into()).contains("vocab_size"));
    assert!(refused("model_type", "t5".into()).contains("model_type is t5; supported: bert, roberta"));
    assert!(TextConfig::parse("{}").unwrap_err().to_string().contains("model_type"));
    assert!(TextConfig::parse(r#"{"model_type": "bert"}"#).unwrap_err().to_string().contains("vocab_size"));
}

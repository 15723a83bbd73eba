//! How training images are varied. The names and defaults are torchvision's (`transforms` v1, mixup and `CutMix` of v2).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::objects::{NoneWord, Refused, read};

/// Variations of training images; the default is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// The probability of mirroring left and right.
    pub horizontal_flip: f64,
    /// The probability of mirroring top and bottom.
    pub vertical_flip: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
    /// The probability of erasing a rectangle.
    pub random_erasing: f64,
    /// Alpha of the Beta distribution of mixup's weights; 0 turns it off. With `CutMix` as well, each batch gets one of
    /// them, either as often as the other.
    pub mixup: f64,
    /// The same for `CutMix`.
    pub cutmix: f64,
}

/// A crop of random area and shape, resized to the size of training (Szegedy et al. 2015).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResizedCrop {
    /// Least and most of the image's area.
    pub scale: [f64; 2],
    /// Least and most of width divided by height.
    pub ratio: [f64; 2],
}

/// Random factors around 1 (around 0 for the hue), as far from it as each field says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
    /// In turns of the colour wheel.
    pub hue: f64,
}

/// A few operations drawn from a fixed list (Cubuk et al. 2019).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// Operations on each image.
    pub num_ops: u32,
    /// From 0 to 30.
    pub magnitude: u32,
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { num_ops: 2, magnitude: 9 }
    }
}

/// Reads variations, or the word `none`.
///
/// # Errors
/// It is neither.
pub(in crate::domain) fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Augmentation, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Off(NoneWord),
        On(Augmentation),
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::Off(NoneWord::None) => Augmentation::default(),
        Form::On(augmentation) => augmentation,
    })
}

impl Augmentation {
    pub(in crate::domain) fn fields() -> Value {
        let all = Self {
            random_resized_crop: Some(RandomResizedCrop::default()),
            color_jitter: Some(ColorJitter::default()),
            rand_augment: Some(RandAugment::default()),
            ..Self::default()
        };
        serde_json::to_value(all).unwrap_or_default()
    }

    /// Whether every image is mixed with another one.
    pub fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Whether images stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Checks a value as a client sent it.
    pub(in crate::domain) fn check(value: &Value) -> Result<(), Refused> {
        if value == "none" { Ok(()) } else { read::<Self>(value)?.check_ranges() }
    }

    fn check_ranges(&self) -> Result<(), Refused> {
        let within = |name: &str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err((name.to_owned(), format!("must be a number from {least} to {most}")))
        };
        let ordered = |name: &str, [least, most]: [f64; 2]| {
            if least <= most { Ok(()) } else { Err((name.to_owned(), "must have the smaller number first".to_owned())) }
        };
        if let Some(crop) = &self.random_resized_crop {
            for (name, range, least, most) in [
                ("random_resized_crop.scale", crop.scale, 0.01, 1.0),
                ("random_resized_crop.ratio", crop.ratio, 0.1, 10.0),
            ] {
                within(name, range[0], least, most)?;
                within(name, range[1], least, most)?;
                ordered(name, range)?;
            }
        }
        if let Some(jitter) = &self.color_jitter {
            within("color_jitter.brightness", jitter.brightness, 0.0, 1.0)?;
            within("color_jitter.contrast", jitter.contrast, 0.0, 1.0)?;
            within("color_jitter.saturation", jitter.saturation, 0.0, 1.0)?;
            within("color_jitter.hue", jitter.hue, 0.0, 0.5)?;
        }
        if let Some(rand_augment) = &self.rand_augment {
            within("rand_augment.num_ops", rand_augment.num_ops.into(), 1.0, 8.0)?;
            within("rand_augment.magnitude", rand_augment.magnitude.into(), 0.0, 30.0)?;
        }
        within("horizontal_flip", self.horizontal_flip, 0.0, 1.0)?;
        within("vertical_flip", self.vertical_flip, 0.0, 1.0)?;
        within("random_erasing", self.random_erasing, 0.0, 1.0)?;
        within("mixup", self.mixup, 0.0, 10.0)?;
        within("cutmix", self.cutmix, 0.0, 10.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Augmentation;

    fn check(value: &Value) -> Result<(), String> {
        Augmentation::check(value).map_err(|(path, why)| format!("{path} {why}"))
    }

    #[test]
    fn good_values_pass_and_nothing_is_the_default() {
        let none: Augmentation = serde_json::from_value(json!({})).unwrap();
        assert_eq!(none, Augmentation::default());
        let all = json!({
            "random_resized_crop": {}, "horizontal_flip": 0.5, "vertical_flip": 0, "random_erasing": 0.25,
            "color_jitter": {"brightness": 0.4, "hue": 0.1}, "rand_augment": {"magnitude": 15}, "mixup": 0.2, "cutmix": 1,
        });
        let parsed: Augmentation = serde_json::from_value(all.clone()).unwrap();
        assert_eq!(parsed.random_resized_crop.as_ref().unwrap().scale, [0.08, 1.0]);
        assert_eq!(parsed.rand_augment.as_ref().unwrap().num_ops, 2);
        assert_eq!(serde_json::from_value::<Augmentation>(json!(parsed)).unwrap(), parsed);
        assert_eq!(check(&all), Ok(()));
    }

    #[test]
    fn the_error_names_the_field_and_what_is_allowed() {
        for (value, why) in [
            (json!({"flip": 1}), "unknown field `flip`"),
            (json!({"color_jitter": {"gamma": 1}}), "unknown field `gamma`"),
            (json!({"horizontal_flip": 1.5}), "horizontal_flip must be a number from 0 to 1"),
            (json!({"vertical_flip": -0.1}), "vertical_flip"),
            (json!({"random_erasing": 2}), "random_erasing"),
            (json!({"mixup": -1}), "mixup"),
            (json!({"cutmix": 11}), "cutmix"),
            (json!({"color_jitter": {"hue": 0.6}}), "color_jitter.hue"),
            (json!({"color_jitter": {"saturation": 2}}), "color_jitter.saturation"),
            (json!({"rand_augment": {"magnitude": 31}}), "rand_augment.magnitude"),
            (json!({"rand_augment": {"num_ops": 0}}), "rand_augment.num_ops"),
            (json!({"random_resized_crop": {"scale": [0.5, 1.5]}}), "random_resized_crop.scale"),
            (json!({"random_resized_crop": {"scale": [0.9, 0.5]}}), "the smaller number first"),
            (json!({"random_resized_crop": {"ratio": [0, 1]}}), "random_resized_crop.ratio"),
        ] {
            let message = check(&value).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }
}

//! Values of Parquet as JSON, which rows are made of.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use crate::dataset::columns::IMAGE_COLUMN;
use crate::dataset::tree::{Object, Tree};

/// The names of classes by column, as the library `datasets` writes them beside a table of numbers.
pub(super) type ClassNames = HashMap<String, Vec<String>>;

/// The names of classes in the value of the key `huggingface`.
pub(super) fn class_names(metadata: &str) -> ClassNames {
    let Ok(json) = serde_json::from_str::<Value>(metadata) else { return ClassNames::new() };
    let Some(features) = json["info"]["features"].as_object() else { return ClassNames::new() };
    features.iter().filter_map(|(column, feature)| Some((column.clone(), names(feature)?))).collect()
}

/// The names of a class label, or of a sequence of them.
fn names(feature: &Value) -> Option<Vec<String>> {
    let feature = if feature["_type"] == "ClassLabel" { feature } else { &feature["feature"] };
    let names = feature["names"].as_array()?;
    (feature["_type"] == "ClassLabel")
        .then(|| names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect())
}

/// The fields of a row. A number that is a class becomes its name; -1, which stands for none, becomes null.
pub(super) fn fields(row: Row, names: &ClassNames) -> Map<String, Value> {
    let fields = row.into_columns().into_iter();
    fields
        .map(|(name, field)| {
            let value = match field {
                Field::Bytes(data) if name == IMAGE_COLUMN => data_url(data.data()),
                field => named(value(field), names.get(&name)),
            };
            (name, value)
        })
        .collect()
}

/// The fields of a row, whole. What is null is left out: in a table each structure has the keys of all others.
pub(super) fn object(row: Row) -> Object {
    let fields = row.into_columns().into_iter().map(|(name, field)| (name, tree(field)));
    Object(fields.filter(|(_, tree)| *tree != Tree::Null).collect())
}

fn tree(field: Field) -> Tree {
    match field {
        Field::Group(row) => Tree::Object(object(row)),
        Field::ListInternal(list) => Tree::List(list.elements().iter().cloned().map(tree).collect()),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().cloned().map(|(key, field)| (tree(key), tree(field)));
            Tree::Object(Object(
                entries
                    .map(|(key, tree)| (key.as_text().map_or_else(|| key.to_string(), str::to_owned), tree))
                    .collect(),
            ))
        }
        scalar => Tree::from(&value(scalar)),
    }
}

fn named(value: Value, names: Option<&Vec<String>>) -> Value {
    match (value, names) {
        (Value::Number(number), Some(names)) => {
            let place = number.as_u64().and_then(|place| usize::try_from(place).ok());
            match place.and_then(|place| names.get(place)) {
                Some(name) => Value::String(name.clone()),
                None if number.as_i64() == Some(-1) => Value::Null,
                None => Value::Number(number),
            }
        }
        (Value::Array(items), Some(_)) => Value::Array(items.into_iter().map(|item| named(item, names)).collect()),
        (value, _) => value,
    }
}

fn value(field: Field) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        // As people write them, not as days or microseconds since 1970.
        date @ (Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_)) => Value::String(date.to_string()),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(number.to_f64()),
        // As decimals people write it: 0.1 in 32 bits is 0.1, not 0.10000000149.
        Field::Float(number) => number.to_string().parse().map_or(Value::Null, float),
        Field::Double(number) => float(number),
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).map_or(Value::Null, Value::String),
        Field::Group(row) => group(row),
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(value).collect()),
        decimal @ Field::Decimal(_) => decimal.to_string().parse().map_or(Value::Null, float),
        Field::MapInternal(_) => Value::Object(Map::new()),
    }
}

/// The bytes of an image as other rows have them.
fn data_url(bytes: &[u8]) -> Value {
    Value::String(format!("data:image/*;base64,{}", STANDARD.encode(bytes)))
}

/// A structure. One with the bytes of a file, as `datasets` has images, becomes a data URL.
fn group(row: Row) -> Value {
    let fields = row.into_columns();
    if let [(bytes, Field::Bytes(data)), (path, _)] | [(path, _), (bytes, Field::Bytes(data))] = &fields[..]
        && bytes == "bytes"
        && path == "path"
    {
        return data_url(data.data());
    }
    Value::Object(fields.into_iter().map(|(name, field)| (name, value(field))).collect())
}

#[cfg(test)]
mod tests {
    use parquet::record::Field;
    use serde_json::json;

    use super::{class_names, named, value};

    #[test]
    fn dates_are_read_as_people_write_them() {
        let date = |field| value(field).as_str().unwrap().to_owned();
        assert_eq!(date(Field::Date(19_723)), "2024-01-01");
        for field in [Field::TimestampMillis(1_704_067_200_000), Field::TimestampMicros(1_704_067_200_000_000)] {
            assert!(date(field).starts_with("2024-01-01 00:00:00"));
        }
    }

    #[test]
    fn classes_have_the_names_that_the_metadata_gives_them() {
        let names = class_names(
            r#"{"info": {"features": {"text": {"dtype": "string", "_type": "Value"},
                "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
                "tags": {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "Sequence"}}}}"#,
        );
        assert_eq!(names.len(), 2);
        let label = |value| named(value, names.get("label"));
        assert_eq!(
            [label(json!(1)), label(json!(-1)), label(json!(2)), label(json!("x"))],
            [json!("pos"), json!(null), json!(2), json!("x")]
        );
        assert_eq!(named(json!([1, 0]), names.get("tags")), json!(["b", "a"]));
        assert!(class_names("{").is_empty() && class_names("{}").is_empty());
    }
}

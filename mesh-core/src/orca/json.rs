//! A report as protobuf's JSON.

use serde_json::Value;

use super::OrcaLoadReport;

/// Reads a report, without the fields that are not known.
pub(super) fn read(text: &str) -> Result<OrcaLoadReport, String> {
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(fields) = value else {
        return Err("not an object".to_owned());
    };
    let mut report = OrcaLoadReport::default();
    for (name, value) in &fields {
        // The default.
        if value.is_null() {
            continue;
        }
        let field = snake_case(name);
        if let Some(place) = report.number(&field) {
            *place = number(name, value)?;
        } else if let Some(place) = report.numbers(&field) {
            let Value::Object(entries) = value else {
                return Err(format!("{name}: not an object"));
            };
            for (key, value) in entries {
                place.insert(key.clone(), number(key, value)?);
            }
        }
    }
    Ok(report)
}

/// Of either name that a field has in JSON, that of the definition.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 1);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// A number, or one in quotes.
fn number(name: &str, value: &Value) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("{name}: not a number"))
}

//! The values that a template is rendered from: JSON whose numbers are printed with the digits that
//! they came with, as a request's integers of any size and its spelling of floats are.
//!
//! serde_json makes doubles of what is no 64-bit integer. Such numbers are therefore put into marked
//! objects before it reads the text, by a mark that no request can know. A finite float stays a float, so that templates can calculate with
//! it, and its digits are kept beside it; what neither a float nor 128 bits hold is an object that
//! prints its digits and no more.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, OnceLock};

use minijinja::value::{Object, ObjectRepr, Value};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The key of a marked object: other in every process, so that no text that comes in has it.
fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| {
        let random = || RandomState::new().build_hasher().finish();
        format!("tiercel.number.{:016x}{:016x}", random(), random())
    })
}

thread_local! {
    /// Of this rendering's floats: bits to digits; None where one float was written in two ways.
    static DIGITS: RefCell<HashMap<u64, Option<Box<str>>>> = RefCell::default();
}

/// The digits that `v` was given with, if it was.
pub fn given_digits(v: f64) -> Option<String> {
    DIGITS.with_borrow(|digits| digits.get(&v.to_bits())?.as_deref().map(String::from))
}

fn remember(v: f64, text: &str) {
    DIGITS.with_borrow_mut(|digits| {
        digits
            .entry(v.to_bits())
            .and_modify(|known| {
                if known.as_deref() != Some(text) {
                    *known = None;
                }
            })
            .or_insert_with(|| Some(text.into()));
    })
}

/// A number that no number of the template engine holds.
#[derive(Debug)]
pub struct BigNumber(Box<str>);

impl Object for BigNumber {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn number(text: &str) -> Value {
    if let Ok(v) = text.parse::<i128>() {
        if text != "-0" {
            return Value::from(v);
        }
    }
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() && (text == "-0" || text.contains(['.', 'e', 'E'])) => {
            remember(v, text);
            Value::from(v)
        }
        _ => Value::from_object(BigNumber(text.into())),
    }
}

/// `json` with every number that is no 64-bit integer as {mark: "digits"}. Broken JSON stays broken.
fn with_marked_numbers(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut at = 0;
    while at < json.len() {
        let begin = at;
        match json[at] {
            b'"' => {
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(json.len());
                out.extend_from_slice(&json[begin..at]);
            }
            b'-' | b'0'..=b'9' => {
                while at < json.len() && matches!(json[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                    at += 1;
                }
                let token = std::str::from_utf8(&json[begin..at]).unwrap_or("");
                if token != "-0" && (token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok()) {
                    out.extend_from_slice(token.as_bytes());
                } else {
                    out.extend_from_slice(format!("{{\"{}\":\"{token}\"}}", mark()).as_bytes());
                }
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    out
}

struct Given(Value);

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Given, E> {
        Ok(Given(Value::from(())))
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Given, E> {
        Ok(Given(Value::from(v)))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Given, E> {
        Ok(Given(Value::from(v)))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Given, E> {
        Ok(Given(Value::from(v)))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Given, E> {
        Ok(Given(Value::from(v)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Given, A::Error> {
        let mut values: Vec<Value> = Vec::new();
        while let Some(Given(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Given(Value::from(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Given, A::Error> {
        let mut values: Vec<(Value, Value)> = Vec::new();
        while let Some((key, Given(value))) = members.next_entry::<String, Given>()? {
            if key == mark() {
                return Ok(Given(number(value.as_str().unwrap_or(""))));
            }
            values.push((Value::from(key), value));
        }
        Ok(Given(values.into_iter().collect()))
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

/// Calls `render` with the values of a JSON text; within it, given_digits knows their floats.
pub fn with_given<R>(
    json: &[u8],
    render: impl FnOnce(Value) -> Result<R, String>,
) -> Result<R, String> {
    DIGITS.with_borrow_mut(HashMap::clear);
    let Given(values) = serde_json::from_slice(&with_marked_numbers(json))
        .map_err(|e| format!("chat template values: {e}"))?;
    let result = render(values);
    DIGITS.with_borrow_mut(HashMap::clear);
    result
}

//! Jinja2's filters and tests that minijinja lacks, or has otherwise.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use minijinja::value::{from_args, Kwargs, Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use crate::python_strings;

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// A float as Python's float() reads it.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim().replace('_', "");
    match text.to_ascii_lowercase().as_str() {
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        "nan" | "+nan" | "-nan" => Some(f64::NAN),
        _ if text.contains(['x', 'X', 'n', 'N', 'i', 'I']) => None,
        _ => text.parse().ok(),
    }
}

fn whole(v: f64) -> Option<Value> {
    // i128 holds what a template counts with.
    (v.is_finite() && v.abs() < 1e38).then(|| Value::from(v.trunc() as i128))
}

fn parse_int(text: &str, base: u32) -> Option<Value> {
    let text = text.trim().replace('_', "").to_ascii_lowercase();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (base, digits) = match (base, digits.get(..2)) {
        (16 | 0, Some("0x")) => (16, &digits[2..]),
        (8 | 0, Some("0o")) => (8, &digits[2..]),
        (2 | 0, Some("0b")) => (2, &digits[2..]),
        (0, _) => (10, digits),
        _ => (base, digits),
    };
    if digits.starts_with(['+', '-']) || !(2..=36).contains(&base) {
        return None;
    }
    let v = i128::from_str_radix(digits, base).ok()?;
    Some(Value::from(if negative { -v } else { v }))
}

/// int(default=0, base=10): what cannot be read is the default.
fn int(value: Value, default: Option<Value>, base: Option<u32>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0));
    let base = base.or(kwargs.get("base")?).unwrap_or(10);
    kwargs.assert_all_used()?;
    Ok(match value.kind() {
        ValueKind::Bool => Some(Value::from(value.is_true() as i64)),
        ValueKind::Number if value.is_integer() => Some(value),
        ValueKind::Number => f64::try_from(value).ok().and_then(whole),
        ValueKind::String => {
            let text = value.as_str().unwrap_or("");
            parse_int(text, base).or_else(|| parse_float(text).and_then(whole))
        }
        _ => None,
    }
    .unwrap_or(default))
}

fn float(value: Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0.0));
    kwargs.assert_all_used()?;
    Ok(match value.kind() {
        ValueKind::Bool => Some(value.is_true() as i64 as f64),
        ValueKind::Number => f64::try_from(value).ok(),
        ValueKind::String => parse_float(value.as_str().unwrap_or("")),
        _ => None,
    }
    .map_or(default, Value::from))
}

/// round(precision=0, method='common'): halves go to the even neighbor, as in Python.
fn round(value: Value, precision: Option<i32>, method: Option<String>, kwargs: Kwargs) -> Result<Value, Error> {
    let precision = precision.or(kwargs.get("precision")?).unwrap_or(0);
    let method = method.or(kwargs.get("method")?).unwrap_or_else(|| "common".into());
    kwargs.assert_all_used()?;
    let wrong = |text: &str| Err(Error::new(ErrorKind::InvalidOperation, text.to_string()));
    let is_integer = value.is_integer() || value.kind() == ValueKind::Bool;
    let Ok(v) = f64::try_from(value.clone()) else { return wrong("round: not a number") };
    if !(-300..=300).contains(&precision) {
        return wrong("round: the precision is out of range");
    }
    let scale = 10f64.powi(precision);
    match method.as_str() {
        "common" if is_integer && precision >= 0 => Ok(value),
        // The digits decide, not the product: 2.675 is below its half.
        "common" if precision >= 0 => {
            let text = format!("{v:.*}", precision as usize);
            Ok(Value::from(text.parse::<f64>().unwrap_or(v)))
        }
        "common" => {
            let rounded = (v * scale).round_ties_even() / scale;
            Ok(if is_integer { whole(rounded).unwrap_or(value) } else { Value::from(rounded) })
        }
        "ceil" => Ok(Value::from((v * scale).ceil() / scale)),
        "floor" => Ok(Value::from((v * scale).floor() / scale)),
        _ => wrong("round: the method must be common, ceil or floor"),
    }
}

/// truncate(length=255, killwords=False, end='...', leeway=5)
fn truncate(text: String, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let (length, kill_words, end, leeway): (Option<usize>, Option<bool>, Option<String>, Option<usize>) =
        from_args(&args)?;
    let length = length.or(kwargs.get("length")?).unwrap_or(255);
    let kill_words = kill_words.or(kwargs.get("killwords")?).unwrap_or(false);
    let end = end.or(kwargs.get("end")?).unwrap_or_else(|| "...".into());
    let leeway = leeway.or(kwargs.get("leeway")?).unwrap_or(5);
    kwargs.assert_all_used()?;
    let end_size = end.chars().count();
    if length < end_size {
        return Err(Error::new(ErrorKind::InvalidOperation, "truncate: the length is below that of the end"));
    }
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length - end_size).collect();
    if kill_words {
        return Ok(kept + &end);
    }
    Ok(kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words).to_string() + &end)
}

fn wordcount(text: String) -> usize {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count()
}

fn center(text: String, width: Option<usize>, kwargs: Kwargs) -> Result<String, Error> {
    let width = width.or(kwargs.get("width")?).unwrap_or(80);
    kwargs.assert_all_used()?;
    python_strings::justified(&text, width, None, "center")
}

fn quoted(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~/".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// A text, or the pairs of a mapping or of a list of pairs.
fn urlencode(value: Value) -> Result<String, Error> {
    let mut out = String::new();
    if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable) {
        quoted(&text_of(&value), &mut out);
        return Ok(out);
    }
    for item in value.try_iter()? {
        let (key, content) = if value.kind() == ValueKind::Map {
            let content = value.get_item(&item)?;
            (item, content)
        } else {
            (item.get_item_by_index(0)?, item.get_item_by_index(1)?)
        };
        if !out.is_empty() {
            out.push('&');
        }
        // Of a query's parts, as quote_plus: a blank is a plus, a slash is no exception.
        for (i, part) in [key, content].iter().enumerate() {
            if i > 0 {
                out.push('=');
            }
            let mut text = String::new();
            quoted(&text_of(part), &mut text);
            out.push_str(&text.replace('/', "%2F").replace("%20", "+"));
        }
    }
    Ok(out)
}

fn filesizeformat(value: Value, binary: Option<bool>, kwargs: Kwargs) -> Result<String, Error> {
    let binary = binary.or(kwargs.get("binary")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let bytes = match value.as_str() {
        Some(text) => parse_float(text),
        None => f64::try_from(value).ok(),
    }
    .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "filesizeformat: not a number"))?;
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()));
    }
    let units = "kMGTPEZY";
    for (i, unit) in units.chars().enumerate() {
        let next = base.powi(i as i32 + 2);
        if bytes < next || i + 1 == units.len() {
            let name = match binary {
                true => format!("{}iB", unit.to_ascii_uppercase()),
                false => format!("{unit}B"),
            };
            return Ok(format!("{:.1} {name}", base * bytes / next));
        }
    }
    unreachable!("the last unit takes all")
}

fn forceescape(value: Value) -> String {
    let mut out = String::new();
    for c in text_of(&value).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// sum(attribute=None, start=0)
fn sum(
    state: &State,
    value: Value,
    attribute: Option<Value>,
    start: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let attribute = attribute.or(kwargs.get("attribute")?).filter(|a| !a.is_none());
    let start = start.or(kwargs.get("start")?).unwrap_or(Value::from(0));
    kwargs.assert_all_used()?;
    let items = match attribute {
        Some(attribute) => {
            let by = Kwargs::from_iter([("attribute", attribute)]);
            state.apply_filter("map", &[value, Value::from(by)])?
        }
        None => value,
    };
    let with_start: Value = std::iter::once(start).chain(items.try_iter()?).collect();
    minijinja::filters::sum(state, with_start)
}

/// joiner(sep=', '): nothing at its first call, then its separator.
#[derive(Debug)]
struct Joiner {
    separator: String,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn call(self: &Arc<Self>, _: &State, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(Value::from(if self.used.swap(true, Ordering::Relaxed) { &self.separator } else { "" }))
    }
}

fn joiner(separator: Option<String>, kwargs: Kwargs) -> Result<Value, Error> {
    let separator = separator.or(kwargs.get("sep")?).unwrap_or_else(|| ", ".into());
    kwargs.assert_all_used()?;
    Ok(Value::from_object(Joiner { separator, used: AtomicBool::new(false) }))
}

/// cycler(*items): `current`, next(), reset().
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.at.load(Ordering::Relaxed) % self.items.len();
        (key.as_str()? == "current").then(|| self.items[at].clone())
    }
    fn call_method(self: &Arc<Self>, _: &State, method: &str, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        match method {
            "next" => {
                let at = self.at.fetch_add(1, Ordering::Relaxed) % self.items.len();
                Ok(self.items[at].clone())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    if items.is_empty() {
        return Err(Error::new(ErrorKind::MissingArgument, "cycler: at least one item has to be given"));
    }
    Ok(Value::from_object(Cycler { items: items.to_vec(), at: AtomicUsize::new(0) }))
}

/// Functions are plain objects; a macro looks like a mapping, and has a spelling of its own.
fn is_callable(value: Value) -> bool {
    match value.kind() {
        ValueKind::Plain => value.as_object().is_some(),
        ValueKind::Map => {
            let is_defined = |name| value.get_attr(name).is_ok_and(|v| !v.is_undefined());
            is_defined("arguments") && is_defined("caller") && value.to_string().starts_with("<macro ")
        }
        _ => false,
    }
}

/// Methods of str, list and dict that the compatibility layer lacks.
fn unknown_method(
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if let Some(result) = python_strings::call(text, method, args) {
            return result;
        }
    }
    match (value.kind(), method) {
        (ValueKind::Seq, "index") => {
            let (what,): (Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|item| item == what);
            at.map(Value::from).ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, "index: the value is not in the list")
            })
        }
        (ValueKind::Seq | ValueKind::Map, "copy") => from_args::<()>(args).map(|()| value.clone()),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// What Python's iter() takes. An undefined one has no items.
fn is_iterable(value: Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number)
        && (matches!(value.kind(), ValueKind::Undefined | ValueKind::String) || value.try_iter().is_ok())
}

/// What has a length and items: strings, mappings and an undefined value, too.
fn is_sequence(value: Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map => true,
        ValueKind::None | ValueKind::Bool | ValueKind::Number => false,
        _ => value.len().is_some(),
    }
}

fn length(value: Value) -> Result<usize, Error> {
    if value.is_undefined() { Ok(0) } else { minijinja::filters::length(&value) }
}

/// first and last: of an undefined value, undefined.
fn first(value: Value) -> Result<Value, Error> {
    if value.is_undefined() { Ok(value) } else { minijinja::filters::first(&value) }
}
fn last(value: Value) -> Result<Value, Error> {
    if value.is_undefined() { Ok(value) } else { minijinja::filters::last(value) }
}

/// default(value, default_value='', boolean=False)
fn default(
    value: Value,
    otherwise: Option<Value>,
    boolean: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let otherwise = otherwise.or(kwargs.get("default_value")?).unwrap_or_else(|| Value::from(""));
    let boolean = boolean.or(kwargs.get("boolean")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { otherwise } else { value })
}

/// Words begin behind blanks, hyphens and opening brackets alone.
fn title(value: Value) -> String {
    let mut begins = true;
    let mut out = String::new();
    for c in text_of(&value).chars() {
        if begins {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        begins = c.is_whitespace() || "-({[<".contains(c);
    }
    out
}

pub fn add_to(environment: &mut Environment) {
    environment.set_unknown_method_callback(unknown_method);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("round", round);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("center", center);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("filesizeformat", filesizeformat);
    environment.add_filter("forceescape", forceescape);
    environment.add_test("lower", |value: Value| python_strings::is_lower(&text_of(&value)));
    environment.add_test("upper", |value: Value| python_strings::is_upper(&text_of(&value)));
    environment.add_test("callable", is_callable);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("number", |value: Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    environment.add_filter("first", first);
    environment.add_filter("last", last);
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    environment.add_filter("title", title);
    for name in ["e", "escape"] {
        environment.add_filter(name, forceescape);
    }
    environment.add_filter("sum", sum);
    environment.add_function("joiner", joiner);
    environment.add_function("cycler", cycler);
}

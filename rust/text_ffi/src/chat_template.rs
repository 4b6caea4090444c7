//! Chat templates, rendered as transformers renders them (its Jinja environment's settings, its
//! `tojson`, Python's spelling of values).
//!
//! Templates are untrusted. They reach nothing but the given values; steps and recursion are bounded
//! here. What a step may cost in memory and time is not: rendering belongs into a process that may
//! be ended (src/text/template_worker.h).

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{context, AutoEscape, Environment, Error, ErrorKind, Output, State};

use crate::bytes::{guard, shielded, slice, Bytes};
use crate::given_values::{given_digits, with_given, BigNumber};

/// Instructions of one rendering. A conversation of 10,000 messages takes about a million.
const FUEL: u64 = 20_000_000;
/// Nested macros and includes.
const RECURSION: usize = 128;
/// Template source.
const MAX_SOURCE: usize = 4 << 20;

const NAME: &str = "chat_template";
/// Marks an error that the template itself raised.
const RAISED: &str = "\u{1}raised:";

pub struct TiercelTemplate {
    environment: Environment<'static>,
}

/// Python's repr of a string.
fn repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let _ = match c as u32 {
                    v @ 0..=0xff => write!(out, "\\x{v:02x}"),
                    v @ 0x100..=0xffff => write!(out, "\\u{v:04x}"),
                    v => write!(out, "\\U{v:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// str.isprintable: no control, format or private character, no space but ' ' (those that Unicode has not assigned
/// are taken for printable: which these are depends on its version).
fn is_printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c as u32,
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x2064 | 0x2066..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff9..=0xfffb | 0x110bd | 0x110cd
            | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0001 | 0xe0020..=0xe007f
            | 0xf0000..=0x10ffff)
}

/// A finite float as Python writes it: shortest digits, an exponent from 1e16 and below 1e-4.
fn float_text(v: f64) -> String {
    let magnitude = v.abs();
    if v != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{v:e}");
        let (mantissa, exponent) = text.split_once('e').expect("LowerExp writes an e");
        let exponent: i32 = exponent.parse().expect("a decimal exponent");
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let text = format!("{v}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// A number as json.dumps writes it, or with repr's words for what is not finite; one that was given
/// keeps its digits.
fn number_text(value: &Value, [nan, infinity]: [&str; 2]) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(v) if v.is_nan() => nan.into(),
        Ok(v) if v.is_infinite() => format!("{}{infinity}", if v > 0.0 { "" } else { "-" }),
        Ok(v) => given_digits(v).unwrap_or_else(|| float_text(v)),
        Err(_) => value.to_string(),
    }
}

/// str(value) in Python; repr for strings inside containers.
pub fn python_text(value: &Value, nested: bool, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number_text(value, ["nan", "inf"])),
        ValueKind::String if nested => repr_string(value.as_str().unwrap_or(""), out),
        ValueKind::Seq => {
            out.push('[');
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                python_text(&item, true, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                python_text(&key, true, out);
                out.push_str(": ");
                python_text(&value.get_item(&key).unwrap_or(Value::UNDEFINED), true, out);
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

fn json_string(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// json.dumps with its keyword arguments.
struct Dump {
    ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

impl Dump {
    fn newline(&self, level: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..level).for_each(|_| out.push_str(indent));
        }
    }

    fn write(&self, value: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        if level > RECURSION {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined => {
                return Err(Error::new(ErrorKind::InvalidOperation, "tojson: value is undefined"))
            }
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number_text(value, ["NaN", "Infinity"])),
            ValueKind::String => json_string(value.as_str().unwrap_or(""), self.ascii, out),
            ValueKind::Seq | ValueKind::Iterable => self.write_list(value, level, out)?,
            ValueKind::Map => self.write_map(value, level, out)?,
            ValueKind::Plain if value.downcast_object_ref::<BigNumber>().is_some() => {
                let _ = write!(out, "{value}");
            }
            other => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("tojson: a {other} is not JSON serializable"),
                ))
            }
        }
        Ok(())
    }

    fn write_list(&self, value: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            if !empty {
                out.push_str(&self.item_separator);
            }
            empty = false;
            self.newline(level + 1, out);
            self.write(&item, level + 1, out)?;
        }
        if !empty {
            self.newline(level, out);
        }
        out.push(']');
        Ok(())
    }

    fn write_map(&self, value: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        out.push('{');
        for (i, key) in keys.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.item_separator);
            }
            self.newline(level + 1, out);
            match key.as_str() {
                Some(text) => json_string(text, self.ascii, out),
                None => json_string(&key.to_string(), self.ascii, out),
            }
            out.push_str(&self.key_separator);
            self.write(&value.get_item(key)?, level + 1, out)?;
        }
        if !keys.is_empty() {
            self.newline(level, out);
        }
        out.push('}');
        Ok(())
    }
}

fn tojson(value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        Some(v) if v.kind() == ValueKind::Number => {
            let width = usize::try_from(v).unwrap_or(0).min(64);
            Some(" ".repeat(width))
        }
        Some(v) => v.as_str().map(|s| s.chars().take(64).collect()),
        None => None,
    };
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        _ if indent.is_some() => (",".to_string(), ": ".to_string()),
        _ => (", ".to_string(), ": ".to_string()),
    };
    let dump = Dump {
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item_separator,
        key_separator,
    };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    dump.write(&value, 0, &mut out)?;
    Ok(Value::from(out))
}

/// Jinja2's indent: the crate's own knows no keyword arguments.
fn indent(
    value: String,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.or(kwargs.get::<Option<usize>>("width")?).unwrap_or(4);
    let first = first.or(kwargs.get::<Option<bool>>("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get::<Option<bool>>("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let space = " ".repeat(width);
    let mut out = String::with_capacity(value.len());
    for (i, line) in value.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 || first) && (blank || i == 0 || !line.is_empty()) {
            out.push_str(&space);
        }
        out.push_str(line);
    }
    Ok(out)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// The current local date by a strftime format; the directives that chat templates use.
fn strftime_now(format: String) -> Result<String, Error> {
    crate::chat_template::clock::strftime(&format)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "strftime_now: format not understood"))
}

mod clock {
    use std::ffi::{c_char, CString};

    #[repr(C)]
    struct Tm([u8; 128]); // larger than any platform's struct tm

    extern "C" {
        fn time(out: *mut i64) -> i64;
        fn localtime_r(time: *const i64, tm: *mut Tm) -> *mut Tm;
        #[link_name = "strftime"]
        fn c_strftime(out: *mut c_char, max: usize, format: *const c_char, tm: *const Tm) -> usize;
    }

    pub fn strftime(format: &str) -> Option<String> {
        let format = CString::new(format).ok()?;
        let mut out = [0u8; 1024];
        // SAFETY: the buffers outlive the calls and their sizes are given.
        let written = unsafe {
            let now = time(std::ptr::null_mut());
            let mut tm = Tm([0; 128]);
            if localtime_r(&now, &mut tm).is_null() {
                return None;
            }
            c_strftime(out.as_mut_ptr() as *mut c_char, out.len(), format.as_ptr(), &tm)
        };
        String::from_utf8(out[..written].to_vec()).ok()
    }
}

fn format_value(out: &mut Output, state: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            let mut text = String::new();
            python_text(value, false, &mut text);
            out.write_str(&text).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// transformers' `{% generation %}` block marks the assistant's tokens for training; in serving it
/// is transparent.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else { break };
        let tag = &rest[open + 2..open + length];
        let word = tag.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        out.push_str(&rest[..open + 2]);
        match word {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        out.push_str("%}");
        rest = &rest[open + length + 2..];
    }
    out.push_str(rest);
    out
}

/// Jinja2 reads every kind of line end as a line feed.
fn with_line_feeds(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

fn describe(error: &Error) -> String {
    if let Some(text) = error.detail().and_then(|d| d.strip_prefix(RAISED)) {
        return text.to_string();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return "chat template: too many steps".into();
    }
    let line = error.line().map(|l| format!(" (line {l})")).unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("chat template: {}: {detail}{line}", error.kind()),
        None => format!("chat template: {}{line}", error.kind()),
    }
}

fn compile(source: &[u8]) -> Result<TiercelTemplate, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!(
            "chat template: found {} bytes, expected at most {MAX_SOURCE}",
            source.len()
        ));
    }
    let source = std::str::from_utf8(source).map_err(|e| format!("chat template: {e}"))?;
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(format_value);
    crate::jinja_filters::add_to(&mut environment);
    environment.add_filter("tojson", tojson);
    environment.add_filter("indent", indent);
    environment.add_filter("string", |value: Value| {
        let mut text = String::new();
        python_text(&value, false, &mut text);
        text
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    crate::python_operators::add_to(&mut environment);
    let source = without_generation_blocks(&with_line_feeds(source));
    let source = crate::python_operators::with_calls(&source).unwrap_or(source);
    environment
        .add_template_owned(NAME, source)
        .map_err(|e| describe(&e))?;
    Ok(TiercelTemplate { environment })
}

fn render(template: &TiercelTemplate, values: &[u8]) -> Result<Vec<u8>, String> {
    with_given(values, |values| {
        template
            .environment
            .get_template(NAME)
            .and_then(|t| t.render(context! { ..values }))
            .map(String::into_bytes)
            .map_err(|e| describe(&e))
    })
}

/// # Safety
/// `source` is readable, `error` writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_template_compile(
    source: *const u8,
    size: usize,
    error: *mut Bytes,
) -> *mut TiercelTemplate {
    guard(error, || compile(slice(source, size)).map(Box::new))
        .map_or(std::ptr::null_mut(), Box::into_raw)
}

/// # Safety
/// `template` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn tiercel_template_free(template: *mut TiercelTemplate) {
    shielded((), || {
        if !template.is_null() {
            drop(Box::from_raw(template));
        }
    })
}

/// # Safety
/// `template` is valid, `values` readable, `text` and `error` writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_template_render(
    template: *const TiercelTemplate,
    values: *const u8,
    size: usize,
    text: *mut Bytes,
    error: *mut Bytes,
) -> bool {
    guard(error, || render(&*template, slice(values, size)).map(Bytes::new))
        .map(|content| *text = content)
        .is_some()
}

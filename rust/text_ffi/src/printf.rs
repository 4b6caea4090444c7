//! Python's `format % values`: the conversions of text.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::chat_template::python_text;
use crate::python_operators::Number;

/// Characters of one field.
const MAX_WIDTH: usize = 1 << 20;

/// What stands behind the `%`.
pub enum Values<'a> {
    Tuple(&'a [Value]),
    One(&'a Value),
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Hands out the values in order.
struct Taker<'a> {
    values: Values<'a>,
    taken: usize,
}

impl Taker<'_> {
    fn next(&mut self) -> Result<Value, Error> {
        let value = match &self.values {
            Values::Tuple(list) => list.get(self.taken).cloned(),
            Values::One(value) => (self.taken == 0).then(|| (*value).clone()),
        };
        self.taken += 1;
        value.ok_or_else(|| wrong("not enough arguments for format string"))
    }

    fn named(&mut self, key: &str) -> Result<Value, Error> {
        match &self.values {
            Values::One(value) if value.kind() == ValueKind::Map => {
                let found = value.get_attr(key)?;
                if found.is_undefined() {
                    return Err(wrong(format!("format: there is no '{key}'")));
                }
                Ok(found)
            }
            _ => Err(wrong("format requires a mapping")),
        }
    }

    /// A list or a mapping may have more than the format takes, as in Python.
    fn all_taken(&self) -> bool {
        match &self.values {
            Values::Tuple(list) => self.taken >= list.len(),
            Values::One(value) => {
                self.taken > 0 || matches!(value.kind(), ValueKind::Map | ValueKind::Seq)
            }
        }
    }
}

#[derive(Default)]
struct Field {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

impl Field {
    fn number(&self, negative: bool, prefix: &str, digits: &str, out: &mut String) {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let length = sign.len() + prefix.len() + digits.chars().count();
        let fill = self.width.saturating_sub(length);
        let zeros = if self.zero && !self.left { fill } else { 0 };
        let text = format!("{sign}{prefix}{}{digits}", "0".repeat(zeros));
        self.text(&text, out);
    }

    fn text(&self, text: &str, out: &mut String) {
        let fill = " ".repeat(self.width.saturating_sub(text.chars().count()));
        let parts = if self.left { [text, &fill] } else { [&fill, text] };
        parts.iter().for_each(|p| out.push_str(p));
    }
}

/// digits "1.50000e+02" of a positive float.
fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn general(value: f64, precision: usize, alternate: bool) -> String {
    let precision = precision.max(1);
    let rounded = format!("{value:.*e}", precision - 1);
    let exponent: i64 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let fixed = exponent >= -4 && exponent < precision as i64;
    let text = if fixed {
        format!("{value:.*}", (precision as i64 - 1 - exponent).max(0) as usize)
    } else {
        exponential(value, precision - 1)
    };
    if alternate || !text.contains('.') {
        return text;
    }
    match text.split_once('e') {
        Some((mantissa, rest)) => {
            format!("{}e{rest}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
        None => text.trim_end_matches('0').trim_end_matches('.').to_string(),
    }
}

fn float_field(field: &Field, kind: char, value: &Value, out: &mut String) -> Result<(), Error> {
    let value = Number::of(value)?.float();
    let negative = value.is_sign_negative() && !value.is_nan();
    let magnitude = value.abs();
    let precision = field.precision.unwrap_or(6);
    let digits = if !value.is_finite() {
        if value.is_nan() { "nan" } else { "inf" }.to_string()
    } else {
        match kind.to_ascii_lowercase() {
            'e' => exponential(magnitude, precision),
            'f' => format!("{magnitude:.precision$}"),
            _ => general(magnitude, precision, field.alternate),
        }
    };
    let digits = if kind.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
    field.number(negative, "", &digits, out);
    Ok(())
}

fn integer_field(field: &Field, kind: char, value: &Value, out: &mut String) -> Result<(), Error> {
    let decimal = matches!(kind, 'd' | 'i' | 'u');
    let value = match Number::of(value) {
        Ok(Number::Int(v)) => v,
        Ok(Number::Float(v)) if decimal && v.is_finite() && v.abs() < 1e38 => v.trunc() as i128,
        _ => return Err(wrong(format!("%{kind} format: an integer is required"))),
    };
    let magnitude = value.unsigned_abs();
    let (prefix, mut digits) = match kind {
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        _ => ("", magnitude.to_string()),
    };
    let precision = field.precision.unwrap_or(0);
    if digits.len() < precision {
        digits = "0".repeat(precision - digits.len()) + &digits;
    }
    field.number(value < 0, if field.alternate { prefix } else { "" }, &digits, out);
    Ok(())
}

fn text_field(field: &Field, kind: char, value: &Value, out: &mut String) -> Result<(), Error> {
    let mut text = String::new();
    if kind == 'c' {
        match Number::of(value) {
            Ok(Number::Int(v)) => {
                let c = u32::try_from(v).ok().and_then(char::from_u32);
                text.push(c.ok_or_else(|| wrong("%c arg is no character"))?);
            }
            _ => text.push_str(value.as_str().filter(|t| t.chars().count() == 1).ok_or_else(|| {
                wrong("%c requires an integer or one character")
            })?),
        }
    } else {
        match (kind, value.as_str()) {
            ('s', Some(string)) => text.push_str(string),
            _ => python_text(value, kind == 'r', &mut text),
        }
        if let Some(precision) = field.precision {
            text = text.chars().take(precision).collect();
        }
    }
    field.text(&text, out);
    Ok(())
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Digits, or a star that stands for the next value; −1 where there is neither.
fn count(format: &mut Characters, values: &mut Taker) -> Result<Option<i128>, Error> {
    if format.next_if_eq(&'*').is_some() {
        return match Number::of(&values.next()?) {
            Ok(Number::Int(v)) => Ok(Some(v)),
            _ => Err(wrong("* wants an integer")),
        };
    }
    let mut found = None;
    while let Some(digit) = format.peek().and_then(|c| c.to_digit(10)) {
        format.next();
        found = Some((found.unwrap_or(0) * 10 + i128::from(digit)).min(1 << 40));
    }
    Ok(found)
}

fn bounded(width: i128) -> Result<usize, Error> {
    usize::try_from(width)
        .ok()
        .filter(|&w| w <= MAX_WIDTH)
        .ok_or_else(|| wrong(format!("a field of {width} characters is too wide")))
}

fn field(format: &mut Characters, values: &mut Taker, out: &mut String) -> Result<(), Error> {
    let mut named = None;
    if format.next_if_eq(&'(').is_some() {
        let mut key = String::new();
        let mut depth = 1;
        for c in format.by_ref() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 {
                break;
            }
            key.push(c);
        }
        if depth > 0 {
            return Err(wrong("incomplete format key"));
        }
        named = Some(values.named(&key)?);
    }
    let mut field = Field::default();
    while let Some(flag) = format.next_if(|c| "-+ 0#".contains(*c)) {
        match flag {
            '-' => field.left = true,
            '+' => field.plus = true,
            ' ' => field.space = true,
            '0' => field.zero = true,
            _ => field.alternate = true,
        }
    }
    let width = count(format, values)?.unwrap_or(0);
    field.left |= width < 0;
    field.width = bounded(width.saturating_abs())?;
    if format.next_if_eq(&'.').is_some() {
        field.precision = Some(bounded(count(format, values)?.unwrap_or(0).max(0))?);
    }
    format.next_if(|c| "hlL".contains(*c));
    let kind = format.next().ok_or_else(|| wrong("incomplete format"))?;
    if kind == '%' {
        out.push('%');
        return Ok(());
    }
    if !"diuxXoeEfFgGcsr".contains(kind) {
        return Err(wrong(format!("unsupported format character '{kind}'")));
    }
    let value = match named {
        Some(value) => value,
        None => values.next()?,
    };
    match kind {
        'c' | 's' | 'r' => text_field(&field, kind, &value, out),
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => integer_field(&field, kind, &value, out),
        _ => float_field(&field, kind, &value, out),
    }
}

pub fn printf(format: &str, values: Values) -> Result<String, Error> {
    let mut values = Taker { values, taken: 0 };
    let mut out = String::with_capacity(format.len());
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '%' {
            field(&mut rest, &mut values, &mut out)?;
        } else {
            out.push(c);
        }
    }
    if !values.all_taken() {
        return Err(wrong("not all arguments converted during string formatting"));
    }
    Ok(out)
}

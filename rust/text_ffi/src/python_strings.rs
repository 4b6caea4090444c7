//! Python's str methods that minijinja's compatibility layer lacks, or has otherwise.

use minijinja::value::{from_args, Kwargs, Value};
use minijinja::{Error, ErrorKind};

/// More than any template needs, and little enough to be made.
const MAX_WIDTH: usize = 1 << 20;

fn not_found(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{what}: substring not found"))
}

/// Python's blanks, as str.strip and str.split take them.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<usize>) -> Result<Value, Error> {
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => match most {
            Some(most) => text.rsplitn(most + 1, separator).collect(),
            None => text.rsplit(separator).collect(),
        },
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end_matches(is_blank);
            while !rest.is_empty() {
                if most == Some(parts.len()) {
                    parts.push(rest);
                    break;
                }
                let begin = rest
                    .char_indices()
                    .rev()
                    .find(|&(_, c)| is_blank(c))
                    .map_or(0, |(at, c)| at + c.len_utf8());
                parts.push(&rest[begin..]);
                rest = rest[..begin].trim_end_matches(is_blank);
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

fn splitlines(text: &str, keep_ends: bool) -> Value {
    let is_end = |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines: Vec<Value> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (end, next) = match rest.char_indices().find(|&(_, c)| is_end(c)) {
            Some((at, c)) => {
                let pair = rest[at..].starts_with("\r\n");
                (at, at + if pair { 2 } else { c.len_utf8() })
            }
            None => (rest.len(), rest.len()),
        };
        lines.push(Value::from(&rest[..if keep_ends { next } else { end }]));
        rest = &rest[next..];
    }
    lines.into_iter().collect()
}

#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Both,
}

/// `text` within `width` characters, on its `side`.
pub fn justified(text: &str, width: usize, fill: Option<&str>, side: &str) -> Result<String, Error> {
    let side = match side {
        "ljust" => Side::Left,
        "rjust" => Side::Right,
        _ => Side::Both,
    };
    let fill = fill.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return Err(Error::new(ErrorKind::InvalidOperation, "the fill character must be one character"));
    }
    if width > MAX_WIDTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "the width is too large"));
    }
    let size = text.chars().count();
    let pad = width.saturating_sub(size);
    // CPython's rule for the odd one.
    let left = match side {
        Side::Left => 0,
        Side::Right => pad,
        Side::Both => pad / 2 + (pad & width & 1),
    };
    Ok(fill.repeat(left) + text + &fill.repeat(pad - left))
}

fn zfill(text: &str, width: usize) -> Result<String, Error> {
    let sign = if text.starts_with(['+', '-']) { 1 } else { 0 };
    let digits = justified(&text[sign..], width.saturating_sub(sign), Some("0"), "rjust")?;
    Ok(format!("{}{digits}", &text[..sign]))
}

fn expandtabs(text: &str, size: usize) -> Result<String, Error> {
    if size > MAX_WIDTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "the tab size is too large"));
    }
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let blanks = size - column % size;
                out.push_str(&" ".repeat(blanks));
                column += blanks;
            }
            '\t' => {}
            _ => {
                out.push(c);
                column = if c == '\n' || c == '\r' { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}

fn swapcase(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        if within {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        within = c.is_alphabetic();
    }
    out
}

fn is_title(text: &str) -> bool {
    let (mut within, mut any) = (false, false);
    for c in text.chars() {
        if c.is_uppercase() && within || c.is_lowercase() && !within {
            return false;
        }
        within = c.is_uppercase() || c.is_lowercase();
        any |= within;
    }
    any
}

fn all(text: &str, what: fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(what)
}

pub fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

pub fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

fn is_identifier(text: &str) -> bool {
    let begins = |c: char| c == '_' || c.is_alphabetic();
    text.starts_with(begins) && text.chars().all(|c| begins(c) || c.is_alphanumeric())
}

/// The part between two places that are counted in characters, from the end if negative, and the
/// number of characters before it.
fn part(text: &str, begin: Option<i64>, end: Option<i64>) -> Option<(&str, usize)> {
    let size = text.chars().count() as i64;
    let place = |at: i64| (if at < 0 { at + size } else { at }).clamp(0, size);
    let (begin, end) = (begin.unwrap_or(0), place(end.unwrap_or(size)));
    if begin > size {
        return None;
    }
    let begin = place(begin);
    if begin > end {
        return None;
    }
    let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Some((&text[byte(begin)..byte(end)], begin as usize))
}

fn find(text: &str, args: &[Value], last: bool) -> Result<Option<usize>, Error> {
    let (what, begin, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    Ok(part(text, begin, end).and_then(|(part, before)| {
        let at = if last { part.rfind(what) } else { part.find(what) };
        at.map(|at| before + part[..at].chars().count())
    }))
}

fn partition(text: &str, separator: &str, last: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let at = if last { text.rfind(separator) } else { text.find(separator) };
    let parts = match (at, last) {
        (Some(at), _) => [&text[..at], separator, &text[at + separator.len()..]],
        (None, false) => [text, "", ""],
        (None, true) => ["", "", text],
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

/// What `text.method(args)` gives; None if it is another's method.
pub fn call(text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let plain = |value: Value| from_args::<()>(args).map(|()| value);
    Some(match method {
        "rsplit" => (|| {
            let (separator, most, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = separator.or(kwargs.get::<Option<&str>>("sep")?);
            let most = most.or(kwargs.get::<Option<i64>>("maxsplit")?);
            rsplit(text, separator, most.and_then(|most| usize::try_from(most).ok()))
        })(),
        "splitlines" => (|| {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            Ok(splitlines(text, keep.or(kwargs.get("keepends")?).unwrap_or(false)))
        })(),
        "partition" | "rpartition" => from_args::<(&str,)>(args)
            .and_then(|(separator,)| partition(text, separator, method == "rpartition")),
        "removeprefix" => from_args::<(&str,)>(args)
            .map(|(prefix,)| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
        "removesuffix" => from_args::<(&str,)>(args)
            .map(|(suffix,)| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
        "find" | "rfind" => find(text, args, method == "rfind")
            .map(|at| Value::from(at.map_or(-1, |at| at as i64))),
        "index" | "rindex" => find(text, args, method == "rindex")
            .and_then(|at| at.map(Value::from).ok_or_else(|| not_found(method))),
        "count" => (|| {
            let (what, begin, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            Ok(Value::from(part(text, begin, end).map_or(0, |(part, _)| part.matches(what).count())))
        })(),
        "zfill" => from_args::<(usize,)>(args).and_then(|(width,)| zfill(text, width)).map(Value::from),
        "ljust" | "rjust" | "center" => from_args::<(usize, Option<&str>)>(args)
            .and_then(|(width, fill)| justified(text, width, fill, method))
            .map(Value::from),
        "expandtabs" => (|| {
            let (size, kwargs): (Option<usize>, Kwargs) = from_args(args)?;
            expandtabs(text, size.or(kwargs.get("tabsize")?).unwrap_or(8)).map(Value::from)
        })(),
        "swapcase" => plain(Value::from(swapcase(text))),
        "casefold" => plain(Value::from(text.replace('ß', "ss").to_lowercase())),
        "title" => plain(Value::from(title(text))),
        "islower" => plain(Value::from(is_lower(text))),
        "isupper" => plain(Value::from(is_upper(text))),
        "istitle" => plain(Value::from(is_title(text))),
        "isspace" => plain(Value::from(all(text, is_blank))),
        "isalnum" => plain(Value::from(all(text, char::is_alphanumeric))),
        "isalpha" => plain(Value::from(all(text, char::is_alphabetic))),
        "isnumeric" => plain(Value::from(all(text, char::is_numeric))),
        // Without Unicode's table of digits: those of ASCII.
        "isdigit" | "isdecimal" => plain(Value::from(all(text, |c| c.is_ascii_digit()))),
        "isidentifier" => plain(Value::from(is_identifier(text))),
        _ => return None,
    })
}

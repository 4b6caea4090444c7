//! The numbers of a JSON Schema, made such that the grammar library can keep to them.
//!
//! It takes every number for a double and every integer's bound for 64 bits: what neither holds exactly would change without
//! a word, and the least integer of 64 bits ends the process. So bounds are drawn inwards to the next number that is held: no
//! instance is then taken that is not valid. A value that has to be exact (`const`, `enum`) and is not is refused, and so are
//! divisors whose remainders would take seconds and gigabytes to tell apart.
//!
//! The text itself is walked, as a parsed schema no longer has its digits. Broken JSON is left for the library to refuse.

use std::cmp::Ordering;

/// The largest double below 2^63: its negative has a negative in 64 bits.
const LARGEST: f64 = 9_223_372_036_854_774_784.0;
/// 3 µs and 200 bytes each, at the most.
const MAX_REMAINDERS: u64 = 1 << 16;

/// A decimal number: 0.d₁d₂… · 10^exponent, d₁ ≠ 0; no digits: zero.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Of a number of JSON's, or of a double as Rust writes it.
    fn new(text: &str) -> Decimal {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = all.iter().take_while(|&&d| d == b'0').count();
        let mut digits = all[zeros..].to_vec();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        // Beyond 64 bits only its sign counts.
        let far = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let shift = exponent.parse().unwrap_or(far).clamp(i64::MIN / 2, i64::MAX / 2);
        Decimal { negative, digits, exponent: whole.len() as i64 - zeros as i64 + shift }
    }

    fn cmp(&self, other: &Decimal) -> Ordering {
        let sign = |d: &Decimal| if d.digits.is_empty() { 0 } else if d.negative { -1 } else { 1 };
        let (a, b) = (sign(self), sign(other));
        if a != b || a == 0 {
            return a.cmp(&b);
        }
        let larger = self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        if a < 0 { larger.reverse() } else { larger }
    }

    fn is_whole(&self) -> bool {
        self.digits.len() as i64 <= self.exponent || self.digits.is_empty()
    }
}

/// What the library takes it for: the digits that tell it from other doubles, or, as an integer, all of them.
fn readings(v: f64) -> [Decimal; 2] {
    let whole = if v.fract() == 0.0 { format!("{v:.0}") } else { format!("{v}") };
    [Decimal::new(&format!("{v}")), Decimal::new(&whole)]
}

fn any_is(v: f64, exact: &Decimal, order: Ordering) -> bool {
    readings(v).iter().any(|r| r.cmp(exact) == order)
}

fn is(v: f64, exact: &Decimal) -> bool {
    readings(v).iter().all(|r| r.cmp(exact) == Ordering::Equal)
}

/// The next double in the direction of `towards`, which is infinite.
fn next(v: f64, towards: f64) -> f64 {
    if v == 0.0 {
        return f64::from_bits(1).copysign(towards);
    }
    let bits = v.to_bits();
    f64::from_bits(if (v > 0.0) == (towards > 0.0) { bits + 1 } else { bits - 1 })
}

/// What the library reads: not always the nearest double.
fn held(text: &str) -> Option<f64> {
    serde_json::from_str(text).ok()
}

/// `text`, or what of the numbers that are held comes next in the direction of `inwards`; None where none does.
fn bound(text: &str, inwards: f64) -> Option<String> {
    let exact = Decimal::new(text);
    let Ok(mut v) = text.parse::<f64>() else { return Some(text.into()) };
    let outside = if inwards > 0.0 { Ordering::Less } else { Ordering::Greater };
    while v.is_finite() && held(&format!("{v}")).is_some_and(|h| any_is(h, &exact, outside)) {
        v = next(v, inwards);
    }
    if v.abs() > LARGEST {
        if (v > 0.0) == (inwards > 0.0) {
            return None;
        }
        v = LARGEST.copysign(v);
    }
    Some(if is(v, &exact) { text.into() } else { format!("{v}") })
}

fn is_exact(text: &str) -> bool {
    held(text).is_some_and(|v| is(v, &Decimal::new(text)) && v.abs() <= LARGEST)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What `multipleOf` multiplies: coefficient and places behind the point.
fn divisor(text: &str) -> Option<(u64, i64)> {
    let d = Decimal::new(text);
    if d.digits.is_empty() {
        return Some((0, 0));
    }
    let places = (d.digits.len() as i64 - d.exponent).max(0);
    let zeros = (d.exponent - d.digits.len() as i64).max(0);
    let digits = std::str::from_utf8(&d.digits).ok()?;
    let coefficient = digits.parse::<u64>().ok()?.checked_mul(10u64.checked_pow(zeros.try_into().ok()?)?)?;
    Some((coefficient, places))
}

/// A bound that has been written: whether its own value is left out, its value, and where it stands.
struct Written {
    excludes: bool,
    value: f64,
    place: std::ops::Range<usize>,
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    out: String,
    /// Of the object at hand.
    low: Option<Written>,
    high: Option<Written>,
    /// Of every `multipleOf`.
    divisors: Vec<(u64, i64)>,
    /// Schemas may have to hold together.
    combines: bool,
}

/// Broken JSON is None, and what cannot be kept to an error.
type Step = Result<Option<()>, String>;

impl Walk<'_> {
    fn space(&mut self) {
        while self.at < self.text.len() && b" \t\n\r".contains(&self.text[self.at]) {
            self.at += 1;
        }
    }

    fn copy(&mut self, from: usize) {
        self.out.push_str(&String::from_utf8_lossy(&self.text[from..self.at]));
    }

    fn eat(&mut self, c: u8) -> bool {
        self.space();
        let found = self.text.get(self.at) == Some(&c);
        if found {
            self.at += 1;
            self.out.push(c as char);
        }
        found
    }

    /// The string at hand, copied; without its quotes.
    fn string(&mut self) -> Option<String> {
        let from = self.at;
        self.at += 1;
        while *self.text.get(self.at)? != b'"' {
            self.at += 1 + usize::from(self.text[self.at] == b'\\');
        }
        self.at += 1;
        self.copy(from);
        std::str::from_utf8(&self.text[from + 1..self.at - 1]).ok().map(String::from)
    }

    fn value(&mut self, key: &str, exact: bool) -> Step {
        self.space();
        match self.text.get(self.at) {
            Some(b'{') => self.object(exact),
            Some(b'[') => self.array(key, exact),
            Some(b'"') => Ok(self.string().map(|_| ())),
            Some(c) if c.is_ascii_alphabetic() => {
                let from = self.at;
                while self.text.get(self.at).is_some_and(|c| c.is_ascii_alphabetic()) {
                    self.at += 1;
                }
                self.copy(from);
                Ok(Some(()))
            }
            Some(c) if *c == b'-' || c.is_ascii_digit() => self.number(key, exact),
            _ => Ok(None),
        }
    }

    fn object(&mut self, exact: bool) -> Step {
        let outer = (self.low.take(), self.high.take());
        let found = self.members(exact);
        self.leave_out_whole_bounds();
        (self.low, self.high) = outer;
        found
    }

    /// The library takes a whole number n for one between n, left out, and less than n + 1; the same below zero. A bound a
    /// little further in has no such neighbor.
    fn leave_out_whole_bounds(&mut self) {
        let (Some(low), Some(high)) = (&self.low, &self.high) else { return };
        let width = high.value - low.value;
        if !(width > 0.0 && width < 1.0) {
            return;
        }
        let step = width / f64::from(1 << 20);
        if low.excludes && low.value.fract() == 0.0 {
            self.out.replace_range(low.place.clone(), &format!("{}", low.value + step));
        } else if high.excludes && high.value.fract() == 0.0 {
            self.out.replace_range(high.place.clone(), &format!("{}", high.value - step));
        }
    }

    fn members(&mut self, exact: bool) -> Step {
        self.eat(b'{');
        if self.eat(b'}') {
            return Ok(Some(()));
        }
        loop {
            self.space();
            if self.text.get(self.at) != Some(&b'"') {
                return Ok(None);
            }
            let Some(key) = self.string() else { return Ok(None) };
            if !self.eat(b':') {
                return Ok(None);
            }
            self.combines |= matches!(key.as_str(), "allOf" | "anyOf" | "oneOf" | "$ref");
            if self.value(&key, exact || key == "const" || key == "enum")?.is_none() {
                return Ok(None);
            }
            if self.eat(b'}') {
                return Ok(Some(()));
            }
            if !self.eat(b',') {
                return Ok(None);
            }
        }
    }

    fn array(&mut self, key: &str, exact: bool) -> Step {
        self.eat(b'[');
        if self.eat(b']') {
            return Ok(Some(()));
        }
        // A schema's list has no bounds of its own.
        let key = if exact { key } else { "" };
        loop {
            if self.value(key, exact)?.is_none() {
                return Ok(None);
            }
            if self.eat(b']') {
                return Ok(Some(()));
            }
            if !self.eat(b',') {
                return Ok(None);
            }
        }
    }

    fn number(&mut self, key: &str, exact: bool) -> Step {
        let from = self.at;
        while self.text.get(self.at).is_some_and(|c| b"+-.eE".contains(c) || c.is_ascii_digit()) {
            self.at += 1;
        }
        let Ok(text) = std::str::from_utf8(&self.text[from..self.at]) else { return Ok(None) };
        let written = if exact {
            if !is_exact(text) {
                return Err(format!("`{key}`: {} cannot be told apart from the numbers beside it", short(text)));
            }
            text.into()
        } else {
            match key {
                "minimum" | "exclusiveMinimum" => bound(text, f64::INFINITY)
                    .ok_or_else(|| format!("`{key}`: {} is more than {LARGEST:.0}, which is the most", short(text)))?,
                "maximum" | "exclusiveMaximum" => bound(text, f64::NEG_INFINITY)
                    .ok_or_else(|| format!("`{key}`: {} is less than -{LARGEST:.0}, which is the least", short(text)))?,
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => whole(text),
                "multipleOf" => {
                    let of = divisor(text).filter(|&(d, _)| d <= MAX_REMAINDERS);
                    self.divisors.push(of.ok_or_else(|| too_many(text))?);
                    text.into()
                }
                _ => text.into(),
            }
        };
        let place = self.out.len()..self.out.len() + written.len();
        let bound = written.parse().ok().map(|value| Written { excludes: key.starts_with("ex"), value, place });
        match key {
            "minimum" | "exclusiveMinimum" => self.low = bound,
            "maximum" | "exclusiveMaximum" => self.high = bound,
            _ => {}
        }
        self.out.push_str(&written);
        Ok(Some(()))
    }

    /// The remainders that have to be told apart: by divisors that hold together, of what all of them divide.
    fn check_divisors(&self) -> Result<(), String> {
        let places = self.divisors.iter().map(|d| d.1).max().unwrap_or(0);
        let mut all: u64 = if self.combines { 1 } else { 0 };
        for &(d, own) in &self.divisors {
            if d == 0 {
                continue; // the library says what is wrong with it
            }
            let scaled = (|| d.checked_mul(10u64.checked_pow((places - own).try_into().ok()?)?))();
            let next = match scaled {
                Some(s) if self.combines => all.checked_mul(s / gcd(all, s)),
                _ if self.combines => None,
                _ => all.checked_add(d),
            };
            all = next.filter(|&n| n <= MAX_REMAINDERS).ok_or_else(|| too_many("all of them together"))?;
        }
        Ok(())
    }
}

/// A whole number without its point, as the library wants it: 2.0 is 2 in JSON Schema.
fn whole(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(v) if text.contains(['.', 'e', 'E']) && (0.0..=LARGEST).contains(&v) && Decimal::new(text).is_whole() => {
            format!("{v}")
        }
        _ => text.into(),
    }
}

fn too_many(what: &str) -> String {
    format!("`multipleOf`: {} makes more than {MAX_REMAINDERS} remainders, which is the most", short(what))
}

fn short(text: &str) -> &str {
    &text[..text.len().min(40)]
}

/// The schema that begins `text`, with such numbers, and how long it was.
fn kept(text: &str) -> Result<Option<(String, usize)>, String> {
    let mut walk = Walk { text: text.as_bytes(), at: 0, out: String::new(), low: None, high: None, divisors: vec![], combines: false };
    if walk.value("", false)?.is_none() {
        return Ok(None);
    }
    walk.check_divisors()?;
    Ok(Some((walk.out, walk.at)))
}

/// A schema with numbers that can be kept to.
pub fn of_schema(source: &str) -> Result<String, String> {
    Ok(kept(source)?.filter(|(_, length)| source[*length..].trim().is_empty()).map_or(source.into(), |found| found.0))
}

/// The same of every schema within a grammar in Lark.
pub fn of_lark(source: &str) -> Result<String, String> {
    const BEGIN: &str = "%json";
    let mut out = String::new();
    let mut rest = source;
    while let Some(at) = rest.find(BEGIN) {
        let (before, schema) = rest.split_at(at + BEGIN.len());
        out.push_str(before);
        rest = schema;
        if let Some((written, length)) = kept(schema)? {
            out.push(' ');
            out.push_str(&written);
            rest = &schema[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

//! `%` and `**` as Python has them, which minijinja's own are not: text before `%` is a format, a remainder
//! has the sign of the divisor, a power may have a negative exponent. Both become calls of functions
//! here, in the source, before it is compiled.


use minijinja::machinery::ast::{BinOp, BinOpKind, Call, CallArg, Expr, Stmt};
use minijinja::machinery::{parse, tokenize, Token, WhitespaceConfig};
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use crate::printf::{printf, Values};

const REMAINDER: &str = "__remainder";
const FORMAT: &str = "__format";
const POWER: &str = "__power";

/// An operator in the source: from where to where its operands and it itself reach.
struct Use {
    begin: usize,
    operator: usize,
    operator_end: usize,
    end: usize,
    function: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Open,
    Close,
    Remainder,
    Power,
}

const SPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// Brackets and operators with where they begin and end.
fn marks(source: &str) -> Option<Vec<(Mark, usize, usize)>> {
    let mut marks = Vec::new();
    for token in tokenize(source, false, Default::default(), SPACE) {
        let (token, span) = token.ok()?;
        let mark = match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => Mark::Open,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => Mark::Close,
            Token::Mod => Mark::Remainder,
            Token::Pow => Mark::Power,
            _ => continue,
        };
        marks.push((mark, span.start_offset as usize, span.end_offset as usize));
    }
    Some(marks)
}

struct Finder {
    marks: Vec<(Mark, usize, usize)>,
    uses: Vec<Use>,
}

impl Finder {
    /// The last operator of the kind in a range that is within no brackets of it: what binds alike binds
    /// from the left.
    fn operator(&self, mark: Mark, begin: usize, end: usize) -> Option<(usize, usize)> {
        let mut depth = 0;
        let mut found = None;
        let first = self.marks.partition_point(|m| m.1 < begin);
        for &(kind, from, to) in self.marks[first..].iter().take_while(|m| m.1 < end) {
            match kind {
                Mark::Open => depth += 1,
                Mark::Close => depth -= 1,
                _ if kind == mark && depth == 0 => found = Some((from, to)),
                _ => {}
            }
        }
        found
    }

    fn operation(&mut self, operation: &BinOp, begin: usize, end: usize) {
        let mark = match operation.op {
            BinOpKind::Rem => Mark::Remainder,
            BinOpKind::Pow => Mark::Power,
            _ => return,
        };
        let Some((operator, operator_end)) = self.operator(mark, begin, end) else { return };
        let function = match (mark, &operation.right) {
            (Mark::Power, _) => POWER,
            // Only a tuple's items are several values; that it is none, but a list, is seen below.
            (_, Expr::List(_)) => FORMAT,
            _ => REMAINDER,
        };
        self.uses.push(Use { begin, operator, operator_end, end, function });
    }

    fn all<'a>(&mut self, expressions: impl IntoIterator<Item = &'a Expr<'a>>) {
        expressions.into_iter().for_each(|e| self.expression(e));
    }

    fn arguments(&mut self, arguments: &[CallArg]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => {
                    self.expression(e)
                }
            }
        }
    }

    fn call(&mut self, call: &Call) {
        self.expression(&call.expr);
        self.arguments(&call.args);
    }

    fn expression(&mut self, expression: &Expr) {
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(s) => {
                self.expression(&s.expr);
                [&s.start, &s.stop, &s.step].into_iter().flatten().for_each(|e| self.expression(e));
            }
            Expr::UnaryOp(u) => self.expression(&u.expr),
            Expr::BinOp(b) => {
                let span = b.span();
                self.operation(b, span.start_offset as usize, span.end_offset as usize);
                self.expression(&b.left);
                self.expression(&b.right);
            }
            Expr::Compare(c) => {
                self.expression(&c.expr);
                c.ops.iter().for_each(|o| self.expression(&o.expr));
            }
            Expr::IfExpr(i) => {
                self.expression(&i.test_expr);
                self.expression(&i.true_expr);
                i.false_expr.iter().for_each(|e| self.expression(e));
            }
            Expr::Filter(f) => {
                f.expr.iter().for_each(|e| self.expression(e));
                self.arguments(&f.args);
            }
            Expr::Test(t) => {
                self.expression(&t.expr);
                self.arguments(&t.args);
            }
            Expr::GetAttr(g) => self.expression(&g.expr),
            Expr::GetItem(g) => {
                self.expression(&g.expr);
                self.expression(&g.subscript_expr);
            }
            Expr::Call(c) => self.call(c),
            Expr::List(l) => l.items.iter().for_each(|e| self.expression(e)),
            Expr::Map(m) => m.keys.iter().chain(&m.values).for_each(|e| self.expression(e)),
        }
    }

    fn statements(&mut self, statements: &[Stmt]) {
        statements.iter().for_each(|s| self.statement(s));
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Template(t) => self.statements(&t.children),
            Stmt::EmitExpr(e) => self.expression(&e.expr),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            Stmt::ForLoop(f) => {
                self.expression(&f.iter);
                f.filter_expr.iter().for_each(|e| self.expression(e));
                self.statements(&f.body);
                self.statements(&f.else_body);
            }
            Stmt::IfCond(i) => {
                self.expression(&i.expr);
                self.statements(&i.true_body);
                self.statements(&i.false_body);
            }
            Stmt::WithBlock(w) => {
                w.assignments.iter().for_each(|(_, e)| self.expression(e));
                self.statements(&w.body);
            }
            Stmt::Set(s) => self.expression(&s.expr),
            Stmt::SetBlock(s) => {
                s.filter.iter().for_each(|e| self.expression(e));
                self.statements(&s.body);
            }
            Stmt::AutoEscape(a) => {
                self.expression(&a.enabled);
                self.statements(&a.body);
            }
            Stmt::FilterBlock(f) => {
                self.expression(&f.filter);
                self.statements(&f.body);
            }
            Stmt::Block(b) => self.statements(&b.body),
            Stmt::Import(i) => self.expression(&i.expr),
            Stmt::FromImport(i) => self.expression(&i.expr),
            Stmt::Extends(e) => self.expression(&e.name),
            Stmt::Include(i) => self.expression(&i.name),
            Stmt::Macro(m) => {
                self.all(&m.defaults);
                self.statements(&m.body);
            }
            Stmt::CallBlock(c) => {
                self.call(&c.call);
                self.all(&c.macro_decl.defaults);
                self.statements(&c.macro_decl.body);
            }
            Stmt::Do(d) => self.call(&d.call),
        }
    }
}

/// The source with calls in place of the operators; None where it has none, or is no template: then the
/// compiler says why.
pub fn with_calls(source: &str) -> Option<String> {
    let marks = marks(source)?;
    if !marks.iter().any(|m| matches!(m.0, Mark::Remainder | Mark::Power)) {
        return None;
    }
    let template = parse(source, "chat_template", Default::default(), SPACE).ok()?;
    let mut finder = Finder { marks, uses: Vec::new() };
    finder.statement(&template);
    // (where, how much of the source it replaces, by what); outer ones before inner ones.
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    for u in &finder.uses {
        // What stands in round brackets behind the operator is a tuple, in square ones a list.
        let is_tuple = source[u.operator_end..].trim_start().starts_with('(');
        let function = if u.function == FORMAT && !is_tuple { REMAINDER } else { u.function };
        edits.push((u.begin, 0, format!("{function}(")));
        edits.push((u.operator, u.operator_end - u.operator, ",".into()));
        edits.push((u.end, 0, ")".into()));
    }
    edits.sort_by_key(|e| e.0);
    let mut out = String::with_capacity(source.len() + 16 * edits.len());
    let mut at = 0;
    for (begin, length, text) in edits {
        out.push_str(&source[at..begin]);
        out.push_str(&text);
        at = begin + length;
    }
    out.push_str(&source[at..]);
    Some(out)
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_string())
}

/// An integer or a float; booleans are integers.
pub enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub fn of(value: &Value) -> Result<Number, Error> {
        match value.kind() {
            ValueKind::Bool => Ok(Number::Int(value.is_true().into())),
            ValueKind::Number if value.is_integer() => {
                i128::try_from(value.clone()).map(Number::Int).map_err(|_| wrong("an integer is too large"))
            }
            ValueKind::Number => f64::try_from(value.clone()).map(Number::Float),
            other => Err(wrong(&format!("unsupported operand: {other}"))),
        }
    }

    pub fn float(&self) -> f64 {
        match *self {
            Number::Int(v) => v as f64,
            Number::Float(v) => v,
        }
    }
}

/// left % right, where right is no tuple.
fn remainder(left: Value, right: Value) -> Result<Value, Error> {
    if let Some(format) = left.as_str() {
        return printf(format, Values::One(&right)).map(Value::from);
    }
    match (Number::of(&left)?, Number::of(&right)?) {
        (Number::Int(_), Number::Int(0)) => Err(wrong("integer modulo by zero")),
        (Number::Int(a), Number::Int(b)) => {
            let rest = a.checked_rem(b).unwrap_or(0);
            Ok(Value::from(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
        }
        (a, b) => {
            let (a, b) = (a.float(), b.float());
            if b == 0.0 {
                return Err(wrong("float modulo"));
            }
            let rest = a % b;
            Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
                rest + b
            } else {
                rest.abs().copysign(if rest == 0.0 { b } else { rest })
            }))
        }
    }
}

/// left % (values), which only a text has.
fn format(left: Value, right: Value) -> Result<Value, Error> {
    let format = left.as_str().ok_or_else(|| wrong("unsupported operand of %: tuple"))?;
    let values: Vec<Value> = right.try_iter()?.collect();
    printf(format, Values::Tuple(&values)).map(Value::from)
}

/// The filter: text % values, or text % names.
fn format_filter(text: String, values: Rest<Value>, names: Kwargs) -> Result<String, Error> {
    let mut named = names.args().peekable();
    if named.peek().is_none() {
        return printf(&text, Values::Tuple(&values));
    }
    if !values.is_empty() {
        return Err(wrong("can't handle positional and keyword arguments at the same time"));
    }
    let pairs: Result<std::collections::BTreeMap<String, Value>, Error> =
        named.map(|name| Ok((name.to_string(), names.get(name)?))).collect();
    printf(&text, Values::One(&Value::from(pairs?)))
}

fn power(left: Value, right: Value) -> Result<Value, Error> {
    match (Number::of(&left)?, Number::of(&right)?) {
        (Number::Int(base), Number::Int(exponent)) if exponent >= 0 => u32::try_from(exponent)
            .ok()
            .and_then(|e| base.checked_pow(e))
            .map(Value::from)
            .ok_or_else(|| wrong("a power is too large")),
        (a, b) => {
            let (a, b) = (a.float(), b.float());
            if a == 0.0 && b < 0.0 {
                return Err(wrong("0 cannot be raised to a negative power"));
            }
            let result = a.powf(b);
            if result.is_nan() && !a.is_nan() && !b.is_nan() {
                return Err(wrong("the power of a negative number is no real number"));
            }
            Ok(Value::from(result))
        }
    }
}

pub fn add_to(environment: &mut Environment) {
    environment.add_function(REMAINDER, remainder);
    environment.add_function(FORMAT, format);
    environment.add_function(POWER, power);
    environment.add_filter("format", format_filter);
}

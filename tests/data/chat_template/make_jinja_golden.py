"""Writes jinja_golden.jsonl: small templates, each with what Jinja2 makes of it.

    python make_jinja_golden.py        # needs jinja2 3.1

The environment has transformers' settings. A line is {"source", "text"}, or {"source"} for an error.
"""

import json
import pathlib

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEXTS = ["''", "'a'", "'a-b-c'", "'  a  b '", "'Ünï çödé x'", "'ABC'", "'abc def'", "'12'", "'-7'", "' '",
         "'a\\tb'", "'l1\\nl2\\r\\nl3\\n'", "'Title Case'", "'客单价'"]
METHODS = [
    "rsplit()", "rsplit('-')", "rsplit('-', 1)", "rsplit(None, 1)", "rsplit(maxsplit=1)", "rsplit('')",
    "split()", "split('-')", "split('-', 1)", "splitlines()", "splitlines(true)", "partition('-')|list",
    "rpartition('-')|list", "partition('')", "removeprefix('a')", "removesuffix('c')", "index('b')",
    "rindex('b')", "find('b')", "rfind('b')", "find('b', 2)", "count('a')", "count('b', 1, 4)", "zfill(6)",
    "ljust(6)", "rjust(6, '*')", "center(7)", "center(8, '*')", "ljust(6, 'ab')", "expandtabs()",
    "expandtabs(4)", "swapcase()", "casefold()", "capitalize()", "title()", "upper()", "lower()", "islower()",
    "isupper()", "istitle()", "isspace()", "isalnum()", "isalpha()", "isdigit()", "isdecimal()", "isnumeric()",
    "isidentifier()", "isascii()", "strip()", "lstrip()", "rstrip()", "strip('a')", "startswith('a')",
    "endswith(('c', 'f'))", "replace('a', 'x')", "replace('a', 'x', 1)", "join(['1', '2'])", "nothing()"]
FILTERED = [
    "'x'|int", "'12'|int", "' 12 '|int", "'1_000'|int", "'3.7'|int", "'-3.7'|int", "'ff'|int(base=16)",
    "'0xff'|int(base=16)", "'0b11'|int(base=2)", "'zz'|int(7)", "'zz'|int(default=-1)", "none|int", "true|int",
    "3.9|int", "'1e3'|int", "'inf'|int(5)", "'x'|float", "'2.5'|float", "'1e3'|float", "3|float",
    "none|float(1.5)", "2.5|round", "3.5|round", "2.675|round(2)", "-2.5|round", "2.1|round(method='ceil')",
    "2.9|round(method='floor')", "2.123456|round(3)", "7|round", "2.15|round(1, 'ceil')", "2.5|round(0, 'x')",
    "'hello wide world'|truncate(9)", "'hello wide world'|truncate(9, true)",
    "'hello wide world'|truncate(11, false, '…')", "'hello wide world'|truncate(9, leeway=0)",
    "'hello'|truncate(2)", "'hello wide world'|truncate(length=12, end='')", "'a b, c-d_e'|wordcount",
    "''|wordcount", "'é è'|wordcount", "'ab'|center(7)", "'ab'|center", "'a b/c?é&'|urlencode",
    "{'a': 'b c', 'd/': 1}|urlencode", "[['a', 1], ['b', '&']]|urlencode", "5|urlencode", "1|filesizeformat",
    "999|filesizeformat", "1000|filesizeformat", "123456789|filesizeformat", "1024|filesizeformat(true)",
    "1048576|filesizeformat(binary=true)", "'<a href=\"x\">&\\''|forceescape", "'ab' is lower", "'aB' is lower",
    "'' is lower", "'AB' is upper", "'12' is upper", "range is callable", "'x' is callable", "5 is callable",
    "[1] is callable", "documents is defined", "[1, 2, 3].index(2)", "[1, 2].index(5)", "[1, 2].copy()",
    "{'a': 1}.copy()", "{'a': 1}.get('b', 2)", "[1, 2, 1].count(1)", "'abc'[::-1]", "[1, 2, 3][::-1]",
    "[3, 1, 2]|sort|join(',')", "['b', 'A', 'c']|sort|join", "[1, 2, 3]|sum", "[{'a': 1}, {'a': 2}]|sum('a')",
    "[{'a': 1}, {'a': 2}]|sum(attribute='a', start=10)", "['a', 'B', 'a']|unique|join", "[1, 5, 3]|max",
    "[]|max", "[1, 5, 3]|min", "'a,b'|replace(',', ';')", "{'b': 1, 'a': 2}|dictsort|map('join')|join",
    "{'b': 1, 'a': 2}|dictsort(by='value', reverse=true)|map('join')|join", "[{'a': 1}, {'b': 2}]|map(attribute='a', default=0)|list",
    "[1, 2, 3, 4]|select('odd')|list", "[1, 2, 3, 4]|reject('even')|list", "[1, none]|select|list",
    "['a', 'b']|map('upper')|join", "'hello world'|title", "'hello'|capitalize", "'abc'|first", "'abc'|last",
    "[1, 2, 3]|batch(2)|list", "[1, 2, 3]|length", "'%s-%d'|format('a', 5)", "'%5.2f|%s'|format(2.5, 'q')",
    "'{} {x}'.format(1, x=2)", "7 // 2", "-7 // 2", "-7 % 3", "2 ** 10", "1 / 4", "'a' ~ 1 ~ none",
    "'ab' * 2", "[1] + [2]", "1 if false", "none|default('d')", "x|default('d')", "''|default('d', true)",
    "'a' in 'abc'", "1 in [1]", "'k' in {'k': 1}", "not true", "1 < 2 < 3", "5 is divisibleby 5", "x is undefined",
    "[1, 2]|reverse|list", "'abc'|reverse", "dict(a=1).a", "namespace(a=1).a", "cycler('a', 'b').next()",
    "joiner('|')()", "[1]|tojson", "{'é': \"'\"}|tojson", "1.0|string", "1e22|string", "true|string",
    "[1, 'a', none]|string", "'a'|list", "(1, 2)|list", "3|abs", "-3|abs"]
PRINTF = ["%d", "%5d|", "%-5d|", "%05d", "%+d", "% d", "%.3d", "%x", "%#x", "%X", "%o", "%#o", "%e", "%E", "%.2e", "%f", "%.0f", "%8.3f|", "%-9.2f|", "%+.1f",
          "%09.2f", "%g", "%.3g", "%#g", "%G", "%c", "%s", "%8s|", "%-8s|", "%.2s", "%r", "%5.1s|", "%i", "%u", "%ld"]
PRINTED = ["0", "7", "-42", "255", "3.7", "-0.5", "1234567.0", "0.00001", "1e20", "true", "'é'", "'abc'", "none", "[1, 'a']"]
OPERATORS = [
    "'%*d|' % (5, 3)", "'%-*d|' % (5, 3)", "'%.*f' % (1, 2.25)", "'%(a)5s|%(a)r' % {'a': 'x'}", "'%(b)s' % {'a': 1}", "'%(a)s' % 5", "'%(a' % {'a': 1}",
    "'%s-%s'|format(1, 'b')", "'%(a)s'|format(a=2)", "'%s'|format(1, 2)", "'%s %s'|format(1)", "'%(a)s'|format(1, a=2)", "'a' % [1]", "'%s' % '' % 'b'",
    "'%s' % 'x'", "'%s' % x", "'%s' % 5", "'%d' % 3.7", "'%s-%s' % (1, 'b')", "'%s' % [1, 2]", "'%s' % (1,)", "'%s %s' % [1, 2]",
    "'%s' % ([1, 2], )", "'%s%%' % 50", "'%05.1f' % 2.25", "'%x' % 255", "'%r' % 'a'", "'%(a)s-%(b)d' % {'a': 'x', 'b': 2}",
    "'%s' % {'a': 1}", "'%s' % none", "'%s' % true", "'%s %s' % ('a')", "'%s' % ('a', 'b')", "'a' % 'b'", "'%' % 1", "'%q' % 1",
    "('%s' ~ '!') % 'a'", "'%s' % ('a' ~ 'b')", "'%s' % 'a' ~ 'b'", "'%s' % 'a'|upper", "('%s' % 'a')|upper", "'[%s]' % '%'",
    "'%s' % '%s' % 'z'", "'%s' % (7 % 4)", "['%d' % 1, '%d' % 2]", "{'a': '%d' % 3}", "'%s' % [3, 1]|first", "'%-4s|' % 'é'",
    "7 % 3", "-7 % 3", "7 % -3", "-7 % -3", "-7.5 % 2", "7.5 % -2", "6 % 3", "-6 % 3", "0 % -3", "6.0 % -3", "-6.0 % 3", "7 % 0",
    "7.0 % 0", "true % 2", "7 % true", "none % 2", "'a' % 2 == 'a'", "10 % 4 * 3", "3 * 10 % 4", "10 - 7 % 3", "17 % 10 % 4", "2 * (17 % 10) % 4",
    "(1 + 2) % (1 + 1)", "7 % 4 == 3", "7 % 4 is odd", "[1, 2, 3][7 % 3]", "range(10)[7 % 4:9 % 5]|list", "'y' if 4 % 2 == 0 else 'n'",
    "2 ** -1", "2 ** 3", "2 ** 0.5", "-2 ** 2", "(-2) ** 3", "0 ** -1", "0.0 ** -1", "2 ** 3 ** 2", "2 ** 3 % 5", "2 * 3 ** 2",
    "10 ** 20", "2 ** -1|abs", "10 ** -3", "1.5 ** 2", "true ** 2", "'a' ** 2", "[1, 2]|map('string')|join(2 ** 1 ~ '')", "dict(a=5 % 3).a",
    "namespace(a=2 ** 3).a", "'%s' % loop", "range(7 % 4)|list", "'a%b' ~ 5 % 3", "'**' ~ 2 ** 2", "7 %3", "7% 3", "7%3", "2**3"]
# What a value is, and what is taken of one that is not there.
KINDS = [f"{value} is {test}" for value in ("none", "true", "1", "1.5", "'abc'", "''", "[1]", "[]", "{'a': 1}", "range(3)", "x", "x.y|default(1)")
         for test in ("iterable", "sequence", "mapping", "number", "integer", "float", "string", "boolean", "none", "defined", "undefined")]
KINDS += ["x|length", "x|count", "[1, 2]|length", "'äb'|length", "{'a': 1}|count", "5|length", "none|length", "x|first", "x|last", "[]|first",
          "[3, 4]|last", "'ab'|first", "'ab'|last", "x|default('q')", "''|default('q')", "''|default('q', true)", "none|default('q')",
          "none|default('q', boolean=true)", "x|default(default_value='q')", "''|default(default_value='q', boolean=True)", "x|d", "0|d(5, true)",
          "'foo_bar'|title", "\"it's\"|title", "'a-b (c) [d] {e} <f>'|title", "'éa ÉA'|title", "'12ab a1b'|title", "'<a b=\"c\" d=\\'e\\'>/&'|e",
          "'<&>'|escape", "5|e", "['\xa0', '\xad', '\u200b', '\u2028', '\u3000', '\ufeff', '\ue000', '\x85', '\U000e0020', 'é', '中', '\x7f']",
          "'a' if tools is iterable and tools|length > 0 else 'b'"]
BLOCKS = [
    "{% for i in range(4) %}{% if i % 2 == 0 %}e{{ i }}{% else %}o{{ i ** 2 }}{% endif %}{% endfor %}",
    "{% set x = 7 % 4 %}{{ x }}{% set ns = namespace(a=0) %}{% set ns.a = 9 % 5 %}{{ ns.a }}", "{%- if 5 % 2 -%} y {%- endif -%}",
    "{% macro m(a=7 % 4) %}{{ a % 2 }}{% endmacro %}{{ m() }}{{ m(4 % 3) }}", "{% raw %}{{ 7 % 4 }}{% endraw %}{{ 7 % 4 }}",
    "{# 7 % 4 #}{{ '%s' % '{{ 1 % 2 }}' }}", "{% for i in range(9) if i % 4 == 1 %}{{ i }}{% endfor %}", "{% with a = 7 % 4 %}{{ a ** a }}{% endwith %}",
    "{% set x %}{{ 7 % 4 }}{% endset %}{{ x }}", "{% filter upper %}a{{ '%s' % 'b' }}{% endfilter %}", "{{ 7\n%\n4 }}\n{{ 2\n**\n3 }}",
    "{% macro w() %}[{{ caller(7 % 4) }}]{% endmacro %}{% call(x) w() %}{{ x % 2 }}{% endcall %}", "100 % sure {{ 5 % 3 }} 50 % {{ '%d%%' % 7 }}",
    "{% if 1 %}{{ 5 % 3 }}{% elif 7 % 2 %}x{% endif %}{{ ('é%s' % 'ü') ~ 7 % 4 }}",
    "a\r\nb\rc\r\n", "{% if true %}\r\nx{% endif %}\r\n\r\n", "x\n", "x\n\n",
    "{% for i in [1, 2, 3] %}{{ loop.index }}{{ loop.last }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}",
    "{% for i in [1, 2] %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.revindex0 }}{% endfor %}",
    "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "{% for i in [] %}x{% else %}y{% endfor %}",
    "{% set ns = namespace(x=0) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% macro m(a, b='c') %}{{ a }}{{ b }}{% endmacro %}{{ m('x') }}{{ m('x', b='y') }}{{ m is callable }}",
    "{% set x %}abc{% endset %}{{ x|upper }}", "{% filter upper %}abc{% endfilter %}",
    "{% for i in range(5) if i is odd %}{{ i }}{% endfor %}", "{# c #}x", "{%- if true -%} x {%- endif -%}",
    "  {% if true %}\n  x\n  {% endif %}\n", "{% raw %}{{ x }}{% endraw %}",
    "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% with a = 1 %}{{ a }}{% endwith %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set j = joiner('|') %}{% for i in [1, 2, 3] %}{{ j() }}{{ i }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}"]


def main():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    sources = [f"{{{{ {text}.{method} }}}}" for text in TEXTS for method in METHODS]
    sources += [f"{{{{ '{form}' % {value} }}}}" for form in PRINTF for value in PRINTED]
    sources += [f"{{{{ {expression} }}}}" for expression in FILTERED + OPERATORS + KINDS] + BLOCKS
    with open(pathlib.Path(__file__).parent / "jinja_golden.jsonl", "w", encoding="utf-8") as file:
        for source in sources:
            line = {"source": source}
            try:
                line["text"] = environment.from_string(source).render()
            except Exception:  # noqa: BLE001: an error is the answer
                pass
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

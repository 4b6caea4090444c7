#!/usr/bin/env python3
"""Every row of docs/known_failures.md names a test, and every test that it names is there."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "known_failures.md"
NAMED = re.compile(r"`([\w./-]+)::(\w+)`")


def defines(text, path, name):
    """Whether the text of the file at `path` has a test of that name, whatever its fixture and parameters."""
    if path.endswith(".py"):
        return re.search(rf"^(async )?def {name}\(", text, re.MULTILINE) is not None
    return re.search(rf"^(TYPED_)?TEST(_F|_P)?\(\w+,\s*{name}\)", text, re.MULTILINE) is not None


def find_faults(page, read):
    """`read` gives a file's text by its path below the root, or None."""
    faults = []
    for number, line in enumerate(page.splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells or cells[-1] in ("tests", "---"):
            continue
        named = NAMED.findall(cells[-1])
        if len(cells) != 3 or not named or NAMED.sub("", cells[-1]).strip(", "):
            faults.append(f"line {number}: expected three cells, in the last one tests as `file::name`, apart by commas")
        for path, name in named:
            text = read(path)
            if text is None:
                faults.append(f"line {number}: there is no file {path}")
            elif not defines(text, path, name):
                faults.append(f"line {number}: {path} has no test {name}")
    return faults


def self_test():
    """The check must see what it is there for."""
    files = {"a/t.py": "def test_a():\n", "s/b_test.cc": "TEST_F(Some, Thing) {\n"}
    row = "| what | right | {} |"
    assert not find_faults(row.format("`a/t.py::test_a`, `s/b_test.cc::Thing`"), files.get)
    for bad in ("`a/t.py::test_`", "`a/t.py::test_b`", "`a/u.py::test_a`", "`s/b_test.cc::Some`", "", "none", "`a/t.py::test_a` and more"):
        assert find_faults(row.format(bad), files.get), bad


def read(path):
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else None


def main():
    self_test()
    page = PAGE.read_text(encoding="utf-8")
    faults = find_faults(page, read)
    rows = page.count("::")
    if rows < 150:
        faults.append(f"found {rows} tests in {PAGE.name}, expected all of its tables")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()

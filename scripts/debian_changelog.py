#!/usr/bin/env python3
"""debian_changelog.py MAINTAINER: CHANGELOG.md in the form of a Debian package's changelog, to the standard output."""
import datetime
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    releases = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    for release in releases:
        heading, text = release.split("\n", 1)
        version, day = re.fullmatch(r"([\d.]+) \((.*)\)", heading).groups()
        when = datetime.datetime.fromisoformat(day).strftime("%a, %d %b %Y 00:00:00 +0000")
        print(f"tiercel ({version}) stable; urgency=medium\n")
        for entry in re.split(r"\n\n|\n(?=- )", text.strip()):
            print(textwrap.fill(" ".join(entry.removeprefix("- ").split()), 78, initial_indent="  * ",
                                subsequent_indent="    ", break_long_words=False))
        print(f"\n -- {sys.argv[1]}  {when}\n")


if __name__ == "__main__":
    main()

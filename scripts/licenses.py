#!/usr/bin/env python3
"""licenses.py --notice|--texts: the licenses of all that is in the program.

--notice  NOTICE, which is kept in the repository: components and their licenses
--texts   the licenses' texts, of the crates' sources and the headers' packages
"""
import pathlib
import re
import sys
import textwrap

import components

HEAD = """Tiercel
Copyright 2026 The Tiercel authors

Licensed under the Apache License, Version 2.0; see LICENSE.

The program holds the following. Of "A OR B" the first that is Apache-2.0 or MIT is used.
Written by `scripts/licenses.py --notice`.
"""
LICENSE_FILE = re.compile(r"(licen[sc]e|copying|unlicense|notice|copyright)", re.IGNORECASE)


def rows():
    """(name, license): without versions of headers, which are the building machine's."""
    yield from ((header[0], header[2]) for header in components.HEADERS)
    yield "Rust's standard library", components.RUST_LICENSE
    yield from ((f"{crate['name']} {crate['version']}", crate["license"]) for crate in components.crates())


def notice():
    lines = [f"{name:<44}{license}" for name, license in rows()]
    libraries = sorted(set(components.LIBRARIES.values()))
    lines += ["", "It needs these libraries, which are not part of it (openmpi only if it was built with MPI). A wheel for older",
              "systems (GLIBC=… make wheel) has all of them in it but glibc, libgcc and openmpi:", ""]
    return HEAD + "\n" + "\n".join(lines + [f"{name:<44}{license}" for name, license in libraries]) + "\n"


def license_files(folder):
    return sorted(path for path in folder.iterdir() if path.is_file() and LICENSE_FILE.match(path.name))


def texts():
    """{text: [names]}: many crates have the same."""
    result = {}
    for crate in components.crates():
        files = license_files(crate["folder"])
        # Some have none in their package: their license's common text stands for them.
        found = [path.read_text(errors="replace") for path in files] or [f"License: {crate['license']} (its package has no text)\n"]
        for text in found:
            result.setdefault(text.strip() + "\n", []).append(f"{crate['name']} {crate['version']}")
    # The headers'. Of Boost, whose package tells of all its hundred libraries, a crate has the text.
    documents = pathlib.Path("/usr/share/doc")
    boost = next(path for crate in components.crates() for path in license_files(crate["folder"]) if "BOOST" in path.name)
    result[boost.read_text().strip() + "\n"].append("Boost.Asio (Christopher M. Kohlhoff), Boost.Beast (Vinnie Falco), Boost")
    for name, package in (("nlohmann-json", "nlohmann-json3-dev"), ("tl-expected", "libexpected-dev")):
        if (documents / package / "copyright").exists():
            result.setdefault((documents / package / "copyright").read_text().strip() + "\n", []).append(name)
    return result


def all_texts():
    parts = []
    for text, names in texts().items():
        parts.append("\n".join(textwrap.wrap(", ".join(names), 100)) + "\n\n" + textwrap.indent(text, "    "))
    return ("\n" + "-" * 100 + "\n\n").join(parts)


def main():
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "--notice":
        sys.stdout.write(notice())
    elif what == "--texts":
        sys.stdout.write(all_texts())
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

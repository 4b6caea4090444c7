#!/usr/bin/env python3
"""Scans the includes under src/ and fails on an edge that docs/design.md, section 2, does not allow.

Rules: a folder includes only itself and what stands to its left; no loop between files; some
headers of others may be included only by the files that own that concern.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

CHAINS = [
    ["base", "platform", "tensor", "kernels", "comm", "model", "engine", "api", "server", "serving",
     "tools"],
    ["base", "platform", "tensor", "checkpoint", "model", "quantize", "tools"],
    ["base", "options", "quantize"],
    ["base", "text", "sampling", "engine"],
    ["base", "net", "hub", "serving"],
    ["base", "options", "serving"],
    ["base", "net", "bench", "tools"],
    ["text", "api", "bench", "tools"],
    ["serving", "capi"],
]

# (what, pattern of the included header, patterns of the files that may)
OWNED = [
    ("intrinsics", r"(immintrin|x86intrin|[a-z]+mmintrin|arm_neon|arm_sve)\.h$",
     [r"kernels/(x86|arm)/"]),
    ("the HTTP library", r"boost/(beast|asio)", [r"server/http"]),
    ("the client library", r"curl/", [r"net/.*\.cc$", r"net/transfer\.h$"]),
    ("the Rust header", r"(text_ffi|text/ffi)\.h$", [r"text/"]),
    ("the JSON library", r"nlohmann/",
     [r"api/json", r"(checkpoint|text)/.*(config|json|safetensors|chat_template)",
      r"options/json", r"hub/listing", r".*_test\.cc$"]),
    ("the YAML library", r"yaml-cpp/", [r"options/yaml"]),
]
# What the unit tests of a folder may include beside what the folder may.
FOR_TESTS = {"server": {"net"}}  # the client that the server is tried with
# The server, the benchmark, what serves, the C library and the tools see the engine through these alone.
ENGINE_DOORS = {"engine/engine.h", "engine/stats.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def allowed_folders():
    left = {}
    for chain in CHAINS:
        for i, folder in enumerate(chain):
            left.setdefault(folder, {folder}).update(chain[:i])
    changed = True
    while changed:
        changed = False
        for folder, seen in left.items():
            wider = set().union(*(left[f] for f in seen))
            if wider != seen:
                left[folder], changed = wider, True
    return left


def scan(src):
    """{file: [(included, quoted)]} with paths relative to src."""
    graph = {}
    for path in sorted(src.rglob("*")):
        if path.suffix in (".h", ".cc", ".inc") or path.name.endswith(".h.in"):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(src).as_posix().removesuffix(".in")  # x.h.in: made by CMake
            graph[name] = [
                (name, quote == '"') for quote, name in INCLUDE.findall(text)]
    return graph


def find_faults(graph):
    faults = []
    left = allowed_folders()
    for file, includes in graph.items():
        folder = file.split("/")[0]
        if folder not in left:
            faults.append(f"{file}: folder {folder}/ is not a layer")
            continue
        beside = FOR_TESTS.get(folder, set()) if file.endswith("_test.cc") else set()
        for name, quoted in includes:
            target = name.split("/")[0]
            if quoted and name not in graph:
                faults.append(f"{file}: \"{name}\" is not under src/ (includes start at src/)")
            elif quoted and target not in left[folder] | beside:
                faults.append(f"{file}: includes {name}, but {target}/ stands to the right of {folder}/")
            elif quoted and target == "engine" and folder in ("server", "bench", "serving", "capi", "tools") \
                    and name not in ENGINE_DOORS:
                faults.append(f"{file}: includes {name}; {folder}/ sees the engine through "
                              f"{sorted(ENGINE_DOORS)} alone")
            for what, header, owners in OWNED:
                if re.search(header, name) and not any(re.match(o, file) for o in owners):
                    faults.append(f"{file}: includes {name}; {what} belongs to {owners}")
    faults += find_loops(graph)
    return faults


def find_loops(graph):
    done, faults = set(), []

    def visit(file, path):
        if file in path:
            faults.append("include loop: " + " → ".join(path[path.index(file):] + [file]))
            return
        if file in done or file not in graph:
            return
        for name, quoted in graph[file]:
            if quoted:
                visit(name, path + [file])
        done.add(file)

    for file in graph:
        visit(file, [])
    return faults


def self_test():
    """The scan must see what it is there for."""
    clean = {"base/a.h": [], "model/b.h": [("base/a.h", True)]}
    assert not find_faults(clean)
    for bad in (
            {"base/a.h": [("model/b.h", True)], "model/b.h": []},
            {"text/a.h": [("tensor/b.h", True)], "tensor/b.h": []},
            {"model/a.h": [("model/b.h", True)], "model/b.h": [("model/a.h", True)]},
            {"model/a.cc": [("immintrin.h", False)]},
            {"engine/a.cc": [("nlohmann/json.hpp", False)]},
            {"net/a.h": [("curl/curl.h", False)]},
            {"server/a.cc": [("net/b.h", True)], "net/b.h": []},
            {"hub/a.cc": [("api/b.h", True)], "api/b.h": []},
            {"options/a.cc": [("api/b.h", True)], "api/b.h": []},
            {"serving/a.cc": [("tools/b.h", True)], "tools/b.h": []},
            {"bench/a.cc": [("server/b.h", True)], "server/b.h": []},
            {"tools/a.cc": [("capi/b.h", True)], "capi/b.h": []},
            {"server/a.cc": [("engine/scheduler.h", True)], "engine/scheduler.h": []},
            {"base/a.h": [("a2.h", True)]}):
        assert find_faults(bad), bad


def main():
    self_test()
    graph = scan(SRC)
    assert len(graph) > 20, "the scan found hardly any file: is src/ there?"
    faults = find_faults(graph)
    for fault in faults:
        print(fault)
    print(f"{len(graph)} files scanned, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

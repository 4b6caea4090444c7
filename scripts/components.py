"""What the program is made of: the crates of rust/text_ffi that are linked, the libraries that it needs, and those whose
headers it was compiled with. Versions are those of this machine."""
import json
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
CRATE_FOLDER = ROOT / "rust" / "text_ffi"
TARGET = "x86_64-unknown-linux-gnu"

# Compiled in from headers: the name, the headers of which one tells the version, the license.
HEADERS = [("Boost", "boost/version.hpp", "BSL-1.0", r'#define BOOST_LIB_VERSION "([\d_]+)"'),
           ("nlohmann-json", "nlohmann/detail/abi_macros.hpp nlohmann/json.hpp", "MIT",
            r"NLOHMANN_JSON_VERSION_MAJOR (\d+)[\s\S]*?VERSION_MINOR (\d+)[\s\S]*?VERSION_PATCH (\d+)"),
           ("tl-expected", "tl/expected.hpp", "CC0-1.0",
            r"TL_EXPECTED_VERSION_MAJOR (\d+)[\s\S]*?VERSION_MINOR (\d+)[\s\S]*?VERSION_PATCH (\d+)")]
RUST_LICENSE = "MIT OR Apache-2.0"
# Those that are needed at run time, by their file's name.
LIBRARIES = {"libyaml-cpp": ("yaml-cpp", "MIT"), "libcurl": ("curl", "curl"), "libssl": ("openssl", "Apache-2.0"),
             "libmpi": ("openmpi", "BSD-3-Clause"),  # of builds with TIERCEL_MPI alone
             "libcrypto": ("openssl", "Apache-2.0"), "libspdlog": ("spdlog", "MIT"), "libfmt": ("fmt", "MIT"),
             "libstdc++": ("libstdc++", "GPL-3.0-or-later WITH GCC-exception-3.1"),
             "libgcc_s": ("libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1"),
             "libc": ("glibc", "LGPL-2.1-or-later"), "libm": ("glibc", "LGPL-2.1-or-later"),
             "ld-linux-x86-64": ("glibc", "LGPL-2.1-or-later")}


def output(*words, **kwargs):
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True, **kwargs).stdout


def version():
    return re.search(r"^project\(tiercel VERSION ([\d.]+) ", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE).group(1)


def release_date():
    return re.search(r"^## [\d.]+ \((.*)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)


def spdx(license):
    """An SPDX expression: crates of old have "MIT/Apache-2.0"."""
    return re.sub(r" ?/ ?", " OR ", license)


def crates():
    """[{name, version, license, folder, checksum}] of what is linked: no macros, no build scripts' own crates."""
    metadata = json.loads(output("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET,
                                 cwd=CRATE_FOLDER))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    is_macro = {key for key, package in packages.items()
                if any("proc-macro" in target["kind"] for target in package["targets"])}
    root = metadata["resolve"]["root"]
    seen, todo = {root}, [root]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if linked and dependency["pkg"] not in seen | is_macro:
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    lock = (CRATE_FOLDER / "Cargo.lock").read_text()
    checksums = dict(((name, number), checksum) for name, number, checksum in re.findall(
        r'name = "(.*)"\nversion = "(.*)"\nsource = .*\nchecksum = "(.*)"', lock))
    result = [{"name": packages[key]["name"], "version": packages[key]["version"],
               "license": spdx(packages[key]["license"]), "folder": pathlib.Path(packages[key]["manifest_path"]).parent,
               "checksum": checksums[packages[key]["name"], packages[key]["version"]]} for key in seen - {root}]
    return sorted(result, key=lambda crate: (crate["name"], crate["version"]))


def headers():
    """[{name, version, license, file}]"""
    result = []
    for name, files, license, pattern in HEADERS:
        paths = [path for file in files.split() if (path := include_path(file))]
        match = next(filter(None, (re.search(pattern, pathlib.Path(path).read_text()) for path in paths)))
        result.append({"name": name, "version": ".".join(match.groups()).replace("_", "."), "license": license,
                       "file": paths[0]})
    return result


def rust_version():
    return output("rustc", "--version", cwd=CRATE_FOLDER).split()[1]


def include_path(file):
    """The header's path, as the compiler finds it; "" if there is none."""
    result = subprocess.run(["g++", "-M", "-x", "c++", "-std=c++20", "-"], input=f"#include <{file}>\n",
                            capture_output=True, text=True)
    return next((word for word in result.stdout.split() if word.endswith(file)), "")


def libraries(program):
    """[{name, version, license, files}] that the program says it needs; the version is the Debian package's, where there is one."""
    needed = re.findall(r"NEEDED\s+(\S+)", output("objdump", "-p", program))
    places = dict(re.findall(r"(\S+) => (\S+)", output("ldd", program)))
    versions = package_versions({file: places.get(file, f"/lib64/{file}") for file in needed})
    result = {}
    for file in needed:
        name, license = LIBRARIES[re.split(r"\.so|-\d", file)[0] if not file.startswith("ld-") else "ld-linux-x86-64"]
        entry = result.setdefault(name, {"name": name, "version": "", "license": license, "files": []})
        entry["files"].append(file)
        entry["version"] = entry["version"] or versions.get(file, "")
    return sorted(result.values(), key=lambda library: library["name"])


def package_versions(places):
    """{file: version of the package that has it}, of {file: path}. dpkg reads all its lists for every call: two do."""
    candidates = {}  # a package's list may have the path before /lib became a link to /usr/lib, or behind links
    for file, path in places.items():
        for candidate in (path, os.path.realpath(path), path.removeprefix("/usr"), "/usr" + path):
            candidates.setdefault(candidate, file)
    found = subprocess.run(["dpkg", "-S", *candidates], capture_output=True, text=True).stdout
    packages = {candidates[path]: names.split(",")[0] for names, path in re.findall(r"^(.*): (.*)$", found, re.MULTILINE)
                if path in candidates}
    if not packages:
        return {}
    rows = output("dpkg-query", "-W", "-f", "${binary:Package} ${Package} ${Version}\\n", *sorted(set(packages.values())))
    versions = {name: row.split()[2] for row in rows.splitlines() for name in row.split()[:2]}
    return {file: versions[package] for file, package in packages.items()}

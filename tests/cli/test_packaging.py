"""What packages say of the program: licenses, the bill of materials, the version."""
import json
import re
import shutil
import subprocess
import sys

import pytest

from cli_support import BINARY, ROOT, run

sys.path.insert(0, str(ROOT / "scripts"))
import components  # noqa: E402  (of scripts/)

needs_cargo = pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
needs_objdump = pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")


def script(name, *words):
    return subprocess.run([sys.executable, ROOT / "scripts" / name, *map(str, words)], check=True, capture_output=True,
                          text=True, timeout=600).stdout


def test_one_version():
    version = run("--version").stdout.strip()
    assert version == components.version()
    assert re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    compat = (ROOT / "python" / "vllm_compat" / "pyproject.toml").read_text()
    assert f'\nversion = "{version}"\n' in compat and f'"tiercel=={version}"' in compat


@needs_cargo
def test_the_notice_names_what_is_linked():
    assert (ROOT / "NOTICE").read_text() == script("licenses.py", "--notice"), \
        "run scripts/licenses.py --notice >NOTICE"


@needs_cargo
def test_every_crate_has_the_text_of_its_license():
    texts = script("licenses.py", "--texts")
    for crate in components.crates():
        assert f"{crate['name']} {crate['version']}" in texts
    assert "Permission is hereby granted" in texts and "Apache License" in texts and "Boost Software License" in texts


@needs_cargo
@needs_objdump
def test_the_bill_of_materials_names_what_the_program_needs():
    text = script("sbom.py", BINARY)
    assert text == script("sbom.py", BINARY)
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5")
    assert bom["metadata"]["component"]["version"] == components.version()
    refs = [part["bom-ref"] for part in bom["components"]]
    assert len(set(refs)) == len(refs) and sorted(bom["dependencies"][0]["dependsOn"]) == sorted(refs)
    for part in bom["components"]:
        assert part["version"] and part["licenses"][0]["expression"]
    files = {file for part in bom["components"] for entry in part.get("properties", [])
             if entry["name"] == "tiercel:files" for file in entry["value"].split()}
    dynamic = subprocess.run(["objdump", "-p", BINARY], check=True, capture_output=True, text=True).stdout
    assert files == set(re.findall(r"NEEDED\s+(\S+)", dynamic))
    lock = (ROOT / "rust" / "text_ffi" / "Cargo.lock").read_text()
    crates = [part for part in bom["components"] if part.get("purl", "").startswith("pkg:cargo/")]
    assert {"tokenizers", "minijinja", "llguidance"} <= {crate["name"] for crate in crates}
    for crate in crates:
        entry = re.search(rf'name = "{crate["name"]}"\nversion = "{re.escape(crate["version"])}"\n.*\n.*"(\w+)"', lock)
        assert entry.group(1) == crate["hashes"][0]["content"]

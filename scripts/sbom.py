#!/usr/bin/env python3
"""sbom.py PROGRAM: what the program is made of, as CycloneDX 1.5 in JSON, to the standard output.

Crates are those of Cargo.lock that are linked; libraries those that the program says it needs, with this machine's versions;
headers those it was compiled with here. The same inputs give the same bytes: its time is the release's, its serial number
is of its content."""
import hashlib
import json
import sys
import uuid

import components


def component(kind, name, version, license, **more):
    entry = {"type": kind, "bom-ref": f"{name}@{version}", "name": name, "version": version,
             "licenses": [{"expression": license}]}
    return entry | {key.replace("_", "-"): value for key, value in more.items()}


def parts(program):
    for crate in components.crates():
        yield component("library", crate["name"], crate["version"], crate["license"],
                        purl=f"pkg:cargo/{crate['name']}@{crate['version']}",
                        hashes=[{"alg": "SHA-256", "content": crate["checksum"]}],
                        properties=[{"name": "tiercel:linked", "value": "static"}])
    yield component("library", "rust-std", components.rust_version(), components.RUST_LICENSE,
                    properties=[{"name": "tiercel:linked", "value": "static"}])
    for header in components.headers():
        yield component("library", header["name"], header["version"], header["license"],
                        properties=[{"name": "tiercel:linked", "value": "headers"}])
    for library in components.libraries(program):
        yield component("library", library["name"], library["version"], library["license"],
                        properties=[{"name": "tiercel:linked", "value": "shared"},
                                    {"name": "tiercel:files", "value": " ".join(library["files"])}])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(file.read()).hexdigest()
    program = component("application", "tiercel", components.version(), "Apache-2.0",
                        hashes=[{"alg": "SHA-256", "content": digest}])
    entries = list(parts(sys.argv[1]))
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
           "metadata": {"timestamp": components.release_date() + "T00:00:00Z", "component": program},
           "components": entries,
           "dependencies": [{"ref": program["bom-ref"], "dependsOn": [entry["bom-ref"] for entry in entries]}]}
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(bom, sort_keys=True))}"
    print(json.dumps(bom, indent=1))


if __name__ == "__main__":
    main()

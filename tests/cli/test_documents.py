"""The documentation does what it says: every command of the README and of the quick start, and every link."""
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from cli_support import BINARY, ROOT, clean_env, free_port, write_tiny_model
from standin_hub import StandInHub

DOCUMENTS = ["README.md", "docs/quickstart.md"]
# What builds or tests everything: that there is such a target is all that is asked.
WHOLE_BUILDS = {"build", "test", "check", "clients", "docs", "python"}
HUB_MODEL = "Qwen/Qwen3-0.6B"


def blocks(text):
    """(language, text) of each block of code; that of an indented one is ""."""
    for match in re.finditer(r"^```(\w+)\n([\s\S]*?)^```$|(?:^    .*\n(?:\n(?=    ))?)+", text, re.MULTILINE):
        yield (match[1] or "", match[2] or re.sub("^    ", "", match[0], flags=re.MULTILINE))


def commands(document):
    """[(kind, text)] in order: the lines of indented blocks, and whole programs in Python."""
    found = []
    for language, text in blocks((ROOT / document).read_text()):
        if language == "python":
            found.append(("python", text))
        else:
            lines = re.sub(r"\\\n\s*", "", text).splitlines()
            found += [("shell", line) for line in lines if shlex.split(line, comments=True)]
    return found


def test_commands_are_found():
    found = [text for document in DOCUMENTS for _, text in commands(document)]
    assert len(found) > 25
    assert any(text.startswith("curl ") and "capital of France" in text for text in found)
    assert any(text.startswith("from openai") for text in found)


class Reader:
    """Someone who types a document's commands one after the other; what serves goes on until the next that does."""

    def __init__(self, folder, hub_url):
        self.folder, self.port, self.server = folder, str(free_port()), None
        model = write_tiny_model(folder / "MODEL")
        (folder / "FILE").write_text((ROOT / "README.md").read_text())
        for name, target in (("build/release/tiercel", BINARY), ("build/venv/bin/python", sys.executable)):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).symlink_to(target)
        (folder / "QUANTIZED").symlink_to(model)
        # What `make serve` would fetch the first time.
        (folder / "cache/tiercel").mkdir(parents=True)
        (folder / "cache/tiercel/SmolLM2-135M-Instruct.Q4_1.gguf").symlink_to(model)
        self.environ = clean_env({"HF_ENDPOINT": hub_url, "HF_HOME": str(folder / "hub"), "VLLM_CPU_KVCACHE_SPACE": "0.1",
                                  "XDG_CACHE_HOME": str(folder / "cache")})

    def stop(self):
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=30)
            self.server = None

    def type(self, line):
        words = shlex.split(line, comments=True)
        if words[0] == "make" and words[1] in WHOLE_BUILDS:
            return self.ran(["make", "-C", str(ROOT), "-n", words[1]])
        words = [word.replace("8000", self.port) for word in words]
        if words[:2] == ["make", "serve"]:
            words = ["make", "-C", str(ROOT), "-o", "build", "serve", f"PORT={self.port}", *words[2:]]
        if "/path/to/folder-or.gguf" in words[-1]:
            words[-1] = words[-1].replace("/path/to/folder-or.gguf", str(self.folder / "MODEL"))
        if words[1] in ("chat", "bench") and "--port" not in words and "--url" not in words:
            words += ["--url", f"http://localhost:{self.port}/v1"]
        if "serve" in words and "bench" not in words and "--help" not in words:
            return self.serve(words)
        return self.ran(words)

    def ran(self, words):
        done = subprocess.run(words, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=300,
                              input="What is the capital of France?\n")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout
        return done.stdout

    def serve(self, words):
        self.stop()
        self.server = subprocess.Popen(words, cwd=self.folder, env=self.environ, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True, errors="replace")
        log = []
        for line in self.server.stderr:
            log.append(line)
            if "Application startup complete" in line:
                return
        pytest.fail("".join(log))

    def run_python(self, program):
        if "import tiercel" in program or "from tiercel" in program:
            pytest.importorskip("tiercel", reason="the package is not built (make python)")
        self.ran([sys.executable, "-c", program.replace("8000", self.port)])


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    instance = StandInHub(write_tiny_model(tmp_path_factory.mktemp("hub") / "model"), HUB_MODEL)
    yield instance
    instance.close()


@pytest.mark.skipif(pathlib.Path(BINARY) != ROOT / "build" / "release" / "tiercel", reason="make serves the release build")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_runs(document, hub, tmp_path):
    reader = Reader(tmp_path, hub.url)
    skipped = None
    try:
        for kind, text in commands(document):
            print(text)
            if kind == "shell":
                reader.type(text)
                continue
            try:
                reader.run_python(text)
            except pytest.skip.Exception as skip:
                skipped = skip  # after all the others
    finally:
        reader.stop()
    if skipped is not None:
        raise skipped


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"(?ms)^```.*?^```$|^    .*?$|`[^`\n]*`", "", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        file, _, place = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        if place:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert place in map(anchor, headings), target


@pytest.mark.parametrize("page", [page for page in pages() if page.name != "design.md"],  # which names others' files, too
                         ids=lambda page: page.name)
def test_files_that_are_named_are_there(page):
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("build", "models"))
    for name in re.findall(rf"`((?:{folders})/[\w./*-]+)(?:::\w+)?`", page.read_text()):
        assert list(ROOT.glob(name)), name


def test_every_page_is_in_the_site():
    text = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- (\S+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_memory_of_models_is_what_their_shapes_give():
    """The table of docs/models.md against the parameters that the shapes' names and configurations give."""
    # layers, hidden, inner, heads, KV heads (of 128), tied
    shapes = {"Qwen3-0.6B": (28, 1024, 3072, 16, 8, True), "Qwen3-1.7B": (28, 2048, 6144, 16, 8, True),
              "Qwen3-4B": (36, 2560, 9728, 32, 8, True), "Qwen3-8B": (36, 4096, 12288, 32, 8, False),
              "Qwen3-14B": (40, 5120, 17408, 40, 8, False), "Qwen3-32B": (64, 5120, 25600, 64, 8, False)}
    rows = re.findall(r"^\| (Qwen3-\S+) \| ([\d.]+) GB \| ([\d.]+) GB \| (\d+) KiB \|$",
                      (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    assert [row[0] for row in rows] == list(shapes)
    for name, bf16, int8, kv in rows:
        layers, hidden, inner, heads, kv_heads, tied = shapes[name]
        linear = layers * (hidden * 128 * (2 * heads + 2 * kv_heads) + 3 * hidden * inner)
        embedding = 151936 * hidden * (1 if tied else 2)
        assert float(bf16) == pytest.approx(2 * (linear + embedding) / 1e9, rel=0.02)
        assert float(int8) == pytest.approx((linear + 2 * embedding) / 1e9, rel=0.02)
        assert int(kv) * 1024 == layers * 2 * kv_heads * 128 * 2

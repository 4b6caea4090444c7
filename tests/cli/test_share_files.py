"""Man pages and completions: the program writes them, so they are held against what its --help says."""
import re
import shutil
import subprocess

import pytest

from cli_support import clean_env, run

COMMANDS = ["serve", "chat", "complete", "run-batch", "eval", "quantize", "comm-check", "collect-env", "health", "share-files",
            "bench serve", "bench latency", "bench throughput", "bench sweep serve",
            "bench sweep serve_workload", "bench sweep plot", "bench sweep plot_pareto", "tune"]


@pytest.fixture(scope="module")
def share(tmp_path_factory):
    folder = tmp_path_factory.mktemp("share")
    result = run("share-files", folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    return folder


def flags_of_help(command):
    """{"--flag", "--no-flag", "-f"} as --help=all has them, at the beginning of its lines."""
    flags = set()
    for line in run(*command.split(), "--help=all").stdout.splitlines():
        if line.startswith("  -"):
            flags |= {word.split(" ")[0] for word in line[2:].split(", ")}
    return flags


def choices_of_help(command, flag):
    text = " ".join(run(*command.split(), "--help=all").stdout.split())
    return set(re.search(rf" {flag} TEXT .*?One of: (.*?)\.( |$)", text).group(1).split(", "))


def test_help_is_read():
    assert {"--max-num-seqs", "-tp", "--no-enforce-eager"} <= flags_of_help("serve")
    assert "bfloat16" in choices_of_help("serve", "--dtype")


# ---- bash

def bash(share, *words):
    """What bash offers for the last word, which is as far as it was typed."""
    script = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tiercel; printf '%s\\n' "${COMPREPLY[@]}" """
    result = subprocess.run(["bash", "-c", script, "bash", share / "bash-completion/completions/tiercel", "tiercel",
                             *words], capture_output=True, text=True, check=True, timeout=60)
    assert result.stderr == ""
    return set(result.stdout.split())


def test_bash_commands(share):
    offered = bash(share, "")
    assert offered >= {"serve", "chat", "bench", "--help", "--version"}
    for command in offered - {"--help", "--version"}:
        assert f"  {command} " in run("--help").stdout
    assert bash(share, "se") == {"serve"}
    assert bash(share, "bench", "") == {"serve", "latency", "throughput", "sweep", "--help"}
    assert bash(share, "bench", "sweep", "") == {"serve", "serve_workload", "plot", "plot_pareto", "--help"}
    assert bash(share, "eval", "") == {"perplexity", "kl"}
    assert bash(share, "serve", "") == set()  # then readline offers files


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_offers_the_flags_of_help(share, command):
    assert bash(share, *command.split(), "-") == flags_of_help(command) | {"--help"}


@pytest.mark.parametrize("words", [("--dtype", ""), ("--dtype", "="), ("--dtype", "=", "b"),
                                   ("model", "--port", "8000", "--dtype", "")])
def test_bash_offers_the_values_of_help(share, words):
    choices = choices_of_help("serve", "--dtype")
    if words[-1] == "b":
        choices = {choice for choice in choices if choice.startswith("b")}
    assert bash(share, "serve", *words) == choices


def test_bash_offers_nothing_where_anything_goes(share):
    assert bash(share, "serve", "--port", "") == bash(share, "serve", "--chat-template", "") == set()


def test_bash_takes_a_name_for_a_command_only_where_one_stands(share):
    assert bash(share, "serve", "chat", "--max-num-se") == {"--max-num-seqs"}
    assert bash(share, "nothing", "--max-num-se") == set()


# ---- zsh and fish

needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")

# _arguments and _describe say what they were called with; both are zsh's own.
ZSH = r"""emulate zsh
_arguments() { print -rl -- "$@" }
_describe() { print -rl -- "${(P@)4}" }
words=("${@[2,-1]}"); CURRENT=$#words
source "$1"
"""


@needs_zsh
@pytest.mark.parametrize("command", COMMANDS)
def test_zsh_has_the_flags_of_help(share, command):
    result = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", share / "zsh/site-functions/_tiercel", "tiercel",
                             *command.split(), ""], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    specs = result.stdout.splitlines()
    assert specs[0] == "(- *)--help[help]" and specs[-1] == "*:file:_files"
    flags = {re.match(r"(-[^\[=]*)=?\[", spec).group(1) for spec in specs[1:-1] if spec.startswith("-")}
    assert flags == flags_of_help(command)
    for spec in specs[1:]:
        assert re.fullmatch(r"(\(- \*\))?(-[-\w.]+=?\[([^][\\]|\\.)*\](:[\w-]+:(_files|\([^()]*\)))?|"
                            r"1:what:\(.*\)|\*:file:_files)", spec), spec


@needs_zsh
@pytest.mark.parametrize("words,offered", [([""], "serve:Serve a model"), (["bench", ""], "latency:Time one batch")])
def test_zsh_commands(share, words, offered):
    result = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", share / "zsh/site-functions/_tiercel", "tiercel", *words],
                            capture_output=True, text=True, check=True, timeout=60)
    assert offered in result.stdout


def fish(share, line, home):
    result = subprocess.run(["fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]",
                             share / "fish/vendor_completions.d/tiercel.fish", line],
                            env=clean_env({"HOME": str(home)}), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return {row.split("\t")[0] for row in result.stdout.splitlines()}


@needs_fish
def test_fish_offers_what_help_has(share, tmp_path):
    assert fish(share, "tiercel ", tmp_path) >= {"serve", "chat", "bench"}
    assert fish(share, "tiercel bench ", tmp_path) == {"serve", "latency", "throughput", "sweep"}
    long_flags = {flag for flag in flags_of_help("serve") if flag.startswith("--")}
    assert fish(share, "tiercel serve --", tmp_path) == long_flags
    assert fish(share, "tiercel serve --dtype ", tmp_path) == choices_of_help("serve", "--dtype")
    assert "--num-prompts" in fish(share, "tiercel bench serve --num", tmp_path)
    assert "--num-prompts" not in fish(share, "tiercel serve --num", tmp_path)


# ---- man pages

def pages(share):
    return sorted((share / "man" / "man1").iterdir())


def test_a_page_for_every_command(share):
    names = ["", *COMMANDS, "bench", "bench sweep"]
    assert {page.name for page in pages(share)} == {"-".join(["tiercel", *name.split()]) + ".1" for name in names}


@pytest.mark.skipif(shutil.which("man") is None or shutil.which("groff") is None, reason="needs man")
def test_man_shows_what_help_says(share):
    for command in ("serve", "bench serve", "eval"):
        page = share / "man" / "man1" / f"tiercel-{command.replace(' ', '-')}.1"
        result = subprocess.run(["man", "--warnings", "--local-file", "--nh", "--nj", "-Tutf8", page], capture_output=True, text=True,
                                env=clean_env({"MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}),
                                check=True, timeout=60)
        assert result.stderr == ""
        text = " ".join(re.sub(r"\x1b\[[0-9;]*m|.\x08", "", result.stdout).split())
        for line in run(*command.split(), "--help=all").stdout.splitlines():
            if line.startswith(("  -", "      ")):  # a flag's names, and what it does
                assert " ".join(line.split()) in text
        assert "NAME tiercel-" in text and "EXIT STATUS" in text


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
def test_mandoc_finds_no_fault(share):
    for page in pages(share):
        result = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, timeout=60)
        assert result.stdout == ""


def test_pages_hold_no_request_of_the_text(share):
    known = {".TH", ".SH", ".SS", ".TP", ".BR"}
    for page in pages(share):
        for line in page.read_text().splitlines():
            assert not line.startswith("'")
            assert not line.startswith(".") or line.split()[0] in known, f"{page.name}: {line}"


# ---- where they are written

def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("share-files", tmp_path / "file")
    assert result.returncode == 1
    assert result.stderr.startswith("tiercel share-files: ") and result.stderr.count("\n") == 1


def test_the_folder_is_required():
    result = run("share-files")
    assert result.returncode == 2 and result.stderr.splitlines()[-1].endswith("required: DIR")

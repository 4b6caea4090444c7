"""Coding agents of npm, not interactive: each runs a tool that the scripted model calls, in a folder of its own."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

URL = os.environ["SERVER_URL"]
MODULES = pathlib.Path(os.environ["NODE_MODULES"])

CODEX = f"""model = "scripted"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "{URL}/v1"
wire_api = "responses"
env_key = "LOCAL_KEY"
"""

# package: (what, command, environment, what the end of its output says)
AGENTS = {
    "@openai/codex": (
        "exec over Responses: a shell command by its tool, then the answer",
        [MODULES / ".bin/codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
         "Now @codex"], {"LOCAL_KEY": "none"}, "The command printed its marker."),
    "@anthropic-ai/claude-code": (
        "-p over Messages: a shell command by its tool, then the answer",
        [MODULES / "@anthropic-ai/claude-code-linux-x64/claude", "-p", "Now @claude", "--allowedTools", "Bash",
         "--output-format", "stream-json", "--verbose"],
        {"ANTHROPIC_BASE_URL": URL, "ANTHROPIC_API_KEY": "none", "ANTHROPIC_MODEL": "scripted",
         "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}, "The shell printed its marker."),
    "@qwen-code/qwen-code": (
        "-p over chat completions: a shell command by its tool, then the answer",
        [MODULES / ".bin/qwen", "--auth-type", "openai", "--yolo", "-p", "Now @qwen", "--output-format",
         "stream-json"],
        {"OPENAI_BASE_URL": URL + "/v1", "OPENAI_API_KEY": "none", "OPENAI_MODEL": "scripted"},
        "The terminal printed its marker."),
}


def main():
    failed = False
    for package, (what, command, environment, end) in AGENTS.items():
        with tempfile.TemporaryDirectory() as home:
            (pathlib.Path(home) / "config.toml").write_text(CODEX)
            ran = subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                 timeout=300, env={"PATH": os.environ["PATH"], "HOME": home, "CODEX_HOME": home,
                                                   "TERM": "dumb", **environment})
        said = ran.stdout + ran.stderr
        error = None
        if ran.returncode or "marker-23" not in said or end not in said:
            print(said[-3000:], file=sys.stderr)
            error, failed = f"exit code {ran.returncode}: {said[-200:]}", True
        version = json.loads((MODULES / package / "package.json").read_text())["version"]
        print(json.dumps({"client": package + " (npm)", "version": version, "what": what, "error": error}))
    sys.exit(failed)


if __name__ == "__main__":
    main()

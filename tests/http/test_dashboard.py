"""deploy/grafana.json asks for what the server has; with Prometheus itself where it is installed."""

import json
import re
import shutil
import subprocess
import time

import pytest
import requests

from serving import free_port
from tiny_model import NAME, ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
WORDS = {"sum", "max", "by", "rate", "time", "histogram_quantile"}


def expressions():
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    assert len(found) > 30
    return found


def series_of(expression):
    """[(metric, {labels in its selector})] and the labels that it groups by."""
    grouped = {label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(", ")}
    rest = re.sub(r"\bby \([^)]*\)|\[[^]]*\]|\"[^\"]*\"", "", expression)
    series = []
    for name, labels in re.findall(r"([A-Za-z_:][\w:]*)\b(?!\()(\{[^}]*\})?", re.sub(r"(?<=\{)[^}]*", lambda m: " ".join(
            re.findall(r"\w+(?=[=!])", m.group())), rest)):
        if name not in WORDS:
            series.append((name, set(labels.strip("{}").split())))
    return series, grouped


@pytest.fixture(scope="module")
def busy(server):
    """The server after some traffic of all kinds that the dashboard shows."""
    def work():
        for n in (1, 2):
            server.complete("a b c " * 200, max_tokens=20, ignore_eos=True, n=n, temperature=1)
        server.post("/v1/completions", {"model": NAME, "prompt": "x", "temperature": -1})
    work()
    server.work = work
    return server


def test_every_name_and_label_is_there(busy):
    labels = {}
    for line in requests.get(busy.url + "/metrics").text.splitlines():
        if not line.startswith("#"):
            name = re.match(r"[\w:]+", line).group()
            labels.setdefault(name, set()).update(re.findall(r'(\w+)="', line))
    for expression in expressions():
        series, grouped = series_of(expression)
        assert series, expression
        for name, used in series:
            assert name in labels, f"{name} of {expression}"
            # What Prometheus adds to what it reads.
            assert used | grouped <= labels[name] | {"instance", "job"}, expression


def test_the_test_sees_what_it_is_there_for():
    series, grouped = series_of('histogram_quantile(0.9, sum by (le, a) (rate(x:b_c{d=~"$e",f="g"}[5m]))) / h')
    assert series == [("x:b_c", {"d", "f"}), ("h", set())] and grouped == {"le", "a"}


def test_panels_are_laid_out():
    taken = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_promtool(busy):
    """Clean but for names, which are vLLM's: a colon in all, and a histogram called ..._total."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    text = requests.get(busy.url + "/metrics").text
    result = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    left = [line for line in (result.stdout + result.stderr).splitlines()
            if not line.endswith("metric names should not contain ':'")]
    assert left == ['vllm:iteration_tokens_total non-counter metrics should not have "_total" suffix']


def test_prometheus_answers_every_expression(busy, tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus)")
    config = tmp_path / "prometheus.yml"
    config.write_text("scrape_configs:\n- job_name: tiercel\n  scrape_interval: 1s\n  static_configs:\n"
                      f"  - targets: ['127.0.0.1:{busy.port}']\n")
    address = f"127.0.0.1:{free_port()}"
    log = open(tmp_path / "log", "w")
    process = subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                                f"--web.listen-address={address}"], stdout=log, stderr=log)

    def ask(expression):
        answer = requests.get(f"http://{address}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def waiting():
        left = []
        for expression in expressions():
            for name, value in {"$__rate_interval": "10s", "$model": ".*", "$instance": ".*"}.items():
                expression = expression.replace(name, value)
            result = ask(expression)
            # Routes that other tests have asked once have no rate any more, and so no percentile.
            if not result or all(r["value"][1] == "NaN" for r in result):
                left.append(expression)
        return left

    try:
        end = time.monotonic() + 60
        left = ["all"]
        while left and time.monotonic() < end:
            busy.work()
            time.sleep(1)
            try:
                left = waiting()
            except requests.ConnectionError:
                assert process.poll() is None, (tmp_path / "log").read_text()
        assert left == []
        assert {m["model_name"] for m in (r["metric"] for r in ask("vllm:num_requests_running"))} == {NAME}
    finally:
        process.terminate()
        process.wait(20)

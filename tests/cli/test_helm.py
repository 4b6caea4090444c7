"""The Helm chart: rendered by helm, held against Kubernetes' schemas, and its flags given to the real program."""
import json
import os
import shutil
import subprocess
import urllib.request

import pytest

from cli_support import ROOT, TINY, Server

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

CHART = ROOT / "deploy" / "helm" / "tiercel"
TOOLS = ROOT / "build" / "tools"  # where `make deps-kubernetes` puts them


def tool(name):
    return shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")


needs_helm = pytest.mark.skipif(tool("helm") is None, reason="needs helm: make deps-kubernetes")
pytestmark = needs_helm

EVERYTHING = {
    "servedModelName": "qwen3", "maxModelLen": "8k", "tensorParallelSize": 2, "extraArgs": ["--max-num-seqs", "4"],
    "extraEnv": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}], "imagePullSecrets": [{"name": "registry"}],
    "apiKey": {"value": "sesame"}, "hubToken": {"existingSecret": "hub"}, "autoscaling": {"enabled": True},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "inferencePool": {"enabled": True, "endpointPicker": {"name": "picker"}},
    "persistence": {"storageClass": "fast", "accessModes": ["ReadWriteMany"]}, "podLabels": {"team": "a"},
    "podAnnotations": {"note": "b"}, "nodeSelector": {"cpu": "amx"}, "service": {"annotations": {"c": "d"}},
    "tolerations": [{"key": "cpu", "operator": "Exists"}], "affinity": {"podAntiAffinity": {}},
    "extraVolumes": [{"name": "more", "emptyDir": {}}], "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
}
CASES = {"default": {}, "everything": EVERYTHING, "secrets": {"apiKey": {"existingSecret": "keys", "secretKey": "k"}},
         "bare": {"persistence": {"enabled": False}, "replicas": 0}, "claim": {"persistence": {"existingClaim": "models"}}}


EXTENSIONS = ("PodMonitor", "InferencePool")  # whose schemas are not Kubernetes' own


def helm(*words, values=None, folder=None):
    if values:
        (folder / "values.yaml").write_text(yaml.safe_dump(values))
        words = (*words, "--values", str(folder / "values.yaml"))
    return subprocess.run([tool("helm"), *map(str, words)], capture_output=True, text=True, timeout=60)


def render(values, folder, name="qwen"):
    result = helm("template", name, CHART, "--kube-version", "1.30", values=values, folder=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def resources(values, folder, name="qwen"):
    found = {}
    for resource in yaml.safe_load_all(render(values, folder, name)):
        assert resource["kind"] not in found
        found[resource["kind"]] = resource
    return found


def pod(rendered):
    return rendered["Deployment"]["spec"]["template"]["spec"]


def container(rendered):
    (only,) = pod(rendered)["containers"]
    return only


@pytest.mark.parametrize("case", CASES)
def test_lint(case, tmp_path):
    result = helm("lint", CHART, "--strict", values=CASES[case], folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("case", CASES)
def test_resources_fit_the_schemas(case, tmp_path):
    if tool("kubeconform") is None:
        pytest.skip("needs kubeconform: make deps-kubernetes")
    folders = sorted((TOOLS / "schemas").glob("v*"))
    if not folders:
        pytest.skip("needs Kubernetes' schemas: make deps-kubernetes")
    rendered = render(CASES[case], tmp_path)
    kinds = [resource["kind"] for resource in yaml.safe_load_all(rendered)]
    native = [kind for kind in kinds if kind not in EXTENSIONS]
    for folder in folders:  # the oldest version, which the chart names, and the newest
        result = subprocess.run(
            [tool("kubeconform"), "-strict", "-summary", "-output", "json", "-skip", ",".join(EXTENSIONS),
             "-schema-location", str(folder) + "/{{ .ResourceKind }}{{ .KindSuffix }}.json"],
            input=rendered, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout
        summary = json.loads(result.stdout)["summary"]
        assert summary == {"valid": len(native), "invalid": 0, "errors": 0, "skipped": len(kinds) - len(native)}
    assert {"Deployment", "Service"} <= set(native) and len(folders) == 2


def test_the_default_is_one_replica_with_a_volume(tmp_path):
    rendered = resources({}, tmp_path)
    assert set(rendered) == {"Deployment", "Service", "PersistentVolumeClaim"}
    assert rendered["Deployment"]["spec"]["replicas"] == 1
    labels = rendered["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (rendered["Deployment"]["spec"]["selector"]["matchLabels"], rendered["Service"]["spec"]["selector"]):
        assert selector and selector.items() <= labels.items()
    assert rendered["PersistentVolumeClaim"]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod(rendered)["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [rendered["PersistentVolumeClaim"]["metadata"]["name"]] == ["qwen-tiercel-models"]
    # A name that has the chart's already does not get it again.
    assert resources({}, tmp_path, name="tiercel-1")["Service"]["metadata"]["name"] == "tiercel-1"


def test_the_port_is_the_images(tmp_path):
    dockerfile = (ROOT / "Dockerfile").read_text()
    rendered = resources({}, tmp_path)
    (port,) = container(rendered)["ports"]
    assert f"EXPOSE {port['containerPort']}" in dockerfile and f"--port={port['containerPort']}" in container(rendered)["args"]
    assert rendered["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    user = pod(rendered)["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in dockerfile
    assert "command" not in container(rendered)  # the image's entry point is `tiercel serve`


def test_everything(tmp_path):
    rendered = resources(EVERYTHING, tmp_path)
    assert set(rendered) == {"Deployment", "Service", "PersistentVolumeClaim", "Secret", "HorizontalPodAutoscaler",
                             "PodMonitor", "InferencePool"}
    assert "replicas" not in rendered["Deployment"]["spec"]  # the autoscaler's
    autoscaler = rendered["HorizontalPodAutoscaler"]["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == rendered["Deployment"]["metadata"]["name"]
    (metric,) = autoscaler["metrics"]
    assert metric["pods"]["metric"]["name"] == "vllm:num_requests_waiting"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "2"}

    labels = rendered["Deployment"]["spec"]["template"]["metadata"]["labels"]
    monitor = rendered["PodMonitor"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1" and monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "http", "path": "/metrics", "interval": "15s"}]
    pool = rendered["InferencePool"]
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    assert pool["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert pool["spec"]["targetPorts"] == [{"number": 8000}]
    assert pool["spec"]["endpointPickerRef"] == {"kind": "Service", "name": "picker", "port": {"number": 9002},
                                                 "failureMode": "FailOpen"}

    env = {entry["name"]: entry for entry in container(rendered)["env"]}
    reference = env["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]
    assert reference["name"] == rendered["Secret"]["metadata"]["name"]
    assert rendered["Secret"]["stringData"] == {reference["key"]: "sesame"}
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}
    assert "sesame" not in json.dumps(rendered["Deployment"])


def test_a_secret_of_ones_own(tmp_path):
    rendered = resources(CASES["secrets"], tmp_path)
    assert "Secret" not in rendered
    (entry,) = [entry for entry in container(rendered)["env"] if entry["name"] == "VLLM_API_KEY"]
    assert entry["valueFrom"]["secretKeyRef"] == {"name": "keys", "key": "k"}


def test_the_pod_gets_longer_than_its_requests(tmp_path):
    rendered = resources({"shutdownTimeoutSeconds": 120}, tmp_path)
    assert "--shutdown-timeout=120" in container(rendered)["args"]
    assert pod(rendered)["terminationGracePeriodSeconds"] > 120


@pytest.mark.parametrize("values,part", [
    ({"modle": "x"}, "modle"), ({"model": ""}, "model"), ({"replicas": "two"}, "replicas"),
    ({"inferencePool": {"enabled": True}}, "inferencePool.endpointPicker.name"), ({"apiKey": {"key": "x"}}, "apiKey"),
    ({"tensorParallelSize": 0}, "tensorParallelSize"),
])
def test_wrong_values_are_refused(values, part, tmp_path):
    result = helm("template", "qwen", CHART, "--kube-version", "1.30", values=values, folder=tmp_path)
    assert result.returncode != 0 and part in result.stderr


def test_the_program_takes_the_flags_and_answers_the_probes(tmp_path):
    values = {"model": str(TINY), "maxModelLen": 512, "servedModelName": "qwen3",
              "extraArgs": ["--load-format=dummy", "--kv-cache-memory-bytes=16M"]}
    only = container(resources(values, tmp_path))
    args = [word for word in only["args"] if not word.startswith("--port=")]
    assert len(args) == len(only["args"]) - 1
    with Server(*args, env={"VLLM_API_KEY": "sesame"}) as server:
        server.wait_ready()
        base = server.url.removesuffix("/v1")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert urllib.request.urlopen(base + only[probe]["httpGet"]["path"], timeout=10).status == 200
        metrics = urllib.request.urlopen(base + "/metrics", timeout=10).read().decode()
        assert "\nvllm:num_requests_waiting{" in metrics
        request = urllib.request.Request(base + "/v1/models", headers={"Authorization": "Bearer sesame"})
        assert json.load(urllib.request.urlopen(request, timeout=10))["data"][0]["id"] == "qwen3"
        assert server.stop() == 0


def test_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = next(line.split()[1] for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert chart["version"] == chart["appVersion"] == version

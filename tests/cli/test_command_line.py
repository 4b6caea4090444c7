"""Help, errors and exit codes, without a server."""
import json
import os
import socket
import subprocess

import pytest

from cli_support import BINARY, TINY, clean_env, dummy_server, run, write_tiny_model


def test_version_is_one_line():
    for flag in ("--version", "-v"):
        result = run(flag)
        assert result.returncode == 0
        assert result.stdout.strip().count(".") == 2 and result.stdout.count("\n") == 1


def test_help_names_what_there_is():
    text = run("--help").stdout
    for command in ("serve", "chat", "complete", "eval", "bench", "quantize", "collect-env"):
        assert command in text


@pytest.mark.parametrize("words", [("frobnicate",), ("serve", "--frobnicate"),
                                   ("serve", "x", "--port", "abc"), ("chat", "--nothing"),
                                   ("serve", "x", "--scheduling-policy", "lifo"),
                                   ("serve", "x", "--max-num", "3"),
                                   ("serve", "x", "--quantization", "nonsense")])
def test_usage_errors_exit_with_2(words):
    result = run(*words)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: tiercel")
    assert ": error: " in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_help_says_what_works():
    assert "GGUF" in next(line for line in run("--help").stdout.splitlines() if line.strip().startswith("quantize"))
    text = run("serve", "--help=all").stdout
    for old in ("cannot be bounded yet", "Structured output is not offered yet", "There is one engine", "that have no effect yet"):
        assert old not in text
    for topic, part in (("reasoning-config", "thinking_token_budget"), ("tool-strict-level", "strict"),
                        ("additional-config", "weight_prefetch_config"), ("aggregate-engine-logging", "Each engine logs")):
        assert part in run("serve", f"--help={topic}").stdout


def test_variables_of_vllm_are_known():
    env = {"VLLM_IMAGE_FETCH_TIMEOUT": "5", "VLLM_RPC_BASE_PATH": "/tmp", "VLLM_PP_LAYER_PARTITION": "1,1"}
    result = run("serve", "/nowhere/model", "--port", "0", "--fail-on-environ-validation", env=env)
    assert result.returncode == 2 and "/nowhere/model" in result.stderr.splitlines()[-1]
    result = run("serve", "/nowhere/model", "--port", "0", "--fail-on-environ-validation", env=env | {"VLLM_NONSENSE": "1"})
    assert result.returncode == 2 and "VLLM_NONSENSE" in result.stderr.splitlines()[-1]


def test_serve_help_topics():
    assert "SchedulerConfig" in run("serve", "--help").stdout
    assert "SchedulerConfig" in run("serve", "--help=listgroup").stdout
    assert "--max-num-seqs" in run("serve", "--help=SchedulerConfig").stdout
    assert "--max-num-seqs" in run("serve", "--help=max-num-seqs").stdout
    assert "--hf-overrides" in run("serve", "--help=all").stdout


@pytest.mark.parametrize("flag,value,parts", [
    ("--hf-overrides", "{bad", ["--hf-overrides", "line 1, column 2"]),
    ("--compilation-config", '{"cudagraph_mod": 1}', ["--compilation-config", "cudagraph_mod"]),
    ("--compilation-config.cudagraph_mode", "NEVER", ["cudagraph_mode", "NEVER"]),
    ("--additional-config", '{"pa_shape_list": "x"}', ["--additional-config.pa_shape_list"]),
    ("--hf-overrides", '{"a": 1} x', ["--hf-overrides", "line 1, column 10"]),
    ("--hf-overrides", "[1]", ["--hf-overrides"]),
    ("--compilation-config", '{"cudagraph_capture_sizes": [1, "2"]}', ["cudagraph_capture_sizes"]),
])
def test_bad_json_flags_name_flag_and_place(flag, value, parts):
    result = run("serve", TINY, flag, value)
    assert result.returncode == 2
    for part in parts:
        assert part in result.stderr


def test_an_override_that_nothing_reads_is_named():
    with dummy_server("--hf-overrides", '{"rope_scalling": {"rope_type": "yarn"}, "head_dim": 128, "mlp_bias": false}') as server:
        server.wait_ready()
        assert server.log.count('--hf-overrides: unknown key "rope_scalling": ') == server.log.count("unknown key") == 1


def test_collect_env():
    result = run("collect-env")
    assert result.returncode == 0
    for part in ("Tiercel", "Compiler", "CPU features", "Kernels chosen", "Worker threads", "Caches",
                 "NUMA nodes", "Huge pages", "CPU quota", "Memory"):
        assert part in result.stdout
    assert "scalar" in run("collect-env", env={"TIERCEL_CPU_ISA": "scalar"}).stdout


def test_commands_without_flags_for_it_take_the_cpus_that_the_variables_name(tmp_path):
    def workers(**variables):
        return run("collect-env", env=variables).stdout.split("Worker threads on", 1)[1].splitlines()[0].strip(" :")
    cpus = sorted(os.sched_getaffinity(0))
    last = str(cpus[-1])
    assert workers(VLLM_CPU_OMP_THREADS_BIND=last) == last
    if len(cpus) > 1:  # of two ranks: all of them
        assert workers(VLLM_CPU_OMP_THREADS_BIND=f"{cpus[0]}|{last}") == f"{cpus[0]},{last}"
    assert len(workers(OMP_NUM_THREADS="1").split(",")) == 1
    for command in (("collect-env",), ("quantize", TINY, tmp_path / "out")):
        said = run(*command, env={"VLLM_CPU_OMP_THREADS_BIND": "all of them"})
        assert "VLLM_CPU_OMP_THREADS_BIND: found 'all of them'" in said.stdout + said.stderr
    unknown = run("quantize", TINY.parent / "models/qwen3-tied", tmp_path / "out", env={"VLLM_CPU_OMP_THREADS_BIND": "4095"})
    assert unknown.returncode != 0 and "4095" in unknown.stderr


def test_busy_port_is_found_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", TINY, "--load-format", "dummy", "--port", port)
    assert result.returncode not in (0, 2)
    assert str(port) in result.stderr
    assert "random" not in result.stderr and "CPU kernels" not in result.stderr


def test_tls_files_that_cannot_be_are_named_with_their_flag(tmp_path):
    (tmp_path / "there").write_text("no PEM")
    there, none = tmp_path / "there", tmp_path / "none"
    for words, part in ((("--ssl-certfile", none, "--ssl-keyfile", there), f"--ssl-certfile {none}: No such file or directory"),
                        (("--ssl-certfile", there, "--ssl-keyfile", none), f"--ssl-keyfile {none}: No such file or directory"),
                        (("--ssl-certfile", there, "--ssl-keyfile", tmp_path), f"--ssl-keyfile {tmp_path}: is a folder"),
                        (("--ssl-certfile", there, "--ssl-keyfile", there, "--ssl-ca-certs", none), f"--ssl-ca-certs {none}: No such file"),
                        (("--ssl-certfile", there, "--ssl-keyfile", there), f"--ssl-certfile {there}: ")):
        result = run("serve", TINY, "--load-format", "dummy", "--port", "0", *words)
        assert result.returncode == 2 and part in result.stderr.splitlines()[-1], result.stderr
        assert "asio" not in result.stderr and "random" not in result.stderr


def test_a_unix_socket_that_cannot_be_is_found_before_anything_is_loaded(tmp_path):
    (tmp_path / "file").write_text("kept")
    os.mkfifo(tmp_path / "fifo")
    long = tmp_path / ("x" * 108)
    for path, part in ((long, f"found a path of {len(str(long))} bytes, a socket's has at most 107"), (tmp_path, "is a folder"),
                       (tmp_path / "file", "is a file"), (tmp_path / "fifo", "is a device or a pipe")):
        result = run("serve", TINY, "--load-format", "dummy", "--uds", path)
        assert result.returncode == 2 and "terminate" not in result.stderr, result.stderr
        assert f"--uds {path}: {part}" in result.stderr.splitlines()[-1] and "random" not in result.stderr
    assert (tmp_path / "file").read_text() == "kept" and (tmp_path / "fifo").is_fifo()


@pytest.mark.parametrize("model,part", [("/nowhere/model", "/nowhere/model"),
                                        ("./missing.gguf", "missing.gguf")])
def test_missing_model_is_one_line(model, part):
    result = run("serve", model, "--port", "0")
    assert result.returncode == 2
    assert part in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["MambaForCausalLM", "Qwen3MoeForCausalLM", "Qwen3VLForConditionalGeneration"])
def test_unknown_architecture_names_found_and_supported(tmp_path, name):
    config = json.loads((TINY / "config.json").read_text())
    config["architectures"] = [name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = run("serve", tmp_path, "--load-format", "dummy", "--port", "0")
    assert result.returncode != 0
    last = result.stderr.splitlines()[-1]
    assert name in last and "Qwen3ForCausalLM" in last and "Traceback" not in result.stderr


def test_client_without_server_is_one_line():
    result = run("chat", "--url", "http://127.0.0.1:9/v1", "-q", "hi")
    assert result.returncode == 1
    assert result.stderr.startswith("tiercel chat: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("serve", "--help=all"), ("bench", "serve", "--help"),
                                   ("bench", "latency", "--help=all"), ("collect-env",)])
def test_output_that_is_lost_is_a_failure(words):
    with open("/dev/full", "w") as full:
        result = subprocess.run([BINARY, *words], env=clean_env(), stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("tiercel: standard output cannot be written")


def test_a_chat_and_a_measurement_that_are_lost_are_failures(server, tmp_path):
    (tmp_path / "text").write_text("some words to be predicted " * 60)
    for words in (("chat", "--url", server.url, "-q", "hi"), ("complete", "--url", server.url, "-q", "hi", "--max-tokens", "3"),
                  ("eval", "perplexity", write_tiny_model(tmp_path / "model"), "--text", tmp_path / "text", "--json")):
        with open("/dev/full", "w") as full:
            result = subprocess.run([BINARY, *map(str, words)], env=clean_env(), stdout=full, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 1, result.stderr
        assert result.stderr.splitlines()[-1].startswith("tiercel: standard output cannot be written")


def test_api_keys_stay_out_of_the_log():
    with dummy_server("--api-key", "sesame-1234") as server:
        server.wait_ready()
        assert server.stop() == 0
        assert "sesame-1234" not in server.log and "'api_key': '***'" in server.log

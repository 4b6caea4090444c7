"""How lm-eval is asked, for the checks of its clients and for the record of what they should say.

    pip install 'lm-eval[api,hf]==0.4.13'
    OMP_NUM_THREADS=1 python tests/clients/lm_eval_scores.py    # rewrites lm_eval_tasks/scores.json

scores.json holds what lm-eval's backend `hf` says in FP32 of the random model (random_model.py):
{task: [[log-likelihood, whether greedy sampling says the same] for each request]}.
"""

import json
import os
import pathlib
import tempfile

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import lm_eval  # noqa: E402
import lm_eval.tasks  # noqa: E402

TASKS = pathlib.Path(__file__).resolve().parent / "lm_eval_tasks"
SCORES = TASKS / "scores.json"


def evaluate(backend, tasks, **more):
    os.chdir(TASKS)  # the tasks name their files
    manager = lm_eval.tasks.TaskManager(include_path=str(TASKS), include_defaults=False)
    return lm_eval.simple_evaluate(model=backend, tasks=tasks, task_manager=manager, bootstrap_iters=0, **more)


def scores(backend, **more):
    def of(answer):  # a choice's has both, a rolling one's the log-likelihood alone
        return [float(answer[0]), bool(answer[1])] if isinstance(answer, (list, tuple)) else [float(answer), False]

    samples = evaluate(backend, ["local_choices", "local_texts"], **more)["samples"]
    return {task: [of(response[0]) for sample in sorted(found, key=lambda s: s["doc_id"])
                   for response in sample["resps"]] for task, found in samples.items()}


def main():
    from random_model import write_random_model

    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "random"
        write_random_model(model)
        found = scores("hf", model_args={"pretrained": str(model), "dtype": "float32"}, device="cpu")
    lines = (f'"{task}": [\n ' + ",\n ".join(map(json.dumps, rows)) + "]" for task, rows in found.items())
    SCORES.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()

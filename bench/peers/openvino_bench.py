"""Rows of OpenVINO GenAI (ContinuousBatchingPipeline): openvino_bench.py --model FOLDER ROW ..."""

import time

import numpy
import openvino
import openvino_genai

import rows


def make_pipeline(folder):
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 4  # GB
    scheduler.max_num_batched_tokens = 2048
    scheduler.max_num_seqs = 128
    scheduler.enable_prefix_caching = False
    scheduler.dynamic_split_fuse = True
    return openvino_genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", {})


def generation(new_tokens):
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = new_tokens
    config.ignore_eos = True
    config.do_sample = False
    return config


def tensor(prompt):
    return openvino.Tensor(numpy.array([prompt], dtype=numpy.int64))


def main():
    args = rows.arguments()
    pipeline = make_pipeline(args.model)
    next_id = iter(range(1 << 30))

    def generate_seconds(prompts):
        begin = time.perf_counter()
        pipeline.generate([tensor(p) for p in prompts], [generation(1)] * len(prompts))
        return time.perf_counter() - begin

    def step_until_done(prompts, new_tokens):
        handles = [pipeline.add_request(next(next_id), tensor(p), generation(new_tokens))
                   for p in prompts]
        have = [0] * len(prompts)
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for i, handle in enumerate(handles):
                while handle.can_read():
                    have[i] += sum(len(o.generated_ids) for o in handle.read().values())
            yield have

    rows.run_rows(args.rows, args.repeat, generate_seconds, step_until_done)


if __name__ == "__main__":
    main()

"""Rows of vLLM's CPU backend: vllm_bench.py --model FOLDER ROW ..."""

import time

import rows


def main():
    args = rows.arguments()
    import vllm  # slow to import: after the arguments are known to be right

    llm = vllm.LLM(model=args.model, dtype="bfloat16", max_model_len=20480, max_num_seqs=128,
                   max_num_batched_tokens=2048, enable_prefix_caching=False, disable_log_stats=True)
    engine = llm.llm_engine
    next_id = iter(range(1 << 30))

    def params(new_tokens):
        return vllm.SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True,
                                   detokenize=False)

    def generate_seconds(prompts):
        begin = time.perf_counter()
        llm.generate([{"prompt_token_ids": p} for p in prompts], params(1), use_tqdm=False)
        return time.perf_counter() - begin

    def step_until_done(prompts, new_tokens):
        names = [f"r{next(next_id)}" for _ in prompts]
        for name, prompt in zip(names, prompts):
            engine.add_request(name, {"prompt_token_ids": prompt}, params(new_tokens))
        have = dict.fromkeys(names, 0)
        while engine.has_unfinished_requests():
            for output in engine.step():
                have[output.request_id] = len(output.outputs[0].token_ids)
            yield list(have.values())

    rows.run_rows(args.rows, args.repeat, generate_seconds, step_until_done)


if __name__ == "__main__":
    main()

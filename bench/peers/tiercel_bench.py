"""Rows of Tiercel, by its Python package: tiercel_bench.py --model MODEL ROW ..."""

import asyncio
import time

import rows


def main():
    args = rows.arguments()
    import tiercel

    longest = max(length + new_tokens for _, length, new_tokens in map(rows.parse, args.rows))
    llm = tiercel.AsyncLLM(model=args.model, max_model_len=longest, max_num_seqs=128, max_num_batched_tokens=2048,
                           disable_log_stats=True)
    loop = asyncio.new_event_loop()
    next_id = iter(range(1 << 30))

    async def follow(prompt, new_tokens, news):
        params = tiercel.SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False)
        async for output in llm.generate({"prompt_token_ids": prompt}, params, f"r{next(next_id)}"):
            news(len(output.outputs[0].token_ids))

    def generate_seconds(prompts):
        begin = time.perf_counter()
        loop.run_until_complete(asyncio.wait([loop.create_task(follow(p, 1, lambda have: None)) for p in prompts]))
        return time.perf_counter() - begin

    def step_until_done(prompts, new_tokens):
        # Prompts are read one after the other, while the first ones are answered already: once they are cached, all begin
        # together.
        generate_seconds(prompts)
        have = [0] * len(prompts)
        changed = asyncio.Event()

        def news_of(i):
            def news(count):
                have[i] = count
                changed.set()
            return news

        async def step():
            await changed.wait()
            changed.clear()

        tasks = [loop.create_task(follow(p, new_tokens, news_of(i))) for i, p in enumerate(prompts)]
        while min(have) < new_tokens:
            loop.run_until_complete(step())
            yield have
        loop.run_until_complete(asyncio.wait(tasks))

    rows.run_rows(args.rows, args.repeat, generate_seconds, step_until_done)
    llm.shutdown()


if __name__ == "__main__":
    main()

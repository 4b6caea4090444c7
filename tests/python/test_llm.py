"""LLM's own ways: arguments, prompts, tokenizer, several at once, sleep, the bar."""

import asyncio
import pathlib
import threading
import time

import pytest
import tiercel
from tiercel import LLM, AsyncLLM, RequestOutputKind, SamplingParams

from conftest import ARGUMENTS
from tiny_model import MODEL

GREEDY = SamplingParams(temperature=0, max_tokens=8)


def test_the_forms_of_prompts(llm):
    ids = llm.get_tokenizer().encode("Hello, my name is")
    forms = ["Hello, my name is", ids, {"prompt": "Hello, my name is"}, {"prompt_token_ids": ids},
             {"prompt_token_ids": ids, "cache_salt": "mine"}]
    texts = [llm.generate(form, GREEDY, use_tqdm=False)[0].outputs[0].text for form in forms]
    assert texts == [texts[0]] * len(forms)
    assert [o.outputs[0].text for o in llm.generate(forms, GREEDY, use_tqdm=False)] == texts
    assert llm.generate([], GREEDY, use_tqdm=False) == []


@pytest.mark.parametrize("prompt, words", [
    ({"prompt_embeds": 1}, "prompt_embeds"), ({"multi_modal_data": {"image": 1}, "prompt": "x"}, "text only"),
    ({}, "prompt_token_ids")])
def test_prompts_that_are_none(llm, prompt, words):
    with pytest.raises(ValueError, match=words):
        llm.generate(prompt, GREEDY, use_tqdm=False)


def test_as_many_parameters_as_prompts(llm):
    with pytest.raises(ValueError, match="^The lengths of prompts and params must be the same.$"):
        llm.generate(["a", "b"], [GREEDY], use_tqdm=False)


def test_text_is_made_only_if_wanted(llm):
    (output,) = llm.generate("Hello", SamplingParams(temperature=0, detokenize=False), use_tqdm=False)
    assert output.outputs[0].text == "" and len(output.outputs[0].token_ids) == 16
    with pytest.raises(ValueError, match="stop strings are only supported when detokenize is True"):
        SamplingParams(detokenize=False, stop="x")


def test_no_bound_means_what_fits(llm):
    for bound in (None, 100_000):
        (output,) = llm.generate([5] * 2040, SamplingParams(ignore_eos=True, max_tokens=bound), use_tqdm=False)
        assert len(output.outputs[0].token_ids) == 8 and output.outputs[0].finish_reason == "length"


def test_the_tokenizer(llm):
    tokenizer = llm.get_tokenizer()
    ids = tokenizer.encode("Hello, my name is")
    assert tokenizer.decode(ids) == "Hello, my name is"
    assert tokenizer(["Hello", "my"])["attention_mask"] == [[1] * len(tokenizer.encode(t)) for t in ("Hello", "my")]
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == tokenizer.eos_token == "<|im_end|>"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False,
                                         add_generation_prompt=True)
    assert text == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    (output,) = llm.chat([{"role": "user", "content": "x"}], GREEDY, use_tqdm=False)
    assert output.prompt == text


@pytest.mark.parametrize("arguments, error, words", [
    ({"max_model_length": 5}, TypeError, "unexpected keyword argument 'max_model_length'"),
    ({"port": 5}, TypeError, "unexpected keyword argument 'port'"),
    ({"block_size": 0}, ValueError, "argument --block-size: found 0, expected at least 1"),
    ({"compilation_config": {"nonsense": 1}}, ValueError, "nonsense"),
    ({"enable_lora": True}, ValueError, "not supported"),
    ({"kv_cache_dtype": "fp8_e5m2"}, ValueError, "'fp8_e5m2' is not supported"),
    ({"quantization": "ascend"}, ValueError, "--quantization ascend"),
    ({"data_parallel_size": 2}, ValueError, "data_parallel_size"),
    ({"chat_template": "/none.jinja"}, ValueError, "cannot be opened"),
])
def test_arguments_that_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        LLM(MODEL, **{**ARGUMENTS, **arguments})


def test_a_model_that_is_not_there():
    with pytest.raises(ValueError, match="/no/such/model"):
        LLM("/no/such/model")


def test_arguments_are_the_flags():
    model = LLM(MODEL, **ARGUMENTS, compilation_config={"cudagraph_mode": "FULL_DECODE_ONLY"}, seed=3,
                enforce_eager=None, enable_prefix_caching=False, distributed_executor_backend="mp",
                chat_template="{{ messages[0].content }}", tensor_parallel_size=1)
    (output,) = model.chat([{"role": "user", "content": "as it is"}], GREEDY, use_tqdm=False)
    assert output.prompt == "as it is"
    twice = [model.generate([5] * 300, GREEDY, use_tqdm=False)[0].num_cached_tokens for _ in range(2)]
    assert twice == [0, 0]  # there is no prefix cache
    model.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        model.generate("x", GREEDY)


def test_a_kv_cache_of_fp8():
    model = LLM(MODEL, **ARGUMENTS, kv_cache_dtype="fp8")
    first, again = ([o.outputs[0].token_ids for o in model.generate([[5] * 300, [7] * 20], GREEDY, use_tqdm=False)]
                    for _ in range(2))
    assert first == again and [len(ids) for ids in first] == [8, 8]
    model.shutdown()


def test_two_at_once(llm):
    expected = [o.outputs[0].token_ids for o in llm.generate(["one", "two"], GREEDY, use_tqdm=False)]
    other = LLM(MODEL, **ARGUMENTS)
    results = {}

    def work(name, model, prompt):
        results[name] = [model.generate(prompt, GREEDY, use_tqdm=False)[0].outputs[0].token_ids for _ in range(5)]

    threads = [threading.Thread(target=work, args=(f"{prompt}{i}", model, prompt))
               for i, model in enumerate((llm, other)) for prompt in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.shutdown()
    for name, tokens in results.items():
        assert tokens == [expected[name.startswith("two")]] * 5


def test_the_lock_is_free_while_the_engine_works(llm):
    """Another thread counts on; with the lock held it would stand still until the end."""
    counted = []
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counted.append(time.monotonic())
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    begin = time.monotonic()
    llm.generate(["Hello"] * 16, SamplingParams(temperature=0, max_tokens=600, ignore_eos=True), use_tqdm=False)
    end = time.monotonic()
    stop.set()
    counter.join()
    inside = [t for t in counted if begin < t < end]
    assert end - begin > 0.1 and len(inside) >= 10, (end - begin, len(inside))


def test_sleep(llm):
    model = LLM(MODEL, **ARGUMENTS, enable_sleep_mode=True)
    expected = model.generate("Hello", GREEDY, use_tqdm=False)[0].outputs[0].text
    model.sleep(level=1)
    with pytest.raises((RuntimeError, ValueError)):
        model.generate("Hello", GREEDY, use_tqdm=False)
    model.wake_up()
    assert model.generate("Hello", GREEDY, use_tqdm=False)[0].outputs[0].text == expected
    assert model.reset_prefix_cache()
    model.shutdown()


def test_what_is_refused_by_name(llm):
    for call in (llm.collective_rpc, llm.apply_model):
        with pytest.raises(NotImplementedError, match="native"):
            call("x")
    with pytest.raises(ValueError, match="LoRA"):
        llm.generate("x", GREEDY, lora_request=object())


def test_the_bar(llm):
    class Bar:
        made = []

        def __init__(self, **options):
            self.total, self.n, self.closed = options["total"], 0, False
            Bar.made.append(self)

        def update(self, count):
            self.n += count

        def set_postfix_str(self, text):
            self.text = text

        def close(self):
            self.closed = True

    llm.generate(["a", "b"], GREEDY, use_tqdm=Bar)
    (bar,) = Bar.made
    assert (bar.total, bar.n, bar.closed) == (2, 2, True) and "toks/s" in bar.text


def test_sampling_is_of_the_parameters_alone(tmp_path):
    """The model's defaults hold where no parameters are given, and of given ones nothing else does."""
    model = LLM(MODEL, **ARGUMENTS, override_generation_config={"temperature": 0, "max_new_tokens": 5})
    defaults = model.get_default_sampling_params()
    assert (defaults.temperature, defaults.top_k, defaults.top_p, defaults.max_tokens) == (0, 20, 0.95, 5)
    first, again = (model.generate("Hello", use_tqdm=False)[0].outputs[0].token_ids for _ in range(2))
    assert first == again and len(first) == 5
    own = [model.generate("Hello", SamplingParams(seed=i, max_tokens=9, ignore_eos=True), use_tqdm=False)[0]
           .outputs[0].token_ids for i in range(4)]
    assert len(set(map(tuple, own))) == 4 and {len(ids) for ids in own} == {9}
    model.shutdown()


@pytest.fixture(scope="module")
def async_llm():
    model = AsyncLLM(MODEL, **ARGUMENTS)
    yield model
    model.shutdown()


@pytest.mark.parametrize("kind", RequestOutputKind)
def test_answers_that_are_awaited(llm, async_llm, kind):
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, logprobs=1, output_kind=kind)
    (expected,) = llm.generate("Hello", params, use_tqdm=False)

    async def read():
        return [output async for output in async_llm.generate("Hello", params, f"r-{kind}")]

    outputs = asyncio.run(read())
    assert [o.finished for o in outputs] == [False] * (len(outputs) - 1) + [True]
    if kind is RequestOutputKind.DELTA:
        text = "".join(o.outputs[0].text for o in outputs)
        tokens = [t for o in outputs for t in o.outputs[0].token_ids]
        logprobs = [entry for o in outputs for entry in o.outputs[0].logprobs]
    else:
        text, tokens, logprobs = (getattr(outputs[-1].outputs[0], n) for n in ("text", "token_ids", "logprobs"))
    want = expected.outputs[0]
    assert (text, tokens, logprobs) == (want.text, want.token_ids, want.logprobs)
    assert outputs[-1].outputs[0].finish_reason == "length"
    if kind is RequestOutputKind.FINAL_ONLY:
        assert len(outputs) == 1
    if kind is RequestOutputKind.CUMULATIVE:
        assert all(text.startswith(o.outputs[0].text) for o in outputs)


def test_shutdown_ends_what_is_awaited():
    model = AsyncLLM(MODEL, **ARGUMENTS)

    async def read(number):
        async for output in model.generate("Hello", SamplingParams(max_tokens=1500, ignore_eos=True), str(number)):
            pass
        return output

    async def shut_down():
        tasks = [asyncio.create_task(read(i)) for i in range(3)]
        await asyncio.sleep(0.2)
        model.shutdown()
        return await asyncio.wait_for(asyncio.gather(*tasks), 20)

    for output in asyncio.run(shut_down()):
        assert output.finished and output.outputs[0].finish_reason == "abort"


def test_many_are_awaited_at_once(llm, async_llm):
    prompts = [f"Number {i}" for i in range(24)]
    expected = [o.outputs[0].text for o in llm.generate(prompts, GREEDY, use_tqdm=False)]

    async def one(i):
        async for output in async_llm.generate(prompts[i], GREEDY, str(i)):
            pass
        return output.outputs[0].text

    async def all_of_them():
        return await asyncio.gather(*map(one, range(len(prompts))))

    assert asyncio.run(all_of_them()) == expected


def test_abort_and_closed_generators(async_llm):
    long = SamplingParams(temperature=0, max_tokens=1900, ignore_eos=True)

    async def aborted():
        outputs = []
        async for output in async_llm.generate("Hello", long, "a"):
            outputs.append(output)
            if len(outputs) == 1:
                await async_llm.abort("a")
        return outputs[-1]

    async def closed():
        generator = async_llm.generate("Hello", long, "b")
        await generator.__anext__()
        await generator.aclose()
        task = asyncio.create_task(async_llm.generate("Hello", long, "c").__anext__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The same ids are free again, and the engine is too.
        async for output in async_llm.generate("Hello", GREEDY, "b"):
            pass
        return output

    last = asyncio.run(aborted())
    assert last.finished and last.outputs[0].finish_reason == "abort" and len(last.outputs[0].token_ids) < 1900
    assert asyncio.run(closed()).outputs[0].finish_reason == "length"

    async def wrong():
        async for _ in async_llm.generate("Hello", SamplingParams(temperature=-1), "d"):
            pass

    with pytest.raises(ValueError, match="temperature must be non-negative"):
        asyncio.run(wrong())


def test_types_and_documentation():
    assert (pathlib.Path(tiercel.__path__[0]) / "py.typed").exists()
    for name in tiercel.__all__:
        thing = getattr(tiercel, name)
        assert not callable(thing) or thing.__doc__ or isinstance(thing, type), name

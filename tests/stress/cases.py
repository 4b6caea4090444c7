"""Requests with one right answer each: what the program says to the same request alone.

Outputs do not depend on what else the server does, to the last bit, so an answer under load must
equal the answer alone: texts, log-probabilities, finish reasons and usage.
"""

import random

from client import Connection, ask, request_bytes
from program import check

WORDS = ("the model reads a prompt and writes one token after another until it has said all "
         "客单价 naïve café 🌶 Ω end of line").split(" ")


def _text(source, words):
    return " ".join(source.choice(WORDS) for _ in range(words))


class Case:
    def __init__(self, path, body):
        self.path = path
        self.body = body
        prompt = body.get("prompt")
        prompts = len(prompt) if prompt and isinstance(prompt[0], list) else 1
        self.sequences = prompts * body.get("n", 1)
        self.may_stream = "prompt_logprobs" not in body
        self.right = None  # the answer alone, in normal form

    def bytes(self, request_id, stream):
        body = {**self.body, "stream": True, "stream_options": {"include_usage": True}}
        return request_bytes(self.path, body if stream else self.body,
                             headers=[("X-Request-Id", request_id)])


def make_cases(count, seed):
    """Completions and chats: shared and own prompts, samples, log-probabilities, seeds, stops."""
    source = random.Random(seed)
    # Prompts that begin alike share blocks of the prefix cache.
    heads = [[source.randrange(1000) for _ in range(300)] for _ in range(4)]
    cases = []
    for _ in range(count):
        body = {"model": "tiny", "max_tokens": source.choice([1, 2, 5, 8, 16, 24])}
        if source.random() < 0.5:
            body |= {"temperature": 0}
        else:
            body |= {"temperature": 1, "seed": source.randrange(1 << 30),
                     "top_p": source.choice([1, 0.9]), "top_k": source.choice([-1, 5, 50])}
        if body["temperature"] > 0 and source.random() < 0.4:
            body["n"] = source.choice([2, 3, 5])
        if source.random() < 0.2:
            body["stop"] = source.choice([["e"], ["a", "zz"], [" the"]])
        if source.random() < 0.2:
            body["ignore_eos"] = True
        if source.random() < 0.1:
            body["presence_penalty"] = 0.5
        if source.random() < 0.3:
            body["messages"] = [{"role": "user", "content": _text(source, source.randrange(1, 60))}]
            if source.random() < 0.3:
                body |= {"logprobs": True, "top_logprobs": source.choice([0, 3])}
            cases.append(Case("/v1/chat/completions", body))
            continue
        head = source.choice(heads)[:source.choice([0, 100, 128, 200, 256, 300])]
        tail = [source.randrange(1000) for _ in range(source.randrange(1, 40))]
        body["prompt"] = source.choice([head + tail, _text(source, source.randrange(1, 80)),
                                        [head + tail, tail], [tail, tail, head + tail[:1]]])
        if source.random() < 0.3:
            body["logprobs"] = source.choice([0, 1, 4])
        if source.random() < 0.15:
            body["echo"] = True
        if source.random() < 0.15:
            body["prompt_logprobs"] = source.choice([0, 2])
        cases.append(Case("/v1/completions", body))
    return cases


# ---- normal form

class Choice:
    """What came of one sample, from a whole answer or put together from a stream."""

    def __init__(self):
        self.text = ""
        self.logprobs = {}
        self.prompt_logprobs = None
        self.finish = None

    def add(self, part, with_prompt_logprobs):
        message = part.get("delta") or part.get("message") or part
        self.text += message.get("text") or message.get("content") or ""
        for name, values in (part.get("logprobs") or {}).items():
            if values is not None:
                self.logprobs.setdefault(name, []).extend(values)
        if with_prompt_logprobs:
            self.prompt_logprobs = part["prompt_logprobs"]
        if part.get("finish_reason") is not None:
            self.finish = (part["finish_reason"], part.get("stop_reason"))

    def form(self):
        return {"text": self.text, "finish": self.finish, "logprobs": self.logprobs,
                "prompt_logprobs": self.prompt_logprobs}


class Answer:
    def __init__(self, case):
        # With echo whole answers have them as well, though only `logprobs` asks for them.
        self.with_prompt_logprobs = "prompt_logprobs" in case.body
        self.ids = set()
        self.choices = {}
        self.usage = None

    def add(self, body):
        self.ids.add(body["id"])
        for part in body["choices"]:
            self.choices.setdefault(part["index"], Choice()).add(part, self.with_prompt_logprobs)
        self.usage = body.get("usage") or self.usage

    def form(self):
        return {"choices": {index: choice.form() for index, choice in sorted(self.choices.items())},
                "usage": self.usage}


def is_beginning(answer, right):
    """Whether a stream that was left early said nothing but the beginning of the right answer."""
    return all(right["choices"][index]["text"].startswith(choice.text)
               for index, choice in answer.choices.items())


def difference(found, right, path="answer"):
    """Where two normal forms differ first; empty if nowhere."""
    if isinstance(found, dict) and isinstance(right, dict) and found.keys() == right.keys():
        parts = ((f"{path}.{key}", found[key], right[key]) for key in right)
    elif isinstance(found, list) and isinstance(right, list) and len(found) == len(right):
        parts = ((f"{path}[{i}]", *pair) for i, pair in enumerate(zip(found, right)))
    else:
        return "" if found == right else f"{path}: {found!r}, alone {right!r}"
    return next(filter(None, (difference(a, b, where) for where, a, b in parts)), "")


async def read_answer(connection, case, request_id, stream, on_event=lambda: True):
    """An answer's normal form; None if `on_event`, called after each event, wants no more."""
    reply = await connection.head()
    check(reply.headers.get("x-request-id") == request_id,
          f"{request_id}: the answer of {reply.headers.get('x-request-id')!r} came")
    answer = Answer(case)
    if stream and reply.status == 200:
        async for event in connection.events(reply):
            answer.add(event)
            if not on_event():
                check(case.right is None or is_beginning(answer, case.right),
                      f"{request_id}: a part of {case.body}:\n{answer.form()}\nof {case.right}")
                return None
    else:
        body = b"".join([piece async for piece in connection.pieces(reply)])
        check(reply.status == 200, f"{reply.status} {body[:500]!r} to {case.body}")
        reply.body = body
        answer.add(reply.json())
    check(len(answer.ids) == 1 and request_id in next(iter(answer.ids)),
          f"{request_id}: ids {answer.ids}")
    return answer.form()


async def ask_alone(program, cases):
    """Fills in the right answers, one request at a time."""
    connection = await Connection.open(program.port)
    for number, case in enumerate(cases):
        request_id = f"alone{number}"
        await connection.send(case.bytes(request_id, stream=False))
        case.right = await read_answer(connection, case, request_id, stream=False)
    connection.close()


async def still_right(program, case):
    reply = await ask(program.port, case.path, case.body)
    answer = Answer(case)
    answer.add(reply.json())
    differs = difference(answer.form(), case.right)
    check(not differs, f"{case.path} {case.body}: {differs}")

"""Right and wrong answers to the questions of chapter 7."""

import math
from itertools import takewhile

import numpy as np
import pandas as pd
import torch

RATES = ["input", "output"]


def cost(requests, read, written, prices):
    return requests * (read * prices["input"] + written * prices["output"]) / 1e6


def cost_by_numpy(requests, read, written, prices):
    return requests * np.dot([read, written], [prices[name] for name in RATES]) / 1e6


def cost_by_torch(requests, read, written, prices):
    tokens, rates = torch.tensor([read, written]).double(), torch.tensor([prices[name] for name in RATES])
    return requests * (tokens * rates).sum() / 1e6


def cost_by_pandas(requests, read, written, prices):
    return (pd.Series({"input": read, "output": written}) * pd.Series(prices)).sum() * requests / 1e6


def waits(replies):
    seconds, own = [], 0.5
    for status, retry_after in replies:
        if status not in (429, 503):
            return seconds
        seconds.append(own if retry_after is None else retry_after)
        own *= 2 if retry_after is None else 1
    return seconds


def waits_by_generator(replies):
    untold = 0
    for _, told in takewhile(lambda reply: reply[0] in {429, 503}, replies):
        yield 2**untold / 2 if told is None else told
        untold += told is None


def waits_by_numpy(replies):
    return np.array(waits(replies), dtype=float)


def waits_while(replies):
    left, own, seconds = list(replies), iter([0.5, 1, 2, 4, 8]), ()
    while left[0][0] != 200 and left[0][0] != 401:
        told = left.pop(0)[1]
        seconds += (next(own) if told is None else float(told),)
    return list(seconds)


def best(judges, pairs, dollars, hours):
    able = [j for j in judges if pairs / 1000 * j["dollars for 1,000"] <= dollars]
    able = [j for j in able if pairs * j["seconds for a pair"] <= hours * 3600]
    able.sort(key=lambda j: (-j["accuracy"], j["dollars for 1,000"]))
    return able[0]["judge"] if able else None


def best_by_pandas(judges, pairs, dollars, hours):
    frame = pd.DataFrame(judges)
    cheap = frame["dollars for 1,000"] * pairs / 1000 <= dollars
    frame = frame[cheap & (frame["seconds for a pair"] * pairs / 3600 <= hours)]
    frame = frame.sort_values(["accuracy", "dollars for 1,000"], ascending=[False, True])
    return None if frame.empty else frame.iloc[0]["judge"]


def best_by_numpy(judges, pairs, dollars, hours):
    names = ("accuracy", "dollars for 1,000", "seconds for a pair")
    accuracy, price, seconds = (np.array([judge[name] for judge in judges]) for name in names)
    able = (price * pairs / 1000 <= dollars) & (seconds * pairs / 3600 <= hours)
    scores = np.where(able, accuracy - 1e-6 * price, -np.inf)
    return judges[int(scores.argmax())]["judge"] if able.any() else None


def best_by_loop(judges, pairs, dollars, hours):
    choice = None
    for judge in sorted(judges, key=lambda judge: judge["dollars for 1,000"]):
        if (
            pairs * judge["dollars for 1,000"] > 1000 * dollars
            or pairs * judge["seconds for a pair"] > 3600 * hours
        ):
            continue
        if choice is None or judge["accuracy"] > choice["accuracy"]:
            choice = judge
    return choice and choice["judge"]


def read(content):
    [choice] = content["choices"]
    if choice["message"]["refusal"]:
        return {"text": None, "reason": "refusal"}
    if choice["finish_reason"] == "length":
        return {"text": None, "reason": "cut off"}
    return {"text": choice["message"]["content"], "reason": None}


def client(send, wait, body, tries=5, pause=None):
    for number in range(tries):
        status, headers, content = send(body)
        if status == 200:
            return read(content)
        if status != 429:
            break
        if number < tries - 1:
            wait(float(headers["Retry-After"]) if pause is None else pause)
    return {"text": None, "reason": f"status {status}"}


def client_again(send, wait, body, left=4):
    status, headers, content = send(body)
    if status == 429 and left:
        wait(int(headers["Retry-After"]))
        return client_again(send, wait, body, left - 1)
    return read(content) if status == 200 else {"text": None, "reason": "status " + str(status)}


class Client:
    def __call__(self, send, wait, body):
        return client(send, wait, dict(body))


def careless(send, wait, body):
    status, _, content = send(body)
    return {"text": content["choices"][0]["message"]["content"], "reason": None}


def trusting(send, wait, body):
    return client(lambda body: (lambda reply: (*reply[:2], uncut(reply[2])))(send(body)), wait, body)


def uncut(content):
    return {"choices": [{**choice, "finish_reason": "stop"} for choice in content.get("choices", [])]}


READ = {"requests now": 10, "read for a row": 360, "dollars in both orders": 4}

RIGHT = {
    "cost_of_run": [cost, cost_by_numpy, cost_by_torch, cost_by_pandas],
    "read_dry_run": [
        READ,
        {name: float(value) for name, value in reversed(READ.items())},
        {name: np.int64(value) for name, value in READ.items()},
        {name: torch.tensor(value) for name, value in READ.items()},
    ],
    "waits": [waits, waits_by_generator, waits_by_numpy, waits_while],
    "rent_from": [18, 17.0, np.float32(19), torch.tensor(18.5)],
    "leaked_key": ["d", " D "],
    "best_judge": [best, best_by_pandas, best_by_numpy, best_by_loop],
    "own_client": [client, client_again, Client(), lambda send, wait, body: client(send, wait, body)],
}
WRONG = {
    "cost_of_run": [
        (lambda n, r, w, p: cost(n, r, w, p) * 1e6, "for a million tokens"),
        (lambda n, r, w, p: cost(n, w, r, p), "have exchanged their prices"),
        (lambda n, r, w, p: cost(1, r, w, p), "this is one request"),
        (lambda n, r, w, p: cost(n, r, 0, p), "written cost money"),
        (lambda n, r, w, p: print(cost(n, r, w, p)), "let it return it"),
        (0.432, "Expected a function"),
    ],
    "read_dry_run": [
        ({**READ, "requests now": 5000}, "the dry run asked for its own ten rows"),
        ({**READ, "read for a row": 1_800_000}, "there are 5,000 of them"),
        ({**READ, "dollars in both orders": 2}, "everything doubles"),
        ({**READ, "requests now": "10"}, "without quotes"),
        ({"requests now": 10}, "Expected the keys"),
    ],
    "waits": [
        (
            lambda replies: [
                0.5 if told is None else told for status, told in replies if status in (429, 503)
            ],
            "doubles",
        ),
        (lambda replies: waits([(status, None) for status, _ in replies]), "wait that long"),
        (lambda replies: [*waits(replies), 0], "expected []"),
        (lambda replies: sum(waits(replies)), "expected []"),
        (lambda replies: waits([reply for reply in replies if reply[0] != 401]), "expected"),
        ([0.5, 7, 1], "Expected a function"),
    ],
    "rent_from": [
        (12, "too low: paying by the token is still cheaper"),
        (25, "too high: renting is cheaper from fewer"),
        (18_000, "thousands of pairs"),
        ("18", "without quotes"),
        (math.nan, "is not thousands of pairs"),
    ],
    "leaked_key": [
        ("a", "stays in the environment"),
        ("b", "the notebook keeps none"),
        ("c", "not the key"),
        ("e", "allowed"),
    ],
    "best_judge": [
        (lambda j, n, dollars, hours: best(j, n, dollars, 1e9), "the time is left out"),
        (lambda j, n, dollars, hours: best(j, n, 1e9, hours), "the money is left out"),
        (lambda j, n, dollars, hours: best(j, n, dollars * n / 1000, hours), "for 1,000 pairs"),
        (lambda j, n, dollars, hours: best(j, n, dollars, hours * 60), "expected"),
        (lambda j, n, dollars, hours: best(j, n, dollars, hours) or "none", "expected None"),
        ("large, one order", "Expected a function"),
    ],
    "own_client": [
        (careless, "raised KeyError"),
        (lambda send, wait, body: client(send, wait, body, pause=1), "The waits for busy twice"),
        (lambda send, wait, body: client(send, wait, body, tries=1), "busy twice, then an answer"),
        (lambda send, wait, body: client(send, wait, body, tries=6), "busy all the time"),
        (trusting, "a text that was cut"),
        (lambda send, wait, body: client(send, wait, body)["text"], "expected {'text'"),
        ({"text": "Rating: 4", "reason": None}, "Expected a function"),
    ],
}

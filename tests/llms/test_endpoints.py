"""Models behind an address, against a server that answers, refuses, stumbles and cheats as it is told."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pytest
from llms.loopback import completion, error, serving

from course_lib.card import dataset_card
from course_lib.errors import AbsentError, EndpointError, InputError, MissingPackageError
from course_lib.llms import ENDPOINTS, InferenceEndpointsLLM, OpenAILLM
from course_lib.llms import endpoints as module
from course_lib.llms.answers import Failure, log_probabilities
from course_lib.llms.base import Request, sampling_arguments
from course_lib.llms.cache import default_cache
from course_lib.pipeline import Pipeline
from course_lib.settings import Settings
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts
from course_lib.steps.tasks import TextGeneration, UltraFeedback

KEY = "sk-hush-0123456789"


def chat(text, *more):
    return [{"role": "user", "content": text}, *more]


def echo(body, number):
    return f"You said {body['messages'][-1]['content']}"


def openai(server, **kwargs):
    return OpenAILLM("m", base_url=server.address, api_key=KEY, **kwargs)


def hub(server, **kwargs):
    return InferenceEndpointsLLM(model_id="m", base_url=server.address, api_key=KEY, **kwargs)


both_clients = pytest.mark.parametrize("make", [openai, hub])


def texts(results):
    return [text for result in results for text in result["generations"]]


def reasons(results):
    return [reason for result in results for reason in result["finish_reasons"]]


@pytest.fixture(autouse=True)
def without_keys(monkeypatch):
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL", "_TOKEN"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


# --- what is asked and what comes back ------------------------------------------------------------------------------


@both_clients
def test_answers_come_in_order_with_reasons_and_counts_and_only_once(make):
    def slowest_first(body, number):
        time.sleep(0.2 if number == 0 else 0)
        return echo(body, number)

    with serving(slowest_first) as server:
        chats = [chat(f"row {n}") for n in range(30)]
        results = make(server).generate(chats)
        assert texts(results) == [f"You said row {n}" for n in range(30)]
        assert set(reasons(results)) == {"stop"}
        assert results[0]["statistics"] == {"input_tokens": [7], "output_tokens": [5]}
        assert len(server.bodies) == 30 and set(server.paths) == {"/v1/chat/completions"}
        again = make(server)
        assert again.generate(chats) == results
        assert (again.usage.new, again.usage.cached, len(server.bodies)) == (0, 30, 30)


@both_clients
def test_sampling_arguments_are_passed_on_and_draws_have_seeds_of_their_own(make):
    with serving(lambda body, number: f"draw {body['seed']}") as server:
        llm = make(server, generation_kwargs={"temperature": 0.5, "top_p": 0.9, "seed": 3})
        results = llm.generate(
            [chat("Hi")], num_generations=3, max_new_tokens=9, stop_strings=["\n\n"], seed=-1
        )
    assert sorted(texts(results)) == ["draw 0", "draw 1", f"draw {2**31 - 1}"]
    body = server.bodies[0]
    expected = {"model": "m", "messages": chat("Hi"), "temperature": 0.5, "top_p": 0.9, "max_tokens": 9}
    assert {name: body.get(name) for name in expected} == expected
    assert body["stop"] == ["\n\n"] and not {"n", "top_k", "min_p", "repetition_penalty"} & set(body)


def test_a_server_that_takes_n_is_asked_once_and_what_it_lacks_is_asked_for_again():
    def short(body, number):
        return completion("first", "second") if number == 0 else f"seed {body['seed']}"

    with serving(short) as server:
        llm = module.vLLM("m", base_url=server.address, max_concurrent_requests=1)
        results = llm.generate([chat("Hi"), chat("Ho")], num_generations=3)
        assert texts(results)[:2] == ["first", "second"] and len(server.bodies) == 3
        assert [(body.get("n"), body["seed"]) for body in server.bodies] == [(3, 0), (3, 0), (None, 2)]
        assert server.bodies[0]["top_k"] == 50 and "stop" not in server.bodies[0]
        counts = results[0]["statistics"]
        assert counts == {"input_tokens": [7, 0, 7], "output_tokens": [3, 2, 5]}


def test_what_a_server_does_not_take_is_left_out_or_refused_in_words():
    llm = module.AnthropicLLM("m", api_key=KEY, generation_kwargs={"top_k": 5})
    with pytest.raises(InputError, match=r"AnthropicLLM\('m'.* cannot pass on top_k: leave it out"):
        llm.check()
    with serving(echo) as server:
        openai(server, unsupported=["seed", "temperature"]).generate([chat("Hi")])
        module.MistralLLM("m", base_url=server.address).generate([chat("Hi")])
        openai(server, extra_body={"reasoning_effort": "low"}).generate([chat("Hi")])
    assert not {"seed", "temperature"} & set(server.bodies[0])
    assert server.bodies[1]["random_seed"] == 0 and "seed" not in server.bodies[1]
    assert server.bodies[2]["reasoning_effort"] == "low"


def test_an_unfinished_message_is_gone_on_with():
    begun = chat("Count.", {"role": "assistant", "content": "One, "})
    with serving(lambda body, number: "two") as server:
        openai(server).generate([begun])
        module.vLLM("m", base_url=server.address).generate([begun])
    assert server.bodies[0]["messages"] == [*begun, {"role": "user", "content": module.GO_ON}]
    assert server.bodies[1]["messages"] == begun and server.bodies[1]["continue_final_message"] is True


# --- one failing row -------------------------------------------------------------------------------------------------

CASES = {
    "refusal": (completion(None, refusal="I cannot help."), "refusal"),
    "filter": (completion("Half of", reason="content_filter"), "content filter"),
    "filter_error": (error(400, "flagged", code="content_filter"), "content filter"),
    "empty": (completion("  "), "empty"),
    "moderated": (error(403, "input was flagged", metadata="moderation"), "content filter"),
    "thoughts_only": (completion(None, reason="length"), "empty, length"),
    "cut_off": (completion("Once upon", reason="length"), "length"),
    "parts": (completion([{"type": "text", "text": "Once upon"}]), "stop"),
    "too_long": (
        error(400, "maximum context length is 8", param="messages"),
        "server error 400: maximum context",
    ),
    "broken": ((500, "<html>oh no</html>"), "server error 500: <html>oh no"),
    "overloaded": (error(503, "busy"), "server error 503: busy"),
    "no_json": ((200, "{{{"), "server error 200: no"),
    "a_page": ((200, "<html></html>", {"Content-Type": "text/html"}), "server error 200: no"),
    "other_json": ({"choices": "?"}, "server error 200: not a chat completion"),
    "no_choice": (completion(), "server error 200: not a chat completion"),
    "cut": (None, "server error: connection lost"),
}


@both_clients
@pytest.mark.parametrize("case", CASES)
def test_a_row_that_fails_says_why_and_fails_alone(make, case):
    answer, reason = CASES[case]

    def reply(body, number):
        return answer if body["messages"][-1]["content"] == "bad" else echo(body, number)

    with serving(reply) as server:
        chats = [chat("a"), chat("bad"), chat("b")]
        results = make(server, max_retries=0).generate(chats)
        assert [texts(results)[0], texts(results)[2]] == ["You said a", "You said b"]
        assert reasons(results)[1].startswith(reason), reasons(results)
        assert texts(results)[1] == ("Once upon" if case in ("cut_off", "parts") else None)
        make(server, max_retries=0).generate(chats)
        assert len(server.bodies) == (4 if reason.startswith("server error") else 3)


@both_clients
def test_a_slow_answer_is_a_failed_row(make):
    def reply(body, number):
        time.sleep(1 if body["messages"][-1]["content"] == "bad" else 0)
        return echo(body, number)

    with serving(reply) as server:
        results = make(server, max_retries=0, timeout=0.3).generate([chat("a"), chat("bad")])
    assert reasons(results) == ["stop", "server error: no answer in time"]


@both_clients
@pytest.mark.parametrize("stumble", [(500, "oh"), (200, "{{{"), None])
def test_a_server_that_stumbles_is_asked_again(make, stumble):
    with serving(lambda body, number: stumble if number < 2 else "fine") as server:
        assert texts(make(server).generate([chat("a")])) == ["fine"]
    first, second = (after - before for before, after in zip(server.times, server.times[1:], strict=False))
    assert 0.3 < first < second


@both_clients
@pytest.mark.parametrize("as_date", [False, True])
def test_all_requests_wait_as_long_as_the_server_says(make, as_date):
    wait = 1.5

    def reply(body, number):
        value = formatdate(time.time() + 2.5, usegmt=True) if as_date else wait
        return error(429, "slow down", {"Retry-After": value}) if number == 0 else "fine"

    with serving(reply) as server:
        llm = make(server, max_concurrent_requests=1)
        assert texts(llm.generate([chat("a"), chat("b"), chat("c")])) == ["fine"] * 3
    assert server.times[1] - server.times[0] >= wait - 0.01
    assert len(server.bodies) == 4


def test_a_server_that_counts_requests_is_given_its_time_and_no_row_is_lost():
    start, served = time.monotonic(), []

    def reply(body, number):
        if len(served) < 5 + 40 * (time.monotonic() - start):
            served.append(number)
            return "fine"
        return error(429, "too many requests", {"Retry-After": "0.2"})

    with serving(reply) as server:
        results = openai(server, max_retries=1).generate([chat(f"row {n}") for n in range(80)])
    assert texts(results) == ["fine"] * 80
    assert len(server.bodies) < 3 * 80


def test_rows_that_the_server_refuses_one_by_one_do_not_stop_the_run():
    def reply(body, number):
        return error(400, "too long") if "long" in str(body["messages"]) else "fine"

    with serving(reply) as server:
        chats = [chat("first"), *(chat(f"long {n}") for n in range(40)), chat("last")]
        results = openai(server, max_concurrent_requests=1).generate(chats)
    assert reasons(results) == ["stop", *["server error 400: too long"] * 40, "stop"]


def test_a_server_that_only_fails_is_left_alone_and_what_it_answered_is_kept():
    with serving(lambda body, number: "fine" if number < 3 else (500, "down")) as server:
        llm = openai(server, max_retries=0, max_concurrent_requests=1)
        chats = [chat(f"row {n}") for n in range(100)]
        with pytest.raises(EndpointError, match="The last 20 requests .* down.*only the rest is asked"):
            llm.generate(chats)
        assert len(server.bodies) == 23
        server.reply = echo
        assert len(openai(server).generate(chats)) == 100 and len(server.bodies) == 120


# --- what must be mended ---------------------------------------------------------------------------------------------

FATAL = {
    "key": (
        error(401, f"Incorrect API key provided: {KEY}"),
        r"does not accept the key .*\\*\\*\\*.*Give another api_key",
    ),
    "forbidden": (error(403, "not for you"), r"does not accept the key .*not for you"),
    "model": (error(404, "The model `m` does not exist"), "has no model 'm' .*Check model and base_url"),
    "pinned": (error(400, "Pinned to 'x'; requested 'm'."), "has no model 'm' .*Pinned"),
    "credit": (error(402, "top up"), "gives no more on this key .top up"),
    "quota": (error(429, "You exceeded it", code="insufficient_quota"), "gives no more on this key"),
    "tomorrow": (error(429, "daily limit", {"Retry-After": "86400"}), "It asks to wait 86400 seconds"),
    "argument": (error(400, "Unsupported value", param="temperature"), r"unsupported=\['temperature'\]"),
    "field": ((422, '{"detail": [{"loc": ["body", "seed"]}]}'), r"does not take seed"),
}


@both_clients
@pytest.mark.parametrize("case", FATAL)
def test_what_would_fail_for_every_row_is_one_error_at_once(make, case):
    answer, sentence = FATAL[case]
    with serving(lambda body, number: answer) as server:
        llm = make(server, max_concurrent_requests=2)
        with pytest.raises(EndpointError, match=sentence) as caught:
            llm.generate([chat(f"row {n}") for n in range(50)])
    assert len(server.bodies) <= 2
    assert KEY not in "".join(traceback.format_exception(caught.value))


@both_clients
def test_a_server_that_is_not_there_is_an_error_at_once(make):
    with serving(echo) as server:
        pass
    started = time.monotonic()
    with pytest.raises(EndpointError, match="No server answers at http://127.0.0.1:"):
        make(server).generate([chat("a")])
    assert time.monotonic() - started < 10


def test_a_host_without_an_address_is_an_error_too(monkeypatch):
    def unknown(*arguments, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(EndpointError, match="No server answers at http://nowhere.example/v1"):
        OpenAILLM("m", base_url="http://nowhere.example/v1").generate([chat("a")])


def test_settings_are_checked_before_anything_is_asked(monkeypatch):
    for name in ENDPOINTS:
        if ENDPOINTS[name].key and not module._blanks(ENDPOINTS[name].address):
            with pytest.raises(EndpointError, match=f"{name} needs a key: set {ENDPOINTS[name].key}"):
                getattr(module, name)("m").check()
            monkeypatch.setenv(ENDPOINTS[name].key, KEY)
        elif ENDPOINTS[name].key:
            with pytest.raises(InputError, match="Fill in .*base_url="):
                getattr(module, name)("m", api_key=KEY).check()
            continue
        getattr(module, name)("m").check()
    assert all(row.key.endswith("_API_KEY") for row in ENDPOINTS.values() if row.key)
    for wrong in (
        "localhost:1234",
        f"https://{KEY}@host/v1",
        f"https://me:{KEY}@host/v1",
        f"https://host/v1?key={KEY}",
    ):
        with pytest.raises(InputError, match="without a key") as caught:
            OpenAILLM("m", base_url=wrong).check()
        assert KEY not in str(caught.value)
    with pytest.raises(InputError, match="GroqLLM gives no log-probabilities"):
        module.GroqLLM("m", can_score=True).check()
    with pytest.raises(InputError, match="max_concurrent_requests=0"):
        OpenAILLM("m", max_concurrent_requests=0).check()
    with pytest.raises(InputError, match="needs a model_id, an endpoint_name or a base_url"):
        InferenceEndpointsLLM()
    monkeypatch.setattr(module, "require_package", _refuse)
    with pytest.raises(MissingPackageError, match="OpenAILLM needs openai"):
        OpenAILLM("m").generate([chat("a")])


def _refuse(name, purpose):
    raise MissingPackageError(f"{purpose} needs {name}")


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_goes_to_its_own_server_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert OpenAILLM("m").key.reveal() == KEY and InferenceEndpointsLLM(model_id="m").key.reveal() == KEY
    assert InferenceEndpointsLLM(base_url="https://x.endpoints.huggingface.cloud").key.reveal() == KEY
    with serving(echo) as server:
        OpenAILLM("m", base_url=server.address).generate([chat("a")])
        InferenceEndpointsLLM(base_url=server.address).generate([chat("a")])
        assert KEY not in str(server.headers)
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        OpenAILLM("m").generate([chat("b")])
    assert server.headers[-1]["authorization"] == f"Bearer {KEY}"


def test_the_hub_says_where_an_endpoint_is(monkeypatch):
    def found(name, namespace, token):
        if name == "gone":
            raise OSError(f"404 for {token}")
        return SimpleNamespace(url=server.address if name == "mine" else None)

    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setattr("huggingface_hub.get_inference_endpoint", found)
    with serving(echo) as server:
        llm = InferenceEndpointsLLM(endpoint_name="mine", endpoint_namespace="me", model_display_name="big")
        assert texts(llm.generate([chat("a")])) == ["You said a"] and llm.model_name == "big"
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        for name, sentence in (
            ("gone", r"has no endpoint 'gone' .*404 for \*\*\*"),
            ("paused", "is not running"),
        ):
            with pytest.raises(EndpointError, match=sentence):
                InferenceEndpointsLLM(endpoint_name=name).generate([chat("a")])


@both_clients
def test_a_key_stands_nowhere(make, cache_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)

    def reply(body, number):
        return error(400, f"odd key {KEY}") if body["messages"][-1]["content"] == "bad" else "fine"

    with serving(reply) as server:
        llm = make(server)
        with Pipeline() as pipeline:
            load = LoadDataFromDicts(data=[{"instruction": "good"}, {"instruction": "bad"}])
            load >> TextGeneration(llm=llm)
        distiset = pipeline.run()
        rows = [*distiset["default"]["train"], *distiset.dropped_rows()]
    default_cache().close()
    assert f"Bearer {KEY}" in str(server.headers)
    written = b"".join(file.read_bytes() for file in cache_path.iterdir() if file.is_file())
    printed = "".join(capfd.readouterr())
    shown = [
        repr(llm),
        str(vars(llm)),
        llm.source,
        llm.fingerprint,
        str(rows),
        caplog.text,
        printed,
        json.dumps(rows),
    ]
    assert "fine" in str(rows) and b"fine" in written and "server error 400: odd key ***" in str(rows)
    assert KEY not in "".join(shown) and KEY.encode() not in written
    pipeline.graph.steps["text_generation_0"].set_parameters({"llm": {"api_key": KEY}})
    assert KEY not in str(vars(llm)) and llm.key.reveal() == KEY


# --- probabilities ---------------------------------------------------------------------------------------------------


def likely(**tokens):
    """An answer with log-probabilities of the first token."""
    top = [{"token": token, "logprob": value} for token, value in tokens.items()]
    answer = completion("4")
    answer["choices"][0]["logprobs"] = {"content": [{"token": "4", "logprob": -1, "top_logprobs": top}]}
    return answer


@both_clients
def test_log_probabilities_become_probabilities_of_the_choices(make):
    answer = likely(**{" 4": -1.0, "4": -1.0, "5": -1.0, "<": -3.0})
    with serving(lambda body, number: answer) as server:
        llm = make(server, can_score=True)
        [row] = llm.choice_probabilities([chat("Rate.")], list("12345"), prefill="Rating: ")
        [again] = make(server, can_score=True).choice_probabilities(
            [chat("Rate.")], list("12345"), prefill="Rating: "
        )
    whole = 3 + 3 * 2.718281828**-2
    assert row.tolist() == pytest.approx([2.718281828**-2 / whole] * 3 + [2 / whole, 1 / whole])
    assert (again == row).all() and len(server.bodies) == 1
    sent = {"max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": 20}
    assert {name: server.bodies[0].get(name) for name in sent} == sent


def test_words_are_known_by_their_beginning_where_it_is_theirs_alone():
    tokens = [{"token": "Ye", "logprob": -1.0}, {"token": " N", "logprob": -2.0}, {"token": "", "logprob": 0}]
    assert log_probabilities(tokens, ["Yes", "No", "Not"]) == pytest.approx([-1, -2, -2])
    assert log_probabilities([{"token": "1", "logprob": -1.0}], ["1", "10"]) == pytest.approx([-1, -1])


def test_the_logits_judge_rates_by_an_endpoint_and_leaves_out_what_has_no_probabilities():
    def reply(body, number):
        bad = "bad" in str(body["messages"])
        return error(400, "too long") if bad else likely(**{"5": -0.1, "4": -3.0, "1": -9.0})

    rows = [{"instruction": "Hi", "generations": ["good", "bad", ""]}]
    with serving(reply) as server:
        judges = [
            UltraFeedback(llm=openai(server, can_score=True), mode=mode, rationales=False)
            for mode in ("logits", "text")
        ]
        made = [next(judge.process(rows))[0] for judge in judges]
    assert made[0]["ratings"] == [pytest.approx(4.9465, abs=0.01), None, None]
    assert made[1]["ratings"] == [None, None, None]
    how = made[0]["distilabel_metadata"]["raw_output_ultra_feedback_0"]
    assert [entry["reason"] for entry in how["overall-rating"]] == [
        None,
        "no probabilities",
        "empty completion",
    ]


def test_a_server_without_log_probabilities_is_told_apart_at_once():
    with (
        serving(echo) as server,
        pytest.raises(EndpointError, match="gives no log-probabilities: leave can_score"),
    ):
        openai(server, can_score=True).choice_probabilities([chat("a")], ["1", "2"])
    with pytest.raises(InputError, match="probabilities can be seen; OpenAILLM only writes text"):
        openai(server).choice_probabilities([chat("a")], ["1", "2"])
    with pytest.raises(InputError, match="probabilities can be seen; OpenAILLM only writes text"):
        openai(server, can_score=True).log_likelihood([chat("a")], ["b"])


# --- in a pipeline, in a notebook, in a hurry ------------------------------------------------------------------------


def test_a_pipeline_has_its_judge_behind_an_address():
    def reply(body, number):
        if "<text 2>" not in str(body["messages"]):
            return f"answer {body['seed']}"
        return "#### Text 1\nRating: 5\nRationale: Right.\n\n#### Text 2\nRating: 2\nRationale: Vague."

    with serving(reply) as server, Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": "What is a comet?"}])
        writers = [TextGeneration(llm=openai(server, generation_kwargs={"seed": n})) for n in range(2)]
        names = {
            "columns": ["generation", "model_name"],
            "output_columns": ["generations", "generation_models"],
        }
        judge = UltraFeedback(llm=hub(server))
        load >> writers >> GroupColumns(**names) >> judge >> FormatTextGenerationDPO()
        distiset = pipeline.run(progress=False)
    [row] = distiset["default"]["train"]
    assert (row["chosen"][-1]["content"], row["rejected"][-1]["content"]) == ("answer 0", "answer 1")
    assert row["chosen_rating"] == 5
    card = dataset_card(Settings(models=["m"]), distiset, [writers[0].llm, judge.llm])
    assert server.address in card and KEY not in card


def test_it_works_where_an_event_loop_runs_already():
    async def cell():
        return openai(server).generate([chat("a")])

    with serving(echo) as server:
        assert texts(asyncio.run(cell())) == ["You said a"]


def test_a_run_that_is_stopped_does_not_wait_for_answers():
    def reply(body, number):
        time.sleep(0 if number == 0 else 3)
        return "fine"

    with serving(reply) as server:
        llm = openai(server)
        arguments = sampling_arguments({})
        requests = [Request(chat(f"row {n}"), 0, arguments) for n in range(20)]
        batches = llm.write(requests, set(range(20)))
        assert len(next(batches)) == 1
        start = time.monotonic()
        batches.close()
        assert time.monotonic() - start < 2


def test_no_more_requests_are_under_way_than_allowed():
    def reply(body, number):
        time.sleep(0.2)
        return echo(body, number)

    for count, kwargs in ((16, {}), (3, {"max_concurrent_requests": 3})):
        with serving(reply) as server:
            openai(server, **kwargs).generate([chat(f"row {n}") for n in range(2 * count)])
        assert 0.7 * count < server.most <= count


KILLED = """
import sys
from course_lib.llms import OpenAILLM
chats = [[{"role": "user", "content": f"row {n}"}] for n in range(60)]
OpenAILLM("m", base_url=sys.argv[1], max_concurrent_requests=4).generate(chats)
"""


def test_a_killed_run_asks_nothing_twice():
    def reply(body, number):
        time.sleep(0.03)
        return echo(body, number)

    with serving(reply) as server:
        command = [sys.executable, "-c", KILLED, server.address]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        while len(server.bodies) < 30 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(server.bodies)
        assert 30 <= before < 60
        assert subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60).returncode == 0
        # What was under way, or not yet stored, at the kill is asked for again.
        assert 60 <= len(server.bodies) <= 60 + 16
        count = len(server.bodies)
        assert subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60).returncode == 0
        assert len(server.bodies) == count


def test_a_thousand_requests_take_about_as_long_as_they_must():
    def reply(body, number):
        time.sleep(0.05)
        return echo(body, number)

    with serving(reply) as server:
        chats = [chat(f"row {n}") for n in range(1000)]
        llm = openai(server, max_concurrent_requests=32)
        start = time.monotonic()
        results = llm.generate(chats)
        seconds = time.monotonic() - start
        assert texts(results) == [f"You said row {n}" for n in range(1000)] and server.most <= 32
        # Ideal are 1.6 seconds; here the server is in the same process, and other tests may run beside it.
        assert seconds < 12
        openai(server, max_concurrent_requests=32).generate(chats)
        assert len(server.bodies) == 1000


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_names_that_people_know_are_here_and_litellm_is_refused_by_name():
    import course_lib.llms
    import course_lib.models
    from course_lib.llms.huggingface import InferenceEndpointsLLM as known

    assert known is InferenceEndpointsLLM
    for name in ENDPOINTS:
        made = getattr(course_lib.models, name)
        assert made is getattr(course_lib.llms, name) and issubclass(made, OpenAILLM)
        assert made.__name__ == name and (made is OpenAILLM or name in made.__doc__)
    with pytest.raises(AbsentError, match="has no LiteLLM. Instead, AnyLLM"):
        course_lib.llms.LiteLLM  # noqa: B018


def test_what_a_server_says_is_read_from_any_form():
    for text in (
        '{"error": {"message": "no"}}',
        '{"message": "no"}',
        '{"detail": "no"}',
        '{"error": "no"}',
        "no",
    ):
        assert Failure(400, text).message == "no"

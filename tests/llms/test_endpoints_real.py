"""Models behind an address, against a server that people run: `transformers serve`, with a packaged model on this machine."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from any_llm.exceptions import RateLimitError
from llms.loopback import completion, error, serving

from course_lib.errors import AbsentError, EndpointError, InputError, MissingPackageError
from course_lib.llms import AnyLLM, InferenceEndpointsLLM, OpenAILLM, TransformersLLM, endpoints
from course_lib.llms.answers import Failure
from course_lib.llms.weights import resolve
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts
from course_lib.steps.tasks import TextGeneration, UltraFeedback

GREEDY = {"temperature": 0, "max_new_tokens": 12}
PIRATE = [
    {"role": "system", "content": "You are a pirate and say ahoy."},
    {"role": "user", "content": "What is a comet?"},
]
CHATS = [
    PIRATE[1:],
    PIRATE,
    [*PIRATE, {"role": "assistant", "content": "Ahoy!"}, {"role": "user", "content": "Go on."}],
]


@pytest.fixture(scope="module")
def model() -> str:
    return str(resolve("smollm2-135m").folder)


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    """Where `transformers serve` answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model, *options]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(url, process, log):
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


@pytest.fixture(autouse=True)
def without_keys(monkeypatch):
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL", "_TOKEN"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def here(model):
    """What the same model writes in this process."""
    return TransformersLLM("smollm2-135m").generate(CHATS, **GREEDY)


MAKERS = {
    "openai": lambda model, address: OpenAILLM(model, base_url=address, generation_kwargs=GREEDY),
    "hub": lambda model, address: InferenceEndpointsLLM(
        model_id=model, base_url=address, generation_kwargs=GREEDY
    ),
    "any": lambda model, address: AnyLLM(f"openai:{model}", base_url=address, generation_kwargs=GREEDY),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_chats_get_the_answers_that_the_same_model_gives_here(kind, model, address, here):
    llm = MAKERS[kind](model, address)
    results = llm.generate(CHATS)
    assert results == here
    assert results[0] != results[1] and {*results[0]["finish_reasons"]} == {"length"}
    again = MAKERS[kind](model, address)
    assert again.generate(CHATS) == results and (again.usage.new, again.usage.cached) == (0, 3)


def test_several_completions_come_from_a_server_that_knows_no_n(model, address):
    for llm in (
        OpenAILLM(model, base_url=address),
        endpoints.vLLM(model, base_url=address, unsupported=["top_k", "min_p", "repetition_penalty"]),
    ):
        [result] = llm.generate(CHATS[:1], num_generations=3, max_new_tokens=8, temperature=1.5)
        assert len(result["generations"]) == 3 == llm.usage.new and all(result["generations"])
        assert sum(result["statistics"]["output_tokens"]) <= 24


def test_text_ends_where_a_stop_string_stands(model, address, here):
    [whole], stop = here[0]["generations"], here[0]["generations"][0].split()[2]
    [result] = OpenAILLM(model, base_url=address).generate(CHATS[:1], **GREEDY, stop_strings=[stop])
    [text] = result["generations"]
    assert len(text) < len(whole) and whole.startswith(text.removesuffix(stop).strip())


def test_what_the_server_refuses_is_said_in_words(model, address):
    with pytest.raises(EndpointError, match="has no model 'other' .*Check model and base_url"):
        OpenAILLM("other", base_url=address).generate(CHATS[:1])
    with pytest.raises(EndpointError, match=r"does not take .*top_k.*unsupported=\["):
        endpoints.vLLM(model, base_url=address).generate(CHATS[:1])


def test_a_server_that_ignores_the_schema_gives_no_wrong_rating(model, address):
    llm = endpoints.vLLM(model, base_url=address, unsupported=["top_k", "min_p", "repetition_penalty"])
    judge = UltraFeedback(llm=llm)
    llm.generation_kwargs = GREEDY
    made = next(judge.process([{"instruction": "Capital of Spain?", "generations": ["Madrid", "Rome"]}]))[0]
    how = made["distilabel_metadata"]["raw_output_ultra_feedback_0"]["overall-rating"]
    assert made["ratings"] == [None, None] and [entry["reason"] for entry in how] == ["no JSON"] * 2


def test_typed_decisions_are_the_probabilities_of_the_choices(model, address):
    pytest.importorskip("transformers.cli.serving.systemone")
    llm = OpenAILLM(model, base_url=address, can_score="systemone", prices={"input": 1, "output": 1})
    chats = [[{"role": "user", "content": text}] for text in ("Is ice cold?", "Is fire cold?")]
    found = llm.choice_probabilities(chats, ["yes", "no", "perhaps"], prefill="Answer:")
    assert llm.usage.input_tokens > 60 and llm.usage.cost == llm.usage.input_tokens / 1e6
    # What the server asks the model for these choices, asked here.
    options = "\n\nAnswer:\n\nA. yes\nB. no\nC. perhaps\nAnswer with the letter of the option that fits best (A to C) only."
    asked = [[{"role": "user", "content": f"{chat[0]['content']}{options}"}] for chat in chats]
    here = TransformersLLM("smollm2-135m").choice_probabilities(asked, ["A", "B", "C"])
    assert found == pytest.approx(here, abs=0.01) and (found[0] != found[1]).all()
    judge = UltraFeedback(llm=llm, mode="logits", rationales=False)
    row = next(judge.process([{"instruction": "Capital of Spain?", "generations": ["Madrid", "Rome"]}]))[0]
    assert all(1 < rating < 5 for rating in row["ratings"])
    assert OpenAILLM(model, base_url=address, can_score=True).fingerprint != llm.fingerprint


def test_decisions_are_asked_only_where_there_are_any():
    with serving(lambda body, number: (404, "Not Found")) as server:
        llm = OpenAILLM("m", base_url=server.address, can_score="systemone")
        with pytest.raises(EndpointError, match="decides nothing .Not Found.: leave can_score out"):
            llm.choice_probabilities(CHATS[:1], ["a", "b"])
    assert server.paths == ["/v1/systemone"] and "messages" not in server.bodies[0]
    for wrong in (
        OpenAILLM("m", api_key="k", can_score="logits"),
        InferenceEndpointsLLM(model_id="m", can_score="systemone"),
    ):
        with pytest.raises(
            InputError, match="can_score=.*allowed: True, False, and of OpenAILLM 'systemone'"
        ):
            wrong.check()


def test_a_pipeline_writes_here_and_has_its_judge_behind_the_address(model, address):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": "Capital of Spain?"}])
        here = TransformersLLM("smollm2-135m", generation_kwargs={"max_new_tokens": 8})
        writers = [
            TextGeneration(llm=here, num_generations=1, system_prompt=p) for p in ("Be brief.", "Be kind.")
        ]
        names = {"columns": ["generation"], "output_columns": ["generations"]}
        there = MAKERS["openai"](model, address)
        there.model_name, there.prices = "judge", {"input": 1, "output": 2}
        load >> writers >> GroupColumns(**names) >> UltraFeedback(llm=there) >> FormatTextGenerationDPO()
    distiset = pipeline.run(progress=False)
    rows = [*distiset["default"]["train"], *distiset.dropped_rows()]
    assert len(rows) == 1 and len(rows[0]["generations"]) == 2
    assert all(rating is None or 1 <= rating <= 5 for rating in rows[0]["ratings"])
    counts = distiset.report.models["judge"]
    assert counts["new"] == 1 and 0 < counts["output_tokens"] <= 12 and counts["input_tokens"] > 200
    assert counts["cost"] == pytest.approx((counts["input_tokens"] + 2 * counts["output_tokens"]) / 1e6)


# --- the adapter for all other providers -----------------------------------------------------------------------------


def any_openai(server, **kwargs):
    return AnyLLM("openai:m", base_url=server.address, api_key="sk-hush-0123456789", **kwargs)


def test_failures_come_through_any_llm_as_through_the_other_clients():
    def reply(body, number):
        text = body["messages"][-1]["content"]
        return {"bad": error(400, "too long"), "flagged": error(400, "no", code="content_filter")}.get(
            text, "fine"
        )

    with serving(reply) as server:
        chats = [[{"role": "user", "content": text}] for text in ("a", "bad", "flagged", "b")]
        results = any_openai(server, max_retries=0).generate(chats)
    reasons = [reason for result in results for reason in result["finish_reasons"]]
    assert [result["generations"][0] for result in results] == ["fine", None, None, "fine"]
    assert reasons[1].startswith("server error 400: too long") and reasons[2] == "content filter"
    assert not {"seed", "n", "top_k"} & set(server.bodies[0])
    assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-hush-0123456789"}


@pytest.mark.parametrize(
    "answer, sentence",
    [
        (error(401, "no key sk-hush-0123456789"), r"does not accept the key \(.*\*\*\*"),
        (error(404, "The model `m` does not exist"), "has no model"),
        (error(429, "later", {"Retry-After": "86400"}), "asks to wait 86400 seconds"),
    ],
)
def test_what_would_fail_for_every_row_is_one_error_with_any_llm_too(answer, sentence):
    with (
        serving(lambda body, number: answer) as server,
        pytest.raises(EndpointError, match=sentence) as caught,
    ):
        any_openai(server).generate(CHATS[:1])
    assert "sk-hush" not in str(caught.value)


def test_an_error_that_keeps_no_response_has_its_status_and_its_wait():
    slow = RateLimitError("slow down", retry_after="3", status_code=429)
    failure = Failure.of(slow, "")
    assert (failure.status, failure.wait, failure.passes, failure.message) == (429, 3.0, True, "slow down")


def test_a_provider_is_named_and_its_key_goes_nowhere_else(monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-hush-0123456789")
    llm = AnyLLM("mistral:small")
    assert llm.key.reveal() == "sk-hush-0123456789" and "mistral" in llm.address and "hush" not in repr(llm)
    assert not AnyLLM("mistral:small", base_url="http://localhost:1/v1").key
    with pytest.raises(EndpointError, match="AnyLLM needs a key: set ANTHROPIC_API_KEY"):
        AnyLLM("anthropic:claude").check()
    for wrong in ("gpt", "nobody:small", ""):
        with pytest.raises(InputError, match="Allowed: 'PROVIDER:MODEL'"):
            AnyLLM(wrong).check()
    with serving(lambda body, number: completion("a")) as server:
        pass
    with pytest.raises(EndpointError, match="No server answers at http://127.0.0.1:"):
        any_openai(server, max_retries=0).generate(CHATS[:1])


def test_a_missing_any_llm_is_named_with_what_brings_it_and_litellm_names_it(monkeypatch):
    import course_lib.llms

    with pytest.raises(AbsentError, match="has no LiteLLM. Instead, AnyLLM"):
        course_lib.llms.LiteLLM  # noqa: B018
    monkeypatch.setattr("course_lib.errors.find_spec", lambda name: None)
    with pytest.raises(
        MissingPackageError, match="AnyLLM needs the package any_llm.*pip install any-llm-sdk`"
    ):
        AnyLLM("openai:m").check()

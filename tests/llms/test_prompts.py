"""Text and token ids: text that is no valid Unicode reaches a model like any other, whatever is asked of the model."""

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import InputError, WeightsError
from course_lib.llms import TransformersLLM, prompts
from course_lib.llms.base import LinearHead

HALF = "\ud800 half a pair \udfff"
CLEAN = "? half a pair ?"


def chat(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def tiny(tiny_model_folder):
    llm = TransformersLLM(str(tiny_model_folder), use_cache=False)
    yield llm
    llm.unload()


def test_half_a_surrogate_pair_is_read_as_a_question_mark(tiny):
    prompts = tiny.prompts
    assert prompts.encode(chat(HALF)) == prompts.encode(chat(CLEAN))
    assert prompts.encode([*chat("a"), {"role": "assistant", "content": HALF}])[
        -15:
    ] == prompts.encode_completion(CLEAN)
    assert prompts.encode_completion(HALF) == prompts.encode_completion(CLEAN)
    assert prompts.encode_choices([HALF, "b"], True) == prompts.encode_choices([CLEAN, "b"], True)
    assert prompts.encode_question(HALF) == prompts.encode_question(CLEAN)
    assert tiny.render(chat(HALF)) == tiny.render(chat(CLEAN)) and tiny.tokens(HALF) == tiny.tokens(CLEAN)


def test_half_a_surrogate_pair_is_no_error_in_anything_that_a_model_does(tiny):
    head = LinearHead((1,), np.ones(3 * 32, dtype=np.float32), 0.0)
    assert tiny.generate([chat(HALF)], max_new_tokens=2)[0]["generations"][0] is not None
    assert tiny.choice_probabilities([chat(HALF)], ["1", "2"], prefill="\udc00").sum() == pytest.approx(1)
    assert tiny.log_likelihood([chat(HALF)], [HALF]) == tiny.log_likelihood([chat(CLEAN)], [CLEAN])
    assert tiny.head_scores([chat(HALF)], [HALF], head) == tiny.head_scores([chat(CLEAN)], [CLEAN], head)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), min_size=1))
def test_any_text_has_tokens_that_spell_it(tiny, text):
    expected = text.encode("utf-8", "replace").decode("utf-8")
    assert (
        tiny.tokenizer.decode(tiny.prompts.encode_completion(text), clean_up_tokenization_spaces=False)
        == expected
    )


REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
IGNORES = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}"
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("before", [REFUSES, IGNORES])
def test_a_template_without_a_place_for_the_system_message_gets_it_in_the_users_turn(
    tiny_model_folder, before
):
    llm = TransformersLLM(str(tiny_model_folder), chat_template=before + TURNS)
    turns = [("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello."), ("user", "Bye.")]
    text = llm.render([{"role": role, "content": content} for role, content in turns])
    shown = "<|im_start|>user\nBe brief.\n\nHi.<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
    assert text == shown + "<|im_start|>user\nBye.<|im_end|>\n"
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    assert llm.choice_probabilities([system], ["1", "2"]).shape == (1, 2)
    assert llm.generate([system], max_new_tokens=2)[0]["finish_reasons"]


def test_a_template_that_refuses_a_chat_is_one_error_that_says_which(tiny_model_folder):
    own = "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}" + TURNS
    llm = TransformersLLM(str(tiny_model_folder), chat_template=own)
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    with pytest.raises(
        InputError, match="refuses messages of these roles: user, assistant, user .one turn only"
    ):
        llm.generate([turns])


def test_a_template_that_cannot_be_read_is_one_error(tiny_model_folder):
    with pytest.raises(InputError, match="chat template of .* refuses"):
        TransformersLLM(str(tiny_model_folder), chat_template="{% for %}").render(
            [{"role": "user", "content": "x"}]
        )


LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def test_a_template_of_a_folder_that_never_ends_is_refused_within_seconds(tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(LOOP + TURNS)
    started = time.monotonic()
    with pytest.raises(WeightsError, match="chat template of model has not ended after 5 s"):
        TransformersLLM(str(folder)).check()
    assert time.monotonic() - started < 15 and sys.gettrace() is None


def test_a_template_that_never_ends_for_some_chats_is_refused_too(tiny_model_folder, monkeypatch):
    monkeypatch.setattr(prompts, "TEMPLATE_SECONDS", 0.5)
    own = "{% if messages | length > 2 %}" + LOOP + "{% endif %}" + TURNS
    llm = TransformersLLM(str(tiny_model_folder), chat_template=own)
    assert llm.render(chat("x")) == "<|im_start|>user\nx<|im_end|>\n"
    with ThreadPoolExecutor() as pool, pytest.raises(WeightsError, match="may never end"):
        pool.submit(llm.generate, [chat("x") * 3]).result()


@pytest.mark.parametrize(
    "own", ["{{ range(10 ** 9) | list }}", "{{ 1 + 'a' }}", "{{ messages.other.another }}"]
)
def test_a_template_that_fails_is_one_error(tiny_model_folder, own):
    llm = TransformersLLM(str(tiny_model_folder), chat_template=own)
    with pytest.raises(InputError, match="chat template of tiny-llama refuses"):
        llm.render(chat("x"))

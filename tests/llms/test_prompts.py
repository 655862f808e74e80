"""Text and token ids: text that is no valid Unicode reaches a model like any other, whatever is asked of the model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.llms import TransformersLLM
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

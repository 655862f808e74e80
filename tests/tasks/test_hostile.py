"""Hostile completions: N in, N ratings out, no exception, and nothing that a completion says becomes a rating."""

import pytest
from hostile import ATTACKS, WORDS, ToyLLM, hostile_completions, is_empty
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.llms import ScriptedLLM, TransformersLLM
from course_lib.steps.tasks import UltraFeedback
from course_lib.steps.tasks.ultrafeedback import SCALE


def one(task, row):
    return next(task.process([row]))[0]


def explained(made):
    return made["distilabel_metadata"]["raw_output_ultra_feedback_0"]["overall-rating"]


@pytest.mark.parametrize("mode", ["text", "logits"])
def test_two_thousand_hostile_completions(mode):
    completions = hostile_completions(2_000)
    rows = [{"instruction": "Say hello.", "generations": completions[i : i + 4]} for i in range(0, 2_000, 4)]
    made = next(UltraFeedback(llm=ToyLLM(context=8_000), mode=mode).process(rows))
    ratings = [rating for row in made for rating in row["ratings"]]
    assert len(ratings) == 2_000 and [len(row["rationales"]) for row in made] == [4] * 500
    assert [rating is None for rating in ratings] == [is_empty(text) for text in completions]
    assert all(1 <= rating <= 5 for rating in ratings if rating is not None)
    reasons = [text["reason"] for row in made for text in explained(row)]
    assert set(reasons) == {None, "empty completion"}


def test_text_in_a_completion_is_never_the_rating_of_a_judge_that_answers_as_asked():
    completions = hostile_completions(400)
    rows = [{"instruction": "Say hello.", "generations": completions[i : i + 4]} for i in range(0, 400, 4)]
    reply = "\n\n".join(f"#### Text {i}\nRating: {i % 2 + 1}\nRationale: So." for i in range(1, 5))
    for row in next(UltraFeedback(llm=ScriptedLLM([reply])).process(rows)):
        asked = [text for text in row["generations"] if not is_empty(text)]
        assert [rating for rating in row["ratings"] if rating] == [i % 2 + 1 for i in range(1, len(asked) + 1)]


def test_text_in_a_completion_is_never_the_rating_of_a_judge_that_repeats_its_prompt():
    rows = [{"instruction": "Say hello.", "generations": [attack, "Hello.", "Hi."]} for attack in ATTACKS]
    for row in next(UltraFeedback(llm=ScriptedLLM(lambda chat: chat[-1]["content"])).process(rows)):
        assert row["ratings"] == [None, None, None]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([*ATTACKS, "", None]), st.text()), max_size=4), st.integers(0, 4))
def test_a_neighbour_never_changes_a_pointwise_rating(neighbours, place):
    task = UltraFeedback(llm=ToyLLM(), mode="logits")
    place = min(place, len(neighbours))
    generations = [*neighbours[:place], "Hello there.", *neighbours[place:]]
    made = one(task, {"instruction": "Say hello.", "generations": generations})
    alone = one(task, {"instruction": "Say hello.", "generations": ["Hello there."]})
    assert made["ratings"][place] == alone["ratings"][0]
    assert explained(made)[place] == explained(alone)[0]


@pytest.fixture(scope="module")
def smollm():
    llm = TransformersLLM("smollm2-135m", use_cache=False, generation_kwargs={"temperature": 0})
    yield llm
    llm.unload()


def test_text_mode_of_a_real_model(smollm):
    task = UltraFeedback(llm=smollm, rationale_tokens=16)
    made = one(task, {"instruction": "Capital of Spain?", "generations": ["Madrid", "", ATTACKS[3]]})
    assert [rating is None for rating in made["ratings"]] == [False, True, False]
    for rating, rationale in zip(made["ratings"][::2], made["rationales"][::2], strict=True):
        assert 1 <= rating <= 5 and isinstance(rationale, str) and "####" not in rationale


def test_hostile_completions_on_a_real_model(smollm):
    hostile = [*ATTACKS[:22], "", WORDS]
    task = UltraFeedback(llm=smollm, mode="logits")
    made = one(task, {"instruction": "Say hello.", "generations": hostile})
    assert [rating is None for rating in made["ratings"]] == [text == "" for text in hostile]
    assert all(1 <= rating <= 5 for rating in made["ratings"] if rating is not None)
    alone = one(task, {"instruction": "Say hello.", "generations": [hostile[1]]})
    assert alone["ratings"][0] == pytest.approx(made["ratings"][1], abs=2e-3)
    chats = [task.format_input(made, shown=[hostile[2]])]
    mean = smollm.choice_probabilities(chats, SCALE, prefill="Rating: ")[0] @ [1, 2, 3, 4, 5]
    assert made["ratings"][2] == pytest.approx(mean, abs=2e-3)

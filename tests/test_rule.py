"""The rule of chapter 6, the pairs made by it, and what was measured with them."""

import pytest

from course_lib.errors import InputError
from course_lib.rule import (
    RuleRating,
    broken_rule,
    pair_for_trl,
    recorded_runs,
    rule_pairs,
    rule_questions,
)


@pytest.mark.parametrize(
    "text, broken",
    [
        ("The capital of France is Paris.", []),
        ("  Dr. Smith lived at No. 5 for 2.5 years. ", []),
        ("The capital of France is Paris", ["a full stop"]),
        ("The capital of France is Paris...", ["a full stop"]),
        ("Is the capital of France Paris?", ["a full stop"]),
        ("It is Paris. It lies on the Seine.", ["1 sentence"]),
        ("Paris.", ["complete"]),
        ("The capital is:\nthe city of Paris.", ["complete"]),
        ("Well " * 20 + "Paris.", ["at most 20 words"]),
        ("Well " * 19 + "Paris.", []),
        ("", ["1 sentence", "a full stop", "complete"]),
    ],
)
def test_what_a_text_lacks_is_named(text, broken):
    assert broken_rule(text) == broken


def test_ratings_follow_the_rule():
    [[row]] = RuleRating().process([{"generations": ["It is a large city.", "It is. A city."], "other": 1}])
    assert row["ratings"] == [5.0, 1.0] and row["other"] == 1


@pytest.mark.parametrize("part", ["train", "test"])
def test_each_shipped_pair_has_the_rule_on_its_chosen_side_only(part):
    pairs = rule_pairs(part)
    assert len(pairs) >= 80
    assert [pair for pair in pairs if broken_rule(pair["chosen"]) or not broken_rule(pair["rejected"])] == []


def test_pairs_by_length_say_nothing_about_the_rule():
    pairs = rule_pairs("length")
    assert len(pairs) >= 80
    assert all(broken_rule(pair["chosen"]) and broken_rule(pair["rejected"]) for pair in pairs)
    assert all(len(pair["chosen"]) < len(pair["rejected"]) for pair in pairs)


def test_no_question_to_test_with_is_in_a_pair_to_train_on():
    trained = {pair["prompt"] for part in ("train", "length") for pair in rule_pairs(part)}
    tested = {pair["prompt"] for pair in rule_pairs("test")} | set(rule_questions())
    assert len(rule_questions()) == len(set(rule_questions())) == 48
    assert trained & tested == set()


def test_another_part_is_refused():
    with pytest.raises(InputError, match="allowed: 'train', 'test', 'length'"):
        rule_pairs("dev")


def test_a_pair_goes_to_trl_as_messages():
    pair = pair_for_trl({"prompt": "p", "chosen": "c", "rejected": "r"})
    assert pair == {
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": [{"role": "assistant", "content": "c"}],
        "rejected": [{"role": "assistant", "content": "r"}],
    }


def test_each_recorded_run_begins_at_ln_2_and_counts_its_texts():
    runs = recorded_runs()
    assert {"start", "right", "reversed"} <= {run["condition"] for run in runs}
    assert len({(run["condition"], run["seed"]) for run in runs}) == len(runs)
    for run in runs:
        assert 0 <= run["kept"] <= run["asked"] == 48
        assert sum(not broken_rule(text) for text in run["texts"]) <= run["kept"]
        if run["condition"] != "start":
            assert abs(run["log"][0]["loss"] - 0.6931) < 0.001
            assert [line["step"] for line in run["log"]] == list(range(1, len(run["log"]) + 1))

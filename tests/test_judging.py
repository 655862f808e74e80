"""Measures of judges, on toy judges whose faults are known."""

import math
from itertools import combinations

import pytest

from course_lib import judging
from course_lib.errors import InputError
from course_lib.llms.weights import PACKAGED
from course_lib.steps.base import Step


class Toy(Step):
    """Rates by a function of the text and of its place."""

    rule: object
    inputs = ["instruction", "generations"]
    outputs = ["ratings"]
    llms = []

    def process(self, rows):
        yield [
            {**row, "ratings": [self.rule(t, place) for place, t in enumerate(row["generations"])]}
            for row in rows
        ]


def items():
    long = "a worse answer that goes on and on"
    pairs = [("good one", "bad"), ("good", long), ("good but longer", "bad"), ("good", "bad")]
    return [
        {"instruction": "x", "good": g, "worse": w, "off_topic": "zzz", "category": c, "worse_kind": "wrong"}
        for (g, w), c in zip(pairs, ["a", "a", "b", "b"], strict=True)
    ]


def by_length(text, place):
    return 1 + min(len(text), 40) / 10


def knows(text, place):
    return {"g": 4.5, "z": 1.0}.get(text[0], 2.0)


def test_a_judge_that_knows_is_always_right_and_one_that_cannot_tell_always_ties():
    [*groups, all_] = judging.pair_accuracy(judging.rate_items(Toy(rule=knows), items()), by="category")
    assert [line["group"] for line in groups] == ["a", "b"]
    assert all_["accuracy"] == 1 and all_["high"] == 1 and 0.4 < all_["low"] < 1
    flat = judging.pair_accuracy(judging.rate_items(Toy(rule=lambda text, place: 3.0), items()))[-1]
    assert (flat["accuracy"], flat["ties"]) == (0, 1)


def test_a_missing_rating_is_not_right_and_not_a_tie():
    judged = judging.rate_items(Toy(rule=lambda text, place: None), items())
    assert judging.preference(judged[0]) == "missing"
    line = judging.pair_accuracy(judged)[-1]
    assert (line["accuracy"], line["ties"], line["missing"]) == (0, 0, 1)


def test_wilson_interval_matches_a_published_value():
    # 81 of 263: (0.2553, 0.3662), Newcombe 1998, Statistics in Medicine 17, table II.
    assert judging.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert judging.wilson_interval(0, 0) == (0, 1)


def test_a_judge_of_the_first_place_disagrees_with_itself_when_swapped():
    biased = judging.swap_agreement(Toy(rule=lambda text, place: 5.0 - place), items())
    assert biased == {"agreement": 0, "first": 1, "second": 0, "missing": 0}
    fair = judging.swap_agreement(Toy(rule=knows), items())
    assert (fair["agreement"], fair["first"], fair["second"]) == (1, 0.5, 0.5)


def test_a_judge_that_never_rates_does_not_agree_with_itself():
    silent = judging.swap_agreement(Toy(rule=lambda text, place: None), items())
    assert silent == {"agreement": 0, "first": 0, "second": 0, "missing": 1}
    assert all(map(math.isnan, judging.swap_agreement(Toy(rule=knows), []).values()))


def test_kappa_with_the_labels_is_1_for_a_judge_that_is_always_right_and_negative_for_one_that_never_is():
    labels = ["A", "B", "A", "B"]
    judged = [
        judging.rate_items(Toy(rule=rule), items())
        for rule in (knows, lambda t, place: -knows(t, place), lambda *_: 3.0)
    ]
    right, wrong, same = map(judging.sides, judged)
    assert right == labels and same == ["tie"] * 4
    assert (judging.cohens_kappa(right, labels), judging.cohens_kappa(wrong, labels)) == (1, -1)
    assert judging.sides(judging.rate_items(Toy(rule=lambda text, place: None), items())) == ["missing"] * 4


def test_the_cost_is_per_rating_with_models_loaded_and_nothing_looked_up():
    class Slow(Toy):
        def process(self, rows):
            assert all(llm.loaded and not llm.use_cache for llm in self.llms)
            yield from super().process(rows)

        def unload(self):
            self.unloaded = True

    class Model:
        use_cache, loaded = True, False

        def load(self):
            self.loaded = True

    judge = Slow(rule=knows)
    judge.llms = [Model()]
    cost = judging.cost_per_rating(lambda: judge, items())
    assert cost["ratings"] == 12 and cost["seconds_per_rating"] > 0 and judge.unloaded


def test_length_bias_shows_in_correlation_and_where_the_worse_answer_is_longer():
    bias = judging.length_bias(judging.rate_items(Toy(rule=by_length), items()))
    assert bias["correlation"] == pytest.approx(1)
    assert (bias["worse_longer"], bias["worse_not_longer"]) == (0, 1)
    assert judging.length_bias(judging.rate_items(Toy(rule=knows), items()))["correlation"] < 0.9


def test_spearman_shares_ranks_among_ties():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
    assert judging.spearman([1, 2, 2, 3], [10, 20, 30, 40]) == pytest.approx(0.9486833)
    assert math.isnan(judging.spearman([1, 1], [1, 2]))


def test_self_preference_is_seen_in_the_row_of_the_judge():
    rows = [{"instruction": "x", "generations": ["mine", "theirs"], "generation_models": ["m", "t"]}] * 3
    vain = Toy(rule=lambda text, place: 5.0 if text == "mine" else 2.0)
    modest = Toy(rule=lambda text, place: 3.0)
    table = judging.self_preference({"vain": vain, "modest": modest}, rows)
    assert table[0] == {"judge": "vain", "m": 1.5, "t": -1.5}
    assert table[1] == {"judge": "modest", "m": 0, "t": 0}


def test_calibration_sorts_pairs_by_their_difference():
    lines = judging.calibration(judging.rate_items(Toy(rule=by_length), items()), bins=2)
    assert sum(line["pairs"] for line in lines) == 8
    assert lines[0]["difference"] < lines[1]["difference"]
    for line in lines:
        right = round(line["accuracy"] * line["pairs"])
        assert (line["low"], line["high"]) == judging.wilson_interval(right, line["pairs"])


def test_cohens_kappa_of_a_textbook_table():
    # 20 both yes, 5 yes/no, 10 no/yes, 15 both no: observed 0.7, chance 0.5.
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert judging.cohens_kappa(a, b) == pytest.approx(0.4)
    assert judging.cohens_kappa(["x", "y"], ["x", "y"]) == 1
    with pytest.raises(InputError, match="verdicts"):
        judging.cohens_kappa(["x"], [])


def nearest(fit, seen):
    """The largest share of words that a good answer of one part has in common with one of the other; short ones left out."""
    goods = [[set(item["good"].lower().split()) for item in part] for part in (fit, seen)]
    fitted, others = ([words for words in part if len(words) > 5] for part in goods)
    return max(len(one & other) / len(one | other) for one in fitted for other in others)


def test_labelled_items_cover_what_they_promise():
    parts = {name: judging.labelled_items(name) for name in judging.PARTS}
    everything = [item for part in parts.values() for item in part]
    assert len(everything) >= 120 and len({item["category"] for item in everything}) >= 8
    assert len({item["instruction"] for item in everything}) == len(everything)
    assert all(nearest(one, other) < 0.6 for one, other in combinations(parts.values(), 2))
    kinds = {"wrong", "incomplete", "ignores_format", "rude", "padded"}
    for part in parts.values():
        assert {item["worse_kind"] for item in part} == kinds
        assert sum(len(item["worse"]) > len(item["good"]) for item in part) >= len(part) // 4
    for item in everything:
        assert len({item["good"], item["worse"], item["off_topic"]}) == 3
    with pytest.raises(InputError, match="'fit', 'report', 'fresh', 'blind'"):
        judging.labelled_items("train")


def test_real_pairs_are_those_that_all_readings_agree_on_and_contested_ones_the_rest():
    agreed, contested = judging.real_pairs(), judging.real_pairs(contested=True)
    assert len(agreed) == 99 and len(contested) == 38
    for item in [*agreed, *contested]:
        votes = item["readings"]
        assert sum(votes.values()) == 6 and votes["good"] >= votes["worse"]
        assert (votes["good"] == 6) == (item in agreed)
        assert item["good"].strip() and item["worse"].strip() and item["good"] != item["worse"]
        assert {item["good_model"], item["worse_model"]} <= {*PACKAGED, f"{next(iter(PACKAGED))}, evolved"}

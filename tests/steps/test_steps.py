"""The steps without a model: columns, filters and preference pairs. Loading is in test_load.py."""

import hashlib
import math
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import GraphError, InputError
from course_lib.steps import FilterRows, FormatTextGenerationDPO, GroupColumns, KeepColumns, Step
from course_lib.steps.base import required_columns, snake_case
from course_lib.steps.filtering import similarity

REASONS = {
    "empty completion",
    "cut off",
    "missing rating",
    "tie",
    "identical completions",
    "too similar",
    "margin too small",
}


def run(step, *inputs):
    return [row for rows in step.apply(*inputs) for row in rows]


def formatted(generations, ratings, *, step=None, **more):
    step = step or FormatTextGenerationDPO()
    [row] = run(step, [{"instruction": "Say hi", "generations": generations, "ratings": ratings, **more}])
    return row


def reason(generations, ratings, **arguments):
    return formatted(generations, ratings, step=FormatTextGenerationDPO(**arguments)).get("drop_reason")


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_best_is_chosen_and_worst_rejected_with_models_and_ratings():
    row = formatted(
        ["bad one", "good answer", "so so text"], [1, 5, 3], generation_models=["a", "b", "c"], other="kept"
    )
    user = {"role": "user", "content": "Say hi"}
    assert row == {
        "instruction": "Say hi",
        "generations": ["bad one", "good answer", "so so text"],
        "ratings": [1, 5, 3],
        "generation_models": ["a", "b", "c"],
        "other": "kept",
        "prompt": "Say hi",
        "prompt_id": hashlib.sha256(b"Say hi").hexdigest(),
        "chosen": [user, {"role": "assistant", "content": "good answer"}],
        "chosen_model": "b",
        "chosen_rating": 5,
        "rejected": [user, {"role": "assistant", "content": "bad one"}],
        "rejected_model": "a",
        "rejected_rating": 1,
    }
    assert set(FormatTextGenerationDPO.outputs) <= set(row)


def test_model_names_stand_in_for_generation_models_and_may_be_missing_or_short():
    assert formatted(["a b", "c d"], [1, 2], model_names=["x", "y"])["chosen_model"] == "y"
    assert formatted(["a b", "c d"], [1, 2])["chosen_model"] is None
    assert formatted(["a b", "c d"], [1, 2], generation_models=["x"])["chosen_model"] is None


def test_equal_ratings_are_a_tie_also_when_all_are_equal_among_many():
    assert reason(["one", "two"], [3, 3]) == "tie"
    assert reason(["one", "two", "three"], [3, 3.0, None]) == "tie"
    assert formatted(["one", "two", "three"], [3, 3, 4])["chosen"][-1]["content"] == "three"


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf, "4"])
def test_rating_that_is_no_number_never_makes_a_pair(nothing):
    assert reason(["one", "two"], [3, nothing]) == "missing rating"
    row = formatted(["one", "two", "three"], [3, nothing, 4])
    assert (row["chosen_rating"], row["rejected_rating"]) == (4, 3)


def test_too_few_ratings_or_none_at_all():
    assert reason(["one", "two"], [3]) == "missing rating"
    assert reason(["one", "two"], []) == "missing rating"
    assert reason(["one", "two"], None) == "missing rating"


def test_ratings_from_numpy_count():
    row = formatted(["one", "two"], list(np.array([1.5, 4.5], dtype=np.float32)))
    assert row["chosen"][-1]["content"] == "two"
    assert formatted(["one", "two"], list(np.array([1, 4])))["chosen"][-1]["content"] == "two"


@pytest.mark.parametrize("nothing", [None, "", " \n\t", "\u3000"])
def test_empty_completion_is_never_chosen_or_rejected(nothing):
    assert reason(["one", nothing], [1, 5]) == "empty completion"
    row = formatted(["one", nothing, "two"], [3, 5, 4])
    assert (row["chosen"][-1]["content"], row["rejected"][-1]["content"]) == ("two", "one")


def test_no_completions_at_all_is_an_empty_completion():
    assert reason([], []) == reason([None, None], [None, None]) == "empty completion"


def test_identical_completions_are_no_pair_whatever_case_and_spacing():
    assert reason(["The same", "The same"], [1, 5]) == "identical completions"
    assert reason(["The same", "  the\nSAME "], [1, 5]) == "identical completions"


def test_too_similar_is_measured_in_words_against_the_limit():
    twenty = " ".join(f"w{n}" for n in range(20))
    assert reason([twenty, twenty + " more"], [1, 5]) == "too similar"
    assert reason([twenty, twenty + " more"], [1, 5], max_similarity=0.99) is None
    assert reason([twenty, twenty.replace("w1", "v1")], [1, 5]) is None


def test_margin_below_the_least_is_too_small_and_at_the_least_is_enough():
    assert reason(["one", "two"], [3, 3.5], min_margin=1) == "margin too small"
    assert reason(["one", "two"], [3, 4], min_margin=1) is None
    assert reason(["one", "two"], [3, 3.001]) is None


def test_dropped_row_keeps_its_columns_and_gains_no_pair():
    row = formatted(["one", "two"], [3, 3], other="kept")
    assert row["other"] == "kept" and "chosen" not in row


def test_text_that_was_cut_off_is_no_candidate():
    ends = ["stop", "length", "stop"]
    row = formatted(["one", "two", "three"], [3, 5, 4], finish_reasons=ends)
    assert (row["chosen"][-1]["content"], row["rejected"][-1]["content"]) == ("three", "one")
    for cut in (["length", "stop"], ["length", "length"]):
        assert formatted(["one", "two"], [3, 5], finish_reasons=cut)["drop_reason"] == "cut off"
    assert (
        formatted(["one", None], [3, 5], finish_reasons=["length", "stop"])["drop_reason"]
        == "empty completion"
    )
    for unknown in (None, [], ["stop"], [None, None]):
        assert "chosen" in formatted(["one", "two"], [3, 5], finish_reasons=unknown)


def test_system_prompt_stands_in_the_prompt_and_before_both_sides():
    row = formatted(["one", "two"], [1, 5], system_prompt="Be brief.")
    assert row["prompt"] == "Be brief.\n\nSay hi"
    for side in ("chosen", "rejected"):
        assert [message["role"] for message in row[side]] == ["system", "user", "assistant"]
        assert row[side][0]["content"] == "Be brief."
    assert formatted(["one", "two"], [1, 5], system_prompt=None)["prompt"] == "Say hi"


def test_the_same_pair_again_is_a_duplicate_within_a_run_and_over_its_batches():
    step = FormatTextGenerationDPO()
    row = {"instruction": "Say hi", "generations": ["one", "two"], "ratings": [1, 5]}
    others = [
        {**row, "system_prompt": "Be brief."},
        {**row, "instruction": "Say ho"},
        {**row, "generations": ["one", "three"]},
    ]
    for _ in range(2):  # a second run begins anew
        step.load()
        reasons = [
            done.get("drop_reason") for rows in ([row, row], [*others, row]) for done in run(step, rows)
        ]
        assert reasons == [None, "duplicate instruction", None, None, None, "duplicate instruction"]
        step.unload()
    for _ in range(2):  # outside a run each call stands alone
        assert [done.get("drop_reason") for done in run(step, [row])] == [None]


def test_true_and_false_are_no_ratings():
    assert formatted(["one", "two"], [True, False])["drop_reason"] == "missing rating"
    assert formatted(["one", "two", "three"], [True, 2, 4])["chosen_rating"] == 4


@pytest.mark.parametrize(
    "value", ['["one", "two"]', "one", 7, {"a": "one"}, [7, "two"], [["one"], "two"], [{}, 3]]
)
def test_completions_that_are_no_list_of_texts_are_an_error_that_shows_the_row(value):
    with pytest.raises(InputError, match="must be .*but a row has .*Say hi"):
        formatted(value, [1, 5])


def test_completions_may_be_conversations_arrays_or_the_empty_cells_of_a_table():
    talk = [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "two"}]
    row = formatted(np.array(["one", "three", math.nan], dtype=object), np.array([1.0, 5.0, 6.0]))
    assert (row["chosen"][-1]["content"], row["rejected"][-1]["content"]) == ("three", "one")
    assert formatted(["one", talk], [1, 5])["chosen"][-1]["content"] == "two"
    assert reason(None, [1, 5]) == reason(["one", math.nan], [1, 5]) == "empty completion"
    row = formatted(["one", "two"], [1, 5], generation_models=np.array(["a", "b"]))
    assert row["chosen_model"] == "b"


@pytest.mark.parametrize("nothing", [None, math.nan, 3])
def test_row_without_the_text_of_an_instruction_is_dropped(nothing):
    [row] = run(
        FormatTextGenerationDPO(), [{"instruction": nothing, "generations": ["a", "b"], "ratings": [1, 2]}]
    )
    assert row["drop_reason"] == "no instruction"


texts = st.one_of(
    st.none(), st.text(max_size=8), st.sampled_from(["", " ", "a", "A", "a ", "b c", "b  C", "İ"])
)
numbers = st.one_of(st.none(), st.floats(), st.integers(1, 5), st.sampled_from([1.0, 3, 3.0, 5]))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(texts, numbers), max_size=5), st.floats(0, 3), st.floats(0, 1), st.text(max_size=5))
def test_every_row_is_a_pair_of_different_texts_and_ratings_or_has_a_reason(
    rated, margin, alike, instruction
):
    step = FormatTextGenerationDPO(min_margin=margin, max_similarity=alike)
    before = {
        "instruction": instruction,
        "generations": [t for t, _ in rated],
        "ratings": [r for _, r in rated],
    }
    [row] = run(step, [before])
    assert before.items() <= row.items()
    if "drop_reason" in row:
        assert row["drop_reason"] in REASONS and "chosen" not in row
        return
    chosen, rejected = row["chosen"][-1]["content"], row["rejected"][-1]["content"]
    assert chosen.strip() and rejected.strip() and chosen != rejected
    assert row["chosen_rating"] > row["rejected_rating"]
    assert row["chosen_rating"] - row["rejected_rating"] >= margin
    assert (chosen, row["chosen_rating"]) in rated and (rejected, row["rejected_rating"]) in rated
    assert row["chosen_rating"] == max(
        r for t, r in rated if t and t.strip() and r is not None and math.isfinite(r)
    )


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_similarity_is_between_0_and_1_and_1_for_the_same_words(a, b):
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, a) == 1
    assert similarity(a, b) == similarity(b, a)
    if a.lower().split() == b.lower().split():
        assert similarity(a, b) == 1
    if similarity(a, b) == 1:
        assert letters(a) == letters(b)


@pytest.mark.parametrize(
    "text, changed",
    [
        ("東京は日本の首都であり、最大の都市です。", "東京は日本の首都であり、最大の都会です。"),
        (
            "北京是中华人民共和国的首都，也是全国的政治中心。",
            "北京是中华人民共和国的首府，也是全国的政治中心。",
        ),
        ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "กรุงเทพมหานครเป็นเมืองหลักของประเทศไทย"),
        (
            "서울은 대한민국의 수도이자 가장 큰 도시로 한강을 끼고 있다",
            "서울은 대한민국의 수도이자 가장 큰 도시로 한강을 끼고 있었다",
        ),
        (
            "Paris is the capital of France, and its largest city by far today.",
            "Paris is the capital of France and its biggest city by far today!",
        ),
    ],
    ids=["Japanese", "Chinese", "Thai", "Korean", "English"],
)
def test_near_copies_are_alike_and_other_texts_are_not_in_any_script(text, changed):
    assert 0.85 < similarity(text, changed) < 1
    assert similarity(text, changed[::-1]) < 0.5


@pytest.mark.parametrize("mark", ["!", " …", "。", "»", "\n\n", "*"])
def test_marks_and_case_do_not_tell_texts_apart(mark):
    text = "It’s the third planet, from the sun"
    assert similarity(text, text.upper() + mark) == similarity(text, mark + text.replace(",", "")) == 1
    assert reason([text, text + mark], [1, 5]) == "identical completions"
    assert similarity("five", "six") == similarity("", "six") == 0


def test_similarity_of_long_texts_takes_no_time():
    words = [f"w{n * n % 97}" for n in range(10_000)]
    started = time.perf_counter()
    assert 0.99 < similarity(" ".join(words), " ".join(words[:-9])) < 1
    assert similarity("a b " * 5000, "b a " * 5000) > 0.99
    assert time.perf_counter() - started < 2  # two comparisons that took minutes


def letters(text):
    """What of a text counts: neither case, nor spacing, nor punctuation."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return [letter for letter in plain if unicodedata.category(letter)[0] not in "PZC"]


# --- filtering and columns ----------------------------------------------------------------------------------------------


def test_filter_rows_marks_those_that_go_with_the_reason():
    step = FilterRows(keep=lambda row: row["n"] > 1, reason="small", columns=["n"])
    assert run(step, [{"n": 1}, {"n": 2}]) == [{"n": 1, "drop_reason": "small"}, {"n": 2}]
    assert step.inputs == ["n"] and FilterRows(keep=bool, reason="empty").inputs == []


def test_group_columns_makes_lists_in_the_order_of_the_branches():
    step = GroupColumns(columns=["text", "model"], output_columns=["texts", "models"])
    left = [{"id": 1, "text": "a", "model": "m"}, {"id": 2, "text": "b", "model": "m"}]
    right = [{"id": 1, "text": "c", "model": "n"}, {"id": 2, "text": None, "model": "n"}]
    assert run(step, left, right) == [
        {"id": 1, "texts": ["a", "c"], "models": ["m", "n"]},
        {"id": 2, "texts": ["b", None], "models": ["m", "n"]},
    ]


def test_group_columns_names_its_outputs_and_takes_the_old_ones_away():
    step = GroupColumns(columns=["text"])
    assert step.outputs == ["grouped_text"]
    assert step.columns_after({"id", "text"}) == {"id", "grouped_text"}
    assert run(step, [{"text": "a"}]) == [{"grouped_text": ["a"]}]


def test_group_columns_merges_metadata_and_keeps_other_columns_of_the_first():
    left = [{"text": "a", "other": 1, "distilabel_metadata": {"raw_output_a": "x", "both": "left"}}]
    right = [{"text": "b", "other": 2, "more": 3, "distilabel_metadata": {"raw_output_b": "y"}}]
    [row] = run(GroupColumns(columns=["text"]), left, right)
    assert (row["other"], row["more"], row["grouped_text"]) == (1, 3, ["a", "b"])
    assert row["distilabel_metadata"] == {"raw_output_a": "x", "both": "left", "raw_output_b": "y"}


def test_group_columns_takes_along_how_each_text_ended():
    step = GroupColumns(columns=["generation"], output_columns=["generations"])
    left, right = (
        [{"generation": "a", "finish_reason": "stop"}],
        [{"generation": "b", "finish_reason": "length"}],
    )
    assert run(step, left, right) == [{"generations": ["a", "b"], "finish_reasons": ["stop", "length"]}]
    assert run(step, left, [{"generation": "b"}])[0]["finish_reasons"] == ["stop", None]
    assert "finish_reasons" not in run(step, [{"generation": "a"}], [{"generation": "b"}])[0]
    assert step.columns_after({"generation", "finish_reason"}) == {"generations", "finish_reasons"}
    assert step.columns_after({"generation"}) == {"generations"}


def test_group_columns_leaves_the_ends_of_texts_alone_that_were_grouped_before():
    rows = [{"generations": ["a", "b"], "finish_reasons": ["stop", "length"], "ratings": [1, 2]}]
    [row] = run(GroupColumns(columns=["ratings"]), rows, rows)
    assert row["finish_reasons"] == ["stop", "length"] and row["grouped_ratings"] == [[1, 2], [1, 2]]


def test_group_columns_refuses_names_that_do_not_match_in_number():
    with pytest.raises(GraphError, match="2 columns but 1 output_columns"):
        GroupColumns(columns=["a", "b"], output_columns=["c"])


def test_keep_columns_keeps_these_in_this_order_and_nothing_else():
    step = KeepColumns(columns=["b", "a"])
    assert [list(row) for row in run(step, [{"a": 1, "b": 2, "c": 3}])] == [["b", "a"]]
    assert step.columns_after({"a", "b", "c"}) == {"a", "b"}


# --- what every step can do ----------------------------------------------------------------------------------------------


class Shout(Step):
    mark: str = "!"
    inputs = ["text"]
    outputs = ["loud"]

    def process(self, rows):
        yield [{**row, "loud": row["text"].upper() + self.mark} for row in rows]


def test_mappings_rename_on_the_way_in_and_out_and_leave_rows_alone():
    rows = [{"said": "hi", "other": 1}]
    assert run(Shout(input_mappings={"text": "said"}, output_mappings={"loud": "cry"}), rows) == [
        {"other": 1, "said": "hi", "cry": "HI!"}
    ]
    assert rows == [{"said": "hi", "other": 1}]


def test_output_may_replace_the_column_that_was_read():
    step = Shout(input_mappings={"text": "said"}, output_mappings={"loud": "said"})
    assert run(step, [{"said": "hi"}]) == [{"said": "HI!"}]


def test_column_with_the_name_of_a_mapped_input_survives():
    [row] = run(Shout(input_mappings={"text": "said"}), [{"said": "hi", "text": "mine"}])
    assert row == {"said": "hi", "text": "mine", "loud": "HI!"}


def test_settings_have_defaults_and_can_be_set_at_run_time():
    step = Shout(mark="?")
    step.set_parameters({"mark": "…", "input_batch_size": 7})
    assert (step.mark, step.input_batch_size, Shout().mark) == ("…", 7, "!")
    with pytest.raises(InputError, match="'shout_0' has no parameter 'marc'.*mark"):
        step.set_parameters({"marc": "!"})
    with pytest.raises(TypeError, match="marc"):
        Shout(marc="!")


def test_step_outside_a_pipeline_has_a_name_but_no_connections():
    assert Shout().name == "shout_0"
    with pytest.raises(GraphError, match="in no pipeline.*with Pipeline"):
        Shout() >> Shout()


def test_step_without_process_says_what_to_define():
    class Idle(Step):
        pass

    with pytest.raises(TypeError, match="Idle must define process"):
        run(Idle(), [{}])


def test_names_of_classes_and_columns():
    assert snake_case("FormatTextGenerationDPO") == "format_text_generation_dpo"
    assert snake_case("LoadDataFromHub") == "load_data_from_hub"
    assert required_columns({"a": True, "b": False}) == ["a"] and required_columns(["a", "b"]) == ["a", "b"]


def test_a_completion_that_repeats_the_whole_instruction_is_on_neither_side():
    question = "Name three rivers that flow into the Black Sea."
    texts = ["The Danube, the Dniester and the Dnieper.", f"{question} Danube.", "The Nile."]
    row = {"instruction": question, "generations": texts, "ratings": [5, 1, 2]}
    [pair] = next(FormatTextGenerationDPO().process([row]))
    assert [pair[side][-1]["content"] for side in ("chosen", "rejected")] == [texts[0], texts[2]]
    [lost] = next(FormatTextGenerationDPO().process([{**row, "generations": texts[:2], "ratings": [5, 1]}]))
    assert lost["drop_reason"] == "prompt repeated"
    short = {"instruction": "Say yes.", "generations": ["Say yes. Yes.", "No."], "ratings": [5, 1]}
    [kept] = next(FormatTextGenerationDPO().process([short]))
    assert kept["chosen"][-1]["content"] == "Say yes. Yes."
    asked = {**row, "input": "Only those in Europe.", "generations": texts[:2], "ratings": [5, 1]}
    [pair] = next(FormatTextGenerationDPO().process([asked]))
    assert pair["rejected"][-1]["content"] == texts[1], "a part of the prompt is not the whole of it"

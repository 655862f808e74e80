"""UltraFeedback: N completions in, N ratings out, in order, and nothing that a completion says becomes a rating."""

import pytest
from hostile import ToyLLM

from course_lib.errors import InputError
from course_lib.llms import ScriptedLLM, TransformersLLM
from course_lib.steps.tasks import UltraFeedback
from course_lib.steps.tasks.templating import names
from course_lib.steps.tasks.ultrafeedback import SCALE

ASPECTS = names("ultrafeedback")
ROW = {"instruction": "Capital of Spain?", "generations": ["Madrid", "Barcelona", "Bananas are yellow."]}
REPLY = """Ratings:

#### Text 1
Rating: 5
Rationale: Right.

Very.

#### Text 2
Rating: 2

#### Text 3
Rating: 1
Rationale: Off."""


def one(task, row=ROW):
    return next(task.process([row]))[0]


def explained(made):
    return made["distilabel_metadata"]["raw_output_ultra_feedback_0"]


def judge_of_words(good=5, bad=1):
    """A judge that gives a text with the word Madrid `good`, any other `bad`, in whatever order they come."""

    def reply(chat):
        texts = chat[-1]["content"].split("<text ")[1:]
        ratings = [good if "Madrid" in text else bad for text in texts]
        return "\n\n".join(
            f"#### Text {i}\nRating: {r}\nRationale: It is a {r}." for i, r in enumerate(ratings, start=1)
        )

    return ScriptedLLM(reply)


# --- N in, N out -------------------------------------------------------------------------------------------------------


def test_a_reply_is_parsed_into_ratings_and_rationales_in_order():
    made = one(UltraFeedback(llm=ScriptedLLM([REPLY])))
    assert made["ratings"] == [5.0, 2.0, 1.0]
    assert made["rationales"] == ["Right.\n\nVery.", None, "Off."]
    assert made["model_name"] == "scripted"
    assert made["generations"] == ROW["generations"]
    assert made["distilabel_metadata"]["raw_replies_ultra_feedback_0"] == {"overall-rating": [REPLY]}
    assert [text["mode"] for text in explained(made)["overall-rating"]] == ["text"] * 3


def test_what_cannot_be_read_is_none_with_its_reason_in_the_metadata():
    made = one(UltraFeedback(llm=ScriptedLLM(["#### Text 1\nRating: 8/10\n\n#### Text 3\nRating: 4"])))
    assert made["ratings"] == [None, None, 4.0]
    assert [text["reason"] for text in explained(made)["overall-rating"]] == [
        "off the scale: 8/10",
        "missing block",
        None,
    ]
    silent = one(UltraFeedback(llm=ScriptedLLM([None])))
    assert silent["ratings"] == [None] * 3
    assert explained(silent)["overall-rating"][0]["reason"] == "no reply"


@pytest.mark.parametrize("mode", ["text", "logits"])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_a_model_that_can_be_scored_gives_every_text_a_rating(mode, count):
    llm = ToyLLM()
    row = {"instruction": "Count.", "generations": [f"text {i}" for i in range(count)]}
    made = one(UltraFeedback(llm=llm, mode=mode), row)
    assert len(made["ratings"]) == len(made["rationales"]) == count
    assert all(1 <= rating <= 5 for rating in made["ratings"])
    assert made["rationales"] == (["Because."] if mode == "text" else [None]) * count
    assert len(llm.scored) == count and len(llm.written) == (count if mode == "text" else 0)


ORDERED = [{"mode": "text"}, {"mode": "text", "swap": True}, {"aspect": ASPECTS[:2]}]


@pytest.mark.parametrize(
    "llm, task",
    [(ToyLLM, {"mode": "logits"}), *((llm, task) for task in ORDERED for llm in (ToyLLM, judge_of_words))],
)
def test_empty_completions_have_a_reason_and_do_not_shift_the_others(llm, task):
    generations = [None, "Barcelona", "", "Madrid", " \n "]
    made = one(
        UltraFeedback(llm=llm(), **task), {"instruction": "Capital of Spain?", "generations": generations}
    )
    without = one(
        UltraFeedback(llm=llm(), **task),
        {"instruction": "Capital of Spain?", "generations": ["Barcelona", "Madrid"]},
    )
    assert made["ratings"] == [None, without["ratings"][0], None, without["ratings"][1], None]
    assert made["rationales"] == [None, without["rationales"][0], None, without["rationales"][1], None]
    for texts in explained(made).values():
        assert [text["reason"] for text in texts] == [
            "empty completion",
            None,
            "empty completion",
            None,
            "empty completion",
        ]


def test_rows_do_not_touch_each_other():
    rows = [
        ROW,
        {"instruction": "None?", "generations": []},
        {"instruction": "All empty?", "generations": ["", None]},
        {**ROW},
    ]
    for task in (
        UltraFeedback(llm=judge_of_words()),
        UltraFeedback(llm=ToyLLM()),
        UltraFeedback(llm=ToyLLM(), mode="logits"),
    ):
        first, none, empty, last = next(task.process(rows))
        assert first["ratings"] == last["ratings"] == one(task)["ratings"]
        assert (none["ratings"], empty["ratings"]) == ([], [None, None])
        assert next(task.process([])) == []


@pytest.mark.parametrize(
    "task", [{"mode": "text"}, {"mode": "logits"}, {"swap": True}, {"aspect": ASPECTS[:2]}]
)
@pytest.mark.parametrize("instruction", [None, "", 7])
def test_a_row_with_nothing_to_rate_has_reasons_and_its_instruction_is_not_read(task, instruction):
    llm = ToyLLM()
    rows = [
        ROW,
        {"instruction": instruction, "generations": [None, ""]},
        {"instruction": instruction, "generations": []},
    ]
    _, empty, none = next(UltraFeedback(llm=llm, **task).process(rows))
    assert (empty["ratings"], empty["rationales"], none["ratings"]) == ([None, None], [None, None], [])
    assert all(
        [text["reason"] for text in texts] == ["empty completion"] * 2 for texts in explained(empty).values()
    )
    with pytest.raises(InputError, match="'instruction' must be text"):
        one(UltraFeedback(llm=llm, **task), {"instruction": instruction, "generations": [None, "Madrid"]})


@pytest.mark.parametrize("reply", ["", " ", "\n"])
@pytest.mark.parametrize("task", [{}, {"mode": "logits", "rationales": True}, {"swap": True}])
def test_a_model_that_writes_nothing_gives_no_rationale(reply, task):
    made = one(UltraFeedback(llm=ToyLLM(reply=reply), **task))
    assert made["rationales"] == [None] * 3 and None not in made["ratings"]
    several = one(UltraFeedback(llm=ToyLLM(reply=reply), aspect=ASPECTS[:2], **task))
    assert several["rationales"] == several[f"rationales_{ASPECTS[0]}"] == [None] * 3


@pytest.mark.parametrize("swap", [False, True])
def test_the_metadata_holds_the_prompt_that_was_sent_for_each_aspect(swap):
    llm = ToyLLM(context=4_000)
    task = UltraFeedback(llm=llm, aspect=ASPECTS[:2], swap=swap, rationales=False)
    read = one(task, {**ROW, "generations": ["Madrid", "", "so " * 3_000]})["distilabel_metadata"][
        "raw_input_ultra_feedback_0"
    ]
    sent = [
        chat[1]["content"] for chat in llm.scored if chat[-1]["content"].endswith("#### Text 1\nRating: ")
    ]
    assert len(sent) == (4 if swap else 2) and read.count("═══ Prompt ") == 2
    assert [prompt in read for prompt in sent] == ([True, False] * 2 if swap else [True, True])


# --- aspects, orders, logits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["text", "logits"])
def test_several_aspects_give_a_column_each_and_the_mean(mode):
    task = UltraFeedback(llm=ToyLLM(), aspect=["helpfulness", "creativity"], mode=mode)
    made = one(task)
    assert set(task.outputs) <= set(made)
    for aspect in task.aspects:
        alone = one(UltraFeedback(llm=ToyLLM(), aspect=aspect, mode=mode))
        assert made[f"ratings_{aspect}"] == alone["ratings"]
        assert made[f"rationales_{aspect}"] == alone["rationales"]
    means = [
        (a + b) / 2 for a, b in zip(made["ratings_helpfulness"], made["ratings_creativity"], strict=True)
    ]
    assert made["ratings"] == pytest.approx(means, abs=1e-4)
    assert list(explained(made)) == ["helpfulness", "creativity"]


def test_swap_averages_both_orders_and_keeps_the_disagreement():
    first_is_best = ScriptedLLM(
        ["#### Text 1\nRating: 5\n\n#### Text 2\nRating: 3\n\n#### Text 3\nRating: 2"]
    )
    task = UltraFeedback(llm=first_is_best, swap=True)
    made = one(task)
    assert set(task.outputs) <= set(made)
    assert made["ratings"] == [3.5, 3.0, 3.5]
    assert made["ratings_disagreement"] == [3.0, 0.0, 3.0]
    assert [order["rating"] for order in explained(made)["overall-rating"][0]["orders"]] == [5.0, 2.0]
    assert len(made["distilabel_metadata"]["raw_replies_ultra_feedback_0"]["overall-rating"]) == 2
    fair = one(UltraFeedback(llm=judge_of_words(), swap=True))
    assert (fair["ratings"], fair["ratings_disagreement"]) == ([5, 1, 1], [0, 0, 0])
    assert fair["rationales"] == ["It is a 5.", "It is a 1.", "It is a 1."]


def test_swap_with_an_unread_order_keeps_the_other_and_says_so():
    made = one(
        UltraFeedback(llm=ScriptedLLM(["#### Text 1\nRating: 5\nRationale: Best."]), swap=True),
        {**ROW, "generations": ["a", "b"]},
    )
    assert (made["ratings"], made["ratings_disagreement"]) == ([5.0, 5.0], [None, None])
    first, second = explained(made)["overall-rating"]
    assert (first["reason"], second["reason"]) == (None, None)
    assert second["rationale"] == "Best."
    assert [order["reason"] for order in second["orders"]] == ["missing block", None]


def test_swap_and_aspects_together():
    task = UltraFeedback(llm=ToyLLM(), aspect=["helpfulness", "honesty"], swap=True)
    made = one(task)
    assert set(made) == {*ROW, *task.outputs, "distilabel_metadata"}
    for aspect in task.aspects:
        alone = one(UltraFeedback(llm=ToyLLM(), aspect=aspect, swap=True))
        assert made[f"ratings_disagreement_{aspect}"] == alone["ratings_disagreement"]
        assert made[f"ratings_{aspect}"] == alone["ratings"]
    gaps = zip(made["ratings_disagreement_helpfulness"], made["ratings_disagreement_honesty"], strict=True)
    assert made["ratings_disagreement"] == pytest.approx([sum(pair) / 2 for pair in gaps])


def test_rationales_of_several_aspects_stand_together_with_their_names():
    replies = {
        "Helpfulness": "Text 1\nRating: 4\nRationale: Of use.",
        "Creativity": "Text 1\nRating: 2\nRationale: Dull.",
    }
    llm = ScriptedLLM(
        lambda chat: next(reply for title, reply in replies.items() if title in chat[-1]["content"])
    )
    task = UltraFeedback(llm=llm, aspect=["helpfulness", "creativity"])
    made = one(task, {**ROW, "generations": ["Madrid", "", "Rome"]})
    assert made["rationales"] == ["helpfulness: Of use.\n\ncreativity: Dull.", None, None]
    assert made["rationales_helpfulness"] == ["Of use.", None, None]
    assert made["rationales_creativity"] == ["Dull.", None, None]


@pytest.mark.parametrize("mode", ["text", "logits"])
def test_every_rating_names_its_judge_and_its_mode(mode):
    made = one(UltraFeedback(llm=ToyLLM(), mode=mode), {**ROW, "generations": ["Madrid", ""]})
    assert [text["judge"] for text in explained(made)["overall-rating"]] == ["UltraFeedback, toy"] * 2
    assert [text["mode"] for text in explained(made)["overall-rating"]] == [mode] * 2


def test_a_logits_rating_is_the_mean_of_the_distribution():
    llm = ToyLLM()
    task = UltraFeedback(llm=llm, mode="logits")
    made = one(task)
    chats = [task.format_input(ROW, shown=[text]) for text in ROW["generations"]]
    means = llm.choice_probabilities(chats, SCALE, prefill="Rating: ") @ [1, 2, 3, 4, 5]
    assert made["ratings"] == pytest.approx(means.tolist(), abs=1e-4)
    for text, rating in zip(explained(made)["overall-rating"], made["ratings"], strict=True):
        assert sum(p * k for k, p in enumerate(text["distribution"], start=1)) == pytest.approx(
            rating, abs=1e-3
        )
        assert (text["mode"], text["reason"], text["rating"]) == ("logits", None, rating)


def test_a_text_rating_is_the_likeliest_digit():
    for text in explained(one(UltraFeedback(llm=ToyLLM())))["overall-rating"]:
        assert text["rating"] == 1 + max(range(5), key=text["distribution"].__getitem__)


def test_rationales_on_demand():
    assert one(UltraFeedback(llm=ToyLLM(), mode="logits", rationales=True))["rationales"] == ["Because."] * 3
    assert one(UltraFeedback(llm=ToyLLM(), rationales=False))["rationales"] == [None] * 3
    llm = ToyLLM()
    made = one(UltraFeedback(llm=llm, mode="logits", rationales=True))
    assert made["ratings"] == one(UltraFeedback(llm=ToyLLM(), mode="logits"))["ratings"]
    assert all(chat[-1]["content"].endswith("\nRationale:") for chat in llm.written)


# --- settings and prompts ----------------------------------------------------------------------------------------------


def test_wrong_settings_say_what_is_allowed():
    for aspect in ("beauty", ["helpfulness", "beauty"], []):
        with pytest.raises(InputError, match="unknown aspect.*allowed: creativity, deepening.*truthfulness"):
            UltraFeedback(llm=ToyLLM(), aspect=aspect)
    with pytest.raises(InputError, match="mode='stars'; allowed: 'text', 'logits'"):
        UltraFeedback(llm=ToyLLM(), mode="stars")
    with pytest.raises(InputError, match="needs probabilities.*mode='text'"):
        UltraFeedback(llm=ScriptedLLM([REPLY]), mode="logits")
    with pytest.raises(
        InputError, match="swap=True with mode='logits'.*no order.*mode='text', or leave out swap"
    ):
        UltraFeedback(llm=ToyLLM(), mode="logits", swap=True)
    task = UltraFeedback(llm=ScriptedLLM([REPLY]))
    task.set_parameters({"mode": "logits"})
    with pytest.raises(InputError, match="needs probabilities"):
        task.check()


@pytest.mark.parametrize(
    "row", [{"generations": "Madrid"}, {"generations": None}, {"generations": ["a", 4]}, {"instruction": " "}]
)
def test_rows_of_the_wrong_kind_are_errors_that_name_the_column(row):
    with pytest.raises(InputError, match=f"'{next(iter(row))}' must be"):
        one(UltraFeedback(llm=ToyLLM()), {**ROW, **row})


@pytest.mark.parametrize("mode", ["text", "logits"])
@pytest.mark.parametrize("aspect", ASPECTS)
def test_every_aspect_has_a_prompt_with_five_steps(aspect, mode):
    system, user = UltraFeedback(llm=ToyLLM(), aspect=aspect, mode=mode).format_input(ROW)
    steps = [
        line.split(":")[0]
        for line in user["content"].splitlines()
        if line[:2] in ("1.", "2.", "3.", "4.", "5.")
    ]
    assert steps == ["1. Poor", "2. Weak", "3. Fair", "4. Good", "5. Excellent"]
    assert (
        system["role"] == "system" and "Capital of Spain?" in user["content"] and "{{" not in user["content"]
    )
    shown = [text in user["content"] for text in ROW["generations"]]
    assert shown == ([True] * 3 if mode == "text" else [True, False, False])


def test_aspects_differ_in_their_prompts():
    prompts = {
        UltraFeedback(llm=ToyLLM(), aspect=aspect).format_input(ROW)[1]["content"] for aspect in ASPECTS
    }
    assert len(prompts) == len(ASPECTS) == 8


@pytest.mark.parametrize("mode", ["text", "logits"])
def test_print_shows_the_prompt_without_the_model(mode, capsys):
    llm = ToyLLM()
    UltraFeedback(llm=llm, mode=mode).print()
    shown = capsys.readouterr().out
    assert "<INSTRUCTION>" in shown and "<GENERATION 1>" in shown and "5. Excellent" in shown
    UltraFeedback(llm=llm, mode=mode).print({"instruction": "Say {{ x }}.", "generations": ["{% raw %}"]})
    shown = capsys.readouterr().out
    assert "Say {{ x }}." in shown and "{% raw %}" in shown
    assert llm.scored == llm.written == []


def test_metadata_of_earlier_steps_is_kept_and_raw_texts_can_be_left_out():
    row = {**ROW, "distilabel_metadata": {"raw_output_earlier_0": "x"}}
    made = one(UltraFeedback(llm=ToyLLM(), add_raw_input=False), row)["distilabel_metadata"]
    assert made["raw_output_earlier_0"] == "x" and "raw_input_ultra_feedback_0" not in made
    bare = one(UltraFeedback(llm=ScriptedLLM([REPLY]), add_raw_output=False))["distilabel_metadata"]
    assert list(bare) == ["raw_input_ultra_feedback_0"]


def test_texts_too_long_for_the_model_are_cut_in_the_middle_and_marked():
    long = "start " + "middle " * 3_000 + "end"
    row = {**ROW, "generations": ["Madrid", long]}
    for mode in ("text", "logits"):
        llm = ToyLLM(context=4_000)
        made = one(UltraFeedback(llm=llm, mode=mode), row)
        assert [text["shortened"] for text in explained(made)["overall-rating"]] == [False, True]
        read = llm.scored[-1][1]["content"]
        assert len(read) < 4_000 and "start middle" in read and " […] " in read and "middle end" in read
        assert "Capital of Spain?" in read


LONG = "start " + "middle " * 5_000 + "end"


def read_by(llm):
    """The texts of all prompts that the model scored or wrote on."""
    return ["".join(message["content"] for message in chat) for chat in llm.scored + llm.written]


@pytest.mark.parametrize("mode", ["text", "logits"])
@pytest.mark.parametrize("texts", [["Madrid", "Rome"], [LONG, "Rome"], [LONG] * 12])
def test_an_instruction_too_long_for_the_model_is_cut_in_the_middle_and_marked(mode, texts):
    llm = ToyLLM(context=9_000)
    made = one(
        UltraFeedback(llm=llm, mode=mode, rationales=True), {"instruction": LONG, "generations": texts}
    )
    assert None not in made["ratings"] and made["rationales"] == ["Because."] * len(texts)
    assert [text["shortened"] for text in explained(made)["overall-rating"]] == [True] * len(texts)
    for read in read_by(llm):
        assert (
            len(read) < 9_000
            and "5. Excellent" in read
            and "# Instruction\nstart" in read
            and " […] " in read
        )


@pytest.mark.parametrize("mode", ["text", "logits"])
def test_room_is_kept_for_rationales_only_where_they_are_written(mode):
    text = "word " * 60
    row = {"instruction": "Say a word.", "generations": [text]}
    frame = UltraFeedback(llm=ToyLLM(), mode=mode).format_input(row)
    length = sum(len(message["content"]) for message in frame)
    for rationales, whole in ((False, True), (True, False)):
        llm = ToyLLM(context=length + 150)
        made = one(UltraFeedback(llm=llm, mode=mode, rationales=rationales, rationale_tokens=60), row)
        assert explained(made)["overall-rating"][0]["shortened"] is not whole


@pytest.mark.parametrize("mode", ["text", "logits"])
def test_what_cannot_be_made_to_fit_has_a_reason_and_is_not_read_in_part(mode):
    llm = ToyLLM(context=600)
    short, long = next(UltraFeedback(llm=llm, mode=mode).process([{**ROW, "generations": [""]}, {**ROW}]))
    assert [text["reason"] for text in explained(short)["overall-rating"]] == ["empty completion"]
    assert long["ratings"] == long["rationales"] == [None] * 3
    reasons = [text["reason"] for text in explained(long)["overall-rating"]]
    assert reasons == ["longer than the context of the judge"] * 3 and read_by(llm) == []


def test_rationales_that_are_long_to_read_do_not_push_the_prompt_out():
    llm = ToyLLM(reply="x" * 1_000, context=4_500)
    made = one(UltraFeedback(llm=llm), {**ROW, "generations": list("abcdefg")})
    assert made["rationales"] == ["x" * 1_000] * 7 and None not in made["ratings"]
    assert max(map(len, read_by(llm))) < 4_500
    assert "Text 1\nRating: " in llm.scored[-1][-1]["content"] and "[…]" in llm.scored[-1][-1]["content"]


def test_a_long_instruction_leaves_room_for_ratings_and_rationales_on_a_real_model():
    llm = TransformersLLM("smollm2-135m", use_cache=False, generation_kwargs={"temperature": 0})
    llm.context = 800
    task = UltraFeedback(llm=llm, rationale_tokens=8)
    made = one(task, {"instruction": "Name a city. " * 400, "generations": ["Madrid", "Rome"]})
    llm.unload()
    assert None not in made["ratings"] and None not in made["rationales"]
    assert [text["shortened"] for text in explained(made)["overall-rating"]] == [True, True]

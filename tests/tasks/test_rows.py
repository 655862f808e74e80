"""What rows bring: whole prompts reach writers and judges, ends of texts stay known, lists are lists or an error."""

import numpy as np
import pytest
from hostile import ToyLLM

from course_lib.errors import InputError
from course_lib.llms import ScriptedLLM
from course_lib.llms.base import LLM
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts
from course_lib.steps.tasks import (
    ChatGeneration,
    EvolInstruct,
    EvolQuality,
    LikelihoodRating,
    RewardHeadRating,
    TextGeneration,
    UltraFeedback,
    YesNoRating,
)

ROW = {"instruction": "Why is the sky blue?", "response": "Because of light."}
SYSTEM = {"system_prompt": "Answer as a sailor."}
GOOD = "The sky looks blue because air scatters blue light from the sun far more than red light."


class Cutting(LLM):
    """Writes each of `texts` in turn with the reason why it stopped."""

    model_name: str = "cutting"
    texts: list[tuple[str | None, str]]

    def write(self, requests, wanted):
        for position in sorted(wanted):
            text, reason = self.texts.pop(0)
            yield {position: {"text": text, "input_tokens": 1, "output_tokens": 1, "finish_reason": reason}}


def one(task, row):
    return next(task.process([row]))[0]


# --- the whole prompt --------------------------------------------------------------------------------------------------


def test_a_row_brings_its_system_prompt_and_it_goes_before_that_of_the_task():
    own, task = {"role": "system", "content": SYSTEM["system_prompt"]}, "You are terse."
    asked = {"role": "user", "content": ROW["instruction"]}
    assert TextGeneration(llm=ScriptedLLM([GOOD])).format_input({**ROW, **SYSTEM}) == [own, asked]
    write = TextGeneration(llm=ScriptedLLM([GOOD]), system_prompt=task)
    both = {"role": "system", "content": f"{SYSTEM['system_prompt']}\n\n{task}"}
    assert write.format_input({**ROW, **SYSTEM}) == [both, asked]
    assert write.format_input(ROW) == [{"role": "system", "content": task}, asked]
    filled_in = TextGeneration(llm=ScriptedLLM([GOOD]), template="Say: {{ instruction }}")
    assert filled_in.format_input({**ROW, **SYSTEM}) == [
        own,
        {"role": "user", "content": f"Say: {ROW['instruction']}"},
    ]


def test_a_rewrite_is_asked_for_under_the_system_prompt_of_its_row():
    task = EvolQuality(llm=ScriptedLLM([GOOD]))
    [alone], [system, user] = task.format_input(ROW), task.format_input({**ROW, **SYSTEM})
    assert (system, user) == ({"role": "system", "content": SYSTEM["system_prompt"]}, alone)
    assert one(task, {**ROW, **SYSTEM})["distilabel_metadata"]["raw_input_evol_quality_0"] == [[system, user]]
    assert one(task, {**ROW, "input": "A photo."})["evolution_criteria"] == [task.criterion(ROW)]


def test_a_system_prompt_that_asks_for_another_language_makes_its_rewrite_no_switch():
    french = "Le ciel est bleu parce que l'air diffuse la lumière bleue du soleil plus que la rouge."
    task = EvolQuality(llm=ScriptedLLM([french]))
    assert one(task, ROW)["evolution_failures"] == ["language switch"]
    assert one(task, {**ROW, "system_prompt": "Answer in French."})["evolved_response"] == french


@pytest.mark.parametrize("nothing", [None, "", " ", float("nan")])
def test_rows_without_a_system_prompt_are_asked_as_before(nothing):
    for task in (TextGeneration(llm=ScriptedLLM([GOOD])), EvolQuality(llm=ScriptedLLM([GOOD]))):
        assert task.format_input({**ROW, "system_prompt": nothing}) == task.format_input(ROW)
    for mode in ("text", "logits"):
        judge, row = UltraFeedback(llm=ToyLLM(), mode=mode), {**ROW, "generations": [GOOD]}
        assert judge.format_input({**row, "system_prompt": nothing}) == judge.format_input(row)


def test_a_system_prompt_that_is_no_text_is_an_error():
    for task in (TextGeneration(llm=ScriptedLLM([GOOD])), EvolQuality(llm=ScriptedLLM([GOOD]))):
        with pytest.raises(InputError, match="'system_prompt' .*must be text"):
            one(task, {**ROW, "system_prompt": 7})


@pytest.mark.parametrize("more", [SYSTEM, {"input": "A photo of it."}])
@pytest.mark.parametrize("mode", ["text", "logits", "yes or no"])
def test_a_judge_that_asks_in_words_reads_the_whole_prompt(more, mode):
    llm = ToyLLM()
    judge = YesNoRating(llm=llm) if mode == "yes or no" else UltraFeedback(llm=llm, mode=mode)
    row = {"instruction": ROW["instruction"], "generations": [GOOD, "Light."]}
    assert None not in one(judge, {**row, **more})["ratings"]
    [extra] = more.values()
    read = [chat[-1 if chat[-1]["role"] == "user" else -2]["content"] for chat in llm.scored]
    assert all(extra in text and ROW["instruction"] in text for text in read)


def test_a_panel_reads_the_whole_prompt_as_a_chat():
    row = {**ROW, **SYSTEM, "generations": [GOOD]}
    panel = [ToyLLM(model_name=name) for name in ("smollm2-135m", "gemma-3-270m")]
    for judge in (LikelihoodRating(panel=panel), RewardHeadRating(panel=panel)):
        chat = [
            {"role": "system", "content": SYSTEM["system_prompt"]},
            {"role": "user", "content": ROW["instruction"]},
        ]
        assert judge.format_input(row) == chat
        assert one(judge, row)["ratings"] != one(judge, {**row, "system_prompt": None})["ratings"]


def test_a_constraint_of_the_system_prompt_counts():
    panel = [ToyLLM(model_name=name) for name in ("smollm2-135m", "gemma-3-270m")]
    row = {**ROW, "system_prompt": "Answer in one word.", "generations": ["Scattering.", GOOD]}
    how = one(RewardHeadRating(panel=panel), row)["distilabel_metadata"]["raw_output_reward_head_rating_0"]
    assert [entry["broken"] for entry in how] == ["", "1 word"]
    row = {"instruction": "Translate it.", "input": "Answer in one word.", "generations": [GOOD]}
    how = one(RewardHeadRating(panel=panel), row)["distilabel_metadata"]["raw_output_reward_head_rating_0"]
    assert how[0]["broken"] == ""


# --- how a text ended --------------------------------------------------------------------------------------------------


def test_a_written_text_keeps_why_it_ended():
    for task in (TextGeneration, ChatGeneration):
        row = {**ROW, "messages": [{"role": "user", "content": "Why?"}]}
        write = task(llm=Cutting(texts=[("The sky", "length")]))
        made = one(write, row)
        assert made["finish_reason"] == "length" and set(write.outputs) <= set(made)
        many = task(llm=Cutting(texts=[("The", "length"), ("So.", "stop")]), num_generations=2)
        assert [row["finish_reason"] for row in next(many.process([row]))] == ["length", "stop"]
        texts = [("The", "length"), ("So.", "stop")]
        group = task(llm=Cutting(texts=texts), num_generations=2, group_generations=True)
        made = one(group, row)
        assert (made["generation"], made["finish_reasons"]) == (["The", "So."], ["length", "stop"])
        assert set(group.outputs) <= set(made) and "finish_reason" not in made


def test_a_row_without_an_instruction_says_so_where_a_text_would_say_why_it_ended():
    assert (
        one(TextGeneration(llm=ScriptedLLM([GOOD])), {"instruction": None})["finish_reason"]
        == "no instruction"
    )


LONGER = "Blue light has short waves, so air scatters it most of all the colours."


@pytest.mark.parametrize(
    "before, ends, expected",
    [
        ("stop", ["stop", "stop"], ["stop", "stop"]),
        ("length", ["stop", "stop"], ["length", "length"]),
        ("stop", ["length", "stop"], ["length", "length"]),
        ("stop", ["stop", "length"], ["stop", "length"]),
        (None, ["stop", "length"], ["stop", "length"]),
    ],
)
def test_a_rewrite_of_a_text_that_was_cut_off_and_one_that_is_cut_off_are_marked(before, ends, expected):
    row = {**ROW, "finish_reason": before} if before else ROW
    for store in (False, True):
        texts = list(zip([GOOD, LONGER], ends, strict=True))
        task = EvolQuality(llm=Cutting(texts=texts), num_evolutions=2, store_evolutions=store)
        made = one(task, row)
        assert made["evolution_failures"] == [None, None] and set(task.outputs) <= set(made)
        if store:
            assert made["finish_reasons"] == expected
        else:
            assert made["finish_reason"] == expected[-1]
    originals = EvolQuality(
        llm=Cutting(texts=[(GOOD, "stop")]), store_evolutions=True, include_original_response=True
    )
    assert one(originals, row)["finish_reasons"] == [before, "length" if before == "length" else "stop"]


def test_a_rewrite_that_was_refused_marks_nothing():
    texts = [("***", "length"), ("***", "length"), (GOOD, "stop")]
    task = EvolQuality(llm=Cutting(texts=texts), num_evolutions=2)
    made = one(task, {**ROW, "finish_reason": "stop"})
    assert (made["evolved_response"], made["finish_reason"]) == (GOOD, "stop")


def test_a_harder_instruction_says_nothing_of_how_the_generation_ended():
    made = one(
        EvolInstruct(llm=Cutting(texts=[("Why is it blue at noon?", "stop")])),
        {**ROW, "finish_reason": "length"},
    )
    assert made["finish_reason"] == "length" and made["evolved_instruction"]


def test_a_text_that_was_cut_off_reaches_no_pair():
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": "Why?"}])
        ends = [("So it is, and", "length"), ("Because of the light.", "stop"), ("No idea at all.", "stop")]
        writers = [TextGeneration(llm=Cutting(texts=[end], model_name=str(i))) for i, end in enumerate(ends)]
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
        )
        reply = "\n\n".join(f"#### Text {i}\nRating: {6 - i}" for i in range(1, 4))
        load >> writers >> group >> UltraFeedback(llm=ScriptedLLM([reply])) >> FormatTextGenerationDPO()
    [row] = pipeline.run(use_cache=False, progress=False)["default"]["train"]
    assert row["finish_reasons"] == ["length", "stop", "stop"]
    assert (row["chosen"][-1]["content"], row["rejected"][-1]["content"]) == (ends[1][0], ends[2][0])


def test_the_last_word_of_a_reply_that_was_cut_off_is_no_rating():
    reply = "#### Text 1\nRating: 2\n\n#### Text 2\nRating: 1"
    row = {"instruction": "Why?", "generations": ["Light.", "Air."]}
    for reason, expected in (("stop", [2, 1]), ("length", [2, None])):
        assert one(UltraFeedback(llm=Cutting(texts=[(reply, reason)])), row)["ratings"] == expected


# --- lists -------------------------------------------------------------------------------------------------------------

JUDGES = {
    "text": lambda: UltraFeedback(llm=ToyLLM()),
    "logits": lambda: UltraFeedback(llm=ToyLLM(), mode="logits"),
    "yes or no": lambda: YesNoRating(llm=ToyLLM()),
    "likelihood": lambda: LikelihoodRating(panel=[ToyLLM(), ToyLLM(model_name="other")]),
}


@pytest.fixture(params=JUDGES)
def judge(request):
    return JUDGES[request.param]()


def as_array(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize("kind", [tuple, as_array])
def test_lists_of_any_kind_are_lists(judge, kind):
    texts, models = ["Light.", None, GOOD], ["toy", "toy", "other"]
    row = {"instruction": "Why?", "generations": texts, "generation_models": models}
    usual = one(judge, row)["ratings"]
    given = {**row, "generations": kind(texts), "generation_models": kind(models)}
    assert one(judge, given)["ratings"] == usual and usual[1] is None


def test_an_empty_cell_is_no_text_and_a_chat_is_its_last_message(judge):
    usual = one(judge, {"instruction": "Why?", "generations": ["Light.", None]})["ratings"]
    chat = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Light."}]
    assert one(judge, {"instruction": "Why?", "generations": [chat, float("nan")]})["ratings"] == usual


WRONG = [
    '["Light.", "Rayleigh."]',
    "Light.",
    None,
    float("nan"),
    5,
    {"a": 1},
    ["Light.", 5],
    [["Light."]],
    [{}],
    [b"x"],
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_no_list_of_texts_is_one_error_that_names_row_and_column(judge, value):
    with pytest.raises(
        InputError, match=r"the column 'generations' must be a list.*\{'instruction': 'Why\?'"
    ):
        one(judge, {"instruction": "Why?", "generations": value})


@pytest.mark.parametrize("value", ['["toy"]', 5])
def test_models_that_are_no_list_are_an_error_and_no_letters(value):
    row = {"instruction": "Why?", "generations": ["Light."], "generation_models": value}
    with pytest.raises(InputError, match="'generation_models' must be a list"):
        one(JUDGES["likelihood"](), row)


@pytest.mark.parametrize("value", ['[{"role": "user", "content": "Why?"}]', "Why?", 5])
def test_messages_that_are_no_list_are_an_error(value):
    with pytest.raises(InputError, match="'messages' must be a list"):
        one(ChatGeneration(llm=ScriptedLLM(["So."])), {"messages": value})
    chat = as_array([{"role": "user", "content": "Why?"}])
    assert one(ChatGeneration(llm=ScriptedLLM(["So."])), {"messages": chat})["generation"] == "So."


def test_an_empty_cell_in_place_of_a_text_is_not_asked_about():
    made = one(TextGeneration(llm=ScriptedLLM([GOOD])), {"instruction": float("nan")})
    assert (made["generation"], made["finish_reason"]) == (None, "no instruction")
    made = one(EvolQuality(llm=ScriptedLLM([GOOD])), {**ROW, "response": float("nan")})
    assert made["evolution_failures"] == ["no response"]
    for value in (5, ["Why?"], {"a": 1}):
        with pytest.raises(InputError, match="'instruction' must be text"):
            one(TextGeneration(llm=ScriptedLLM([GOOD])), {"instruction": value})

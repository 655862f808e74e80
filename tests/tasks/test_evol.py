"""EvolQuality and EvolInstruct: criteria that stick to their rows; rewrites are checked, retried once, never templates."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import InputError
from course_lib.llms import ScriptedLLM, TransformersLLM
from course_lib.llms.base import LLM
from course_lib.steps.tasks import EvolInstruct, EvolQuality, TextGeneration, UltraFeedback
from course_lib.steps.tasks.rewrites import rewrite_fault

GOOD = "The sky looks blue because air scatters blue light from the sun far more than red light."
ROW = {"instruction": "Why is the sky blue?", "response": "Because of light."}


class RecordingLLM(LLM):
    """Answers from a function of chat and seed, and keeps what it was asked."""

    model_name = "recording"

    def __init__(self, reply, **kwargs):
        super().__init__(use_cache=False, **kwargs)
        self.reply, self.asked, self.arguments = reply, [], []

    def write(self, requests, wanted):
        for position in sorted(wanted):
            request = requests[position]
            self.asked.append((request.chat[-1]["content"], request.arguments["seed"]))
            self.arguments.append(request.arguments)
            text = self.reply(*self.asked[-1])
            yield {
                position: {
                    "text": text,
                    "input_tokens": 1,
                    "output_tokens": 1,
                    "finish_reason": "stop" if text else "broke",
                }
            }


def quality(reply, **kwargs):
    llm = ScriptedLLM(reply if callable(reply) else [reply])
    return EvolQuality(llm=llm, **kwargs)


def one(task, row=ROW):
    return next(task.process([row]))[0]


# --- criteria --------------------------------------------------------------------------------------------------------


def test_the_criterion_belongs_to_the_row_and_the_seed_not_to_the_place():
    rows = [{"instruction": f"Question {i}?", "response": f"Answer {i}."} for i in range(12)]
    task = quality(GOOD, num_evolutions=2)
    together = {row["instruction"]: row["evolution_criteria"] for row in next(task.process(rows))}
    for row in rows:
        assert one(quality(GOOD, num_evolutions=2), row)["evolution_criteria"] == together[row["instruction"]]
    assert {
        row["instruction"]: row["evolution_criteria"] for row in next(task.process(rows[::-1]))
    } == together
    assert len({criterion for criteria in together.values() for criterion in criteria}) == 5
    other = {
        row["instruction"]: row["evolution_criteria"]
        for row in next(quality(GOOD, num_evolutions=2, seed=1).process(rows))
    }
    assert other != together


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5), st.randoms())
def test_the_criterion_in_any_batch(texts, random):
    rows = [{"instruction": text, "response": text[::-1]} for text in texts]
    alone = [one(quality(GOOD), row)["evolution_criteria"] for row in rows]
    order = random.sample(range(len(rows)), len(rows))
    shuffled = next(quality(GOOD).process([rows[i] for i in order]))
    assert [row["evolution_criteria"] for row in shuffled] == [alone[i] for i in order]


def test_the_prompt_holds_the_criterion_that_the_row_keeps():
    for criterion in quality(GOOD).criteria:
        made = one(quality(GOOD, mutation_templates=[criterion]))
        assert made["evolution_criteria"] == [criterion]
        [[message]] = made["distilabel_metadata"]["raw_input_evol_quality_0"]
        assert "Make it" in message["content"] and ROW["instruction"] in message["content"]
    prompts = {
        quality(GOOD).format_input(ROW, criterion)[0]["content"] for criterion in quality(GOOD).criteria
    }
    assert len(prompts) == 5


@pytest.mark.parametrize("task", [EvolQuality, EvolInstruct])
def test_unknown_settings_say_what_is_allowed(task):
    with pytest.raises(InputError, match="unknown criterion longer.*allowed: .*deepening"):
        task(llm=ScriptedLLM([GOOD]), mutation_templates=["longer"])
    with pytest.raises(InputError, match="allowed: 1 or more"):
        task(llm=ScriptedLLM([GOOD]), num_evolutions=0)


@pytest.mark.parametrize("task", [EvolQuality, EvolInstruct])
def test_the_original_is_kept_only_in_a_list(task):
    name = f"include_original_{task.subject}"
    with pytest.raises(InputError, match=f"{name}=True needs store_evolutions=True"):
        task(llm=ScriptedLLM([GOOD]), **{name: True})
    made = one(task(llm=ScriptedLLM([GOOD]), store_evolutions=True, **{name: True}))
    assert made[f"evolved_{task.subject}s"] == [ROW[task.subject], GOOD]


# --- what happens to a rewrite -----------------------------------------------------------------------------------------


PARIS = {"instruction": "What is the capital of France?", "response": "It is Paris."}
FAULTY = {
    "empty": "***",
    "no change": "**It is Paris!**",
    "prompt leaked": "Better answer: Paris, on the Seine.",
    "refusal": "I'm sorry, but I can't help with that.",
    "language switch": "パリはフランスの首都です。",
    "too long": "Paris is lovely in spring. " * 40,
    "repetition": "Paris is lovely in spring. " * 10,
}


@pytest.mark.parametrize("fault, rewrite", FAULTY.items())
def test_a_failed_rewrite_is_drawn_once_more_then_kept_with_its_reason(fault, rewrite):
    llm = RecordingLLM(lambda prompt, seed: rewrite, generation_kwargs={"seed": 7})
    made = one(EvolQuality(llm=llm, mutation_templates=["details"]), PARIS)
    assert [seed for _, seed in llm.asked] == [7, 8]
    assert len({prompt for prompt, _ in llm.asked}) == 1
    assert made["evolved_response"] is None
    assert made["evolution_failures"] == [fault]
    assert made["distilabel_metadata"]["raw_output_evol_quality_0"] == [rewrite] * 2
    assert made["response"] == "It is Paris."


def test_only_the_rows_that_failed_are_drawn_again_and_the_second_draw_counts():
    llm = RecordingLLM(lambda prompt, seed: GOOD if "Why" in prompt or seed == 1 else "***")
    rows = [{"instruction": "Why so?", "response": "So."}, {"instruction": "How so?", "response": "So."}]
    made = next(EvolQuality(llm=llm).process(rows))
    assert [seed for _, seed in llm.asked] == [0, 0, 1]
    assert [row["evolved_response"] for row in made] == [GOOD, GOOD]
    assert [row["evolution_failures"] for row in made] == [[None], [None]]
    assert made[1]["distilabel_metadata"]["raw_output_evol_quality_0"] == ["***", GOOD]
    assert len(made[1]["distilabel_metadata"]["statistics_evol_quality_0"]) == 2


def test_a_model_that_cannot_write_is_a_reason():
    made = one(EvolQuality(llm=RecordingLLM(lambda prompt, seed: None)))
    assert (made["evolved_response"], made["evolution_failures"]) == (None, ["broke"])


@pytest.mark.parametrize("response", [None, "", "  \n"])
@pytest.mark.parametrize("evolutions, store", [(1, False), (3, False), (2, True)])
def test_without_a_response_the_model_is_not_asked_and_the_columns_are_there(response, evolutions, store):
    llm = RecordingLLM(lambda prompt, seed: GOOD)
    task = EvolQuality(llm=llm, num_evolutions=evolutions, store_evolutions=store)
    made = one(task, {"instruction": "Why?", "response": response})
    assert llm.asked == []
    assert set(task.outputs) <= set(made)
    assert made["evolution_failures"] == ["no response"] * evolutions
    assert len(made["evolution_criteria"]) == evolutions
    assert made["evolved_responses" if store else "evolved_response"] == (
        [None] * evolutions if store else None
    )


@pytest.mark.parametrize("task", [EvolQuality, EvolInstruct])
def test_without_an_instruction_the_model_is_not_asked_and_the_others_go_on(task):
    llm = RecordingLLM(lambda prompt, seed: GOOD)
    rows = [{"instruction": None, "response": "So."}, ROW]
    lost, kept = next(task(llm=llm, num_evolutions=2).process(rows))
    name = f"evolved_{task.subject}"
    assert (lost[name], lost["evolution_failures"]) == (None, ["no instruction"] * 2)
    assert kept[name] == GOOD and all(
        ROW["instruction"] in prompt or GOOD in prompt for prompt, _ in llm.asked
    )


def test_a_failed_rewrite_of_the_instruction_does_not_end_a_chain_of_tasks():
    harder = EvolInstruct(llm=ScriptedLLM(["***"]), output_mappings={"evolved_instruction": "harder"})
    [row] = next(harder.apply([ROW]))
    [made] = next(EvolQuality(llm=ScriptedLLM([GOOD]), input_mappings={"instruction": "harder"}).apply([row]))
    assert row["harder"] is None and row["evolution_failures"] == ["empty"]
    assert made["evolution_failures"] == ["no instruction"] and made["instruction"] == ROW["instruction"]


@pytest.mark.parametrize(
    "row, column", [({"response": "x"}, "instruction"), ({"instruction": "x"}, "response")]
)
def test_a_column_that_is_not_there_is_an_error_that_names_it(row, column):
    with pytest.raises(InputError, match=f"needs the column '{column}'"):
        one(quality(GOOD), row)


@pytest.mark.parametrize("row", [{**ROW, "instruction": 7}, {**ROW, "response": 7}, {**ROW, "response": 0}])
def test_a_value_that_is_no_text_is_an_error(row):
    with pytest.raises(InputError, match="must be text"):
        one(quality(GOOD), row)


def test_rows_without_a_response_do_not_shift_the_others():
    rows = [{"instruction": "A?", "response": None}, ROW, {"instruction": "B?", "response": ""}]
    assert [row["evolved_response"] for row in next(quality(GOOD).process(rows))] == [None, GOOD, None]
    assert next(quality(GOOD).process([])) == []


def test_an_empty_instruction_is_an_error_that_names_the_column():
    with pytest.raises(InputError, match="'instruction' must be text"):
        one(quality(GOOD), {"instruction": "", "response": "x"})


# --- several evolutions ------------------------------------------------------------------------------------------------

CHAIN = [
    "Light is scattered by the air.",
    "Air scatters blue light the most.",
    "Blue light has short waves, so air scatters it most.",
]


def next_in_chain(chat):
    prompt = chat[-1]["content"]
    return next(
        text
        for text, before in zip(CHAIN, ["Because of light.", *CHAIN], strict=False)
        if f"\n{before}\n" in prompt
    )


def test_each_evolution_rewrites_the_one_before():
    assert one(quality(next_in_chain, num_evolutions=3))["evolved_response"] == CHAIN[2]
    made = one(quality(next_in_chain, num_evolutions=3, store_evolutions=True))
    assert made["evolved_responses"] == CHAIN
    assert "evolved_response" not in made
    assert len(made["evolution_criteria"]) == len(made["evolution_failures"]) == 3
    kept = one(
        quality(next_in_chain, num_evolutions=2, store_evolutions=True, include_original_response=True)
    )
    assert kept["evolved_responses"] == ["Because of light.", *CHAIN[:2]]


def test_after_a_failure_the_chain_goes_on_from_the_last_good_text():
    llm = RecordingLLM(lambda prompt, seed: CHAIN[0] if "\nBecause of light.\n" in prompt else "***")
    made = one(EvolQuality(llm=llm, num_evolutions=3))
    assert made["evolved_response"] == CHAIN[0]
    assert made["evolution_failures"] == [None, "empty", "empty"]
    stored = one(EvolQuality(llm=llm, num_evolutions=2, store_evolutions=True))
    assert stored["evolved_responses"] == [CHAIN[0], None]


def test_a_prompt_that_failed_before_gets_a_seed_that_it_has_not_had():
    llm = RecordingLLM(lambda prompt, seed: GOOD if seed == 11 else "***", generation_kwargs={"seed": 7})
    made = one(EvolQuality(llm=llm, num_evolutions=3, mutation_templates=["details"]))
    assert [seed for _, seed in llm.asked] == [7, 8, 9, 10, 11]
    assert made["evolution_failures"] == ["empty", "empty", None] and made["evolved_response"] == GOOD


def test_no_row_asks_the_same_twice_whatever_its_criteria():
    llm = RecordingLLM(lambda prompt, seed: "***")
    next(
        EvolQuality(llm=llm, num_evolutions=12).process(
            [{**ROW, "instruction": f"Why {i}?"} for i in range(8)]
        )
    )
    assert len(set(llm.asked)) == len(llm.asked) == 8 * 12 * 2


def test_a_new_prompt_begins_with_the_seed_of_the_model_in_every_evolution():
    answers = iter(CHAIN)
    llm = RecordingLLM(lambda prompt, seed: next(answers))
    assert one(EvolQuality(llm=llm, num_evolutions=3))["evolution_failures"] == [None] * 3
    assert [seed for _, seed in llm.asked] == [0, 0, 0]


def test_a_row_keeps_its_draws_in_any_company():
    def reply(prompt, seed):
        return GOOD if seed == len(prompt) % 5 else "***"

    def task():
        return EvolQuality(llm=RecordingLLM(reply), num_evolutions=4, mutation_templates=["details"])

    rows = [{"instruction": "Why" + "?" * i, "response": "So."} for i in range(1, 9)]
    together = next(task().process(rows))
    assert len({tuple(row["evolution_failures"]) for row in together}) > 2
    for row, made in zip(rows, together, strict=True):
        assert one(task(), row) == made


@pytest.mark.parametrize(
    "greedy", [{"temperature": 0}, {"do_sample": False}, {"do_sample": False, "temperature": 0.3}]
)
def test_a_retry_of_greedy_decoding_samples(greedy, arguments_asked):
    assert [(a["temperature"], a["seed"]) for a in arguments_asked({**greedy, "top_k": 5})] == [
        (0, 0),
        (0.7, 1),
    ]
    assert {a["top_k"] for a in arguments_asked({**greedy, "top_k": 5})} == {5}


def test_a_retry_of_sampling_keeps_its_temperature(arguments_asked):
    assert [(a["temperature"], a["seed"]) for a in arguments_asked({"temperature": 0.3, "seed": None})] == [
        (0.3, 0),
        (0.3, 1),
    ]


@pytest.fixture
def arguments_asked():
    """The sampling arguments of both attempts at a rewrite that fails, for a model with the given ones."""

    def asked(given):
        llm = RecordingLLM(lambda prompt, seed: "***", generation_kwargs=given)
        one(EvolQuality(llm=llm))
        return llm.arguments

    return asked


def test_the_first_attempt_is_found_in_the_cache_under_the_arguments_of_the_model():
    for arguments in ({}, {"temperature": 0.0, "seed": 3}, {"do_sample": False}):
        llm = ScriptedLLM([GOOD], use_cache=True, generation_kwargs=arguments)
        llm.generate([quality(GOOD).format_input(ROW)])
        one(EvolQuality(llm=llm))
        assert (llm.usage.new, llm.usage.cached) == (1, 1)


# --- values, never templates -------------------------------------------------------------------------------------------

VALUES = ["<PROMPT> and <RESPONSE>", "{{ response }}{{ 7*7 }}", "{% if x %}y{% endif %}{% raw %}", "{# note #}",
          "# Response\n# Better answer", "a\r\nb", "\x00\x1b[31m", "<|im_start|>system",
          "{{ cycler.__init__.__globals__ }}", "%s {0} ${x}"]  # fmt: skip


@pytest.mark.parametrize(
    "instruction, response", [*itertools.product(VALUES, ["Yes."]), *itertools.product(["Why?"], VALUES)]
)
def test_instruction_and_response_are_values(instruction, response):
    chat = quality(GOOD).format_input({"instruction": instruction, "response": response}, "details")
    plain = quality(GOOD).format_input({"instruction": "INSTRUCTION", "response": "RESPONSE"}, "details")
    assert chat[0]["content"] == plain[0]["content"].replace("RESPONSE", response).replace(
        "INSTRUCTION", instruction
    )
    made = one(quality(GOOD), {"instruction": instruction, "response": response})
    assert (made["evolved_response"], made["instruction"], made["response"]) == (GOOD, instruction, response)


def test_headings_of_the_prompt_in_the_response_are_no_leak():
    row = {"instruction": "Mend this page.", "response": "# Question\nWhy?\n# Better answer\nSo."}
    better = "# Question\nWhy is that?\n# Better answer\nIt is so because it was so, all along."
    assert one(quality(better), row)["evolved_response"] == better


class PlainLLM(LLM):
    """As users of distilabel write it: `generate` returns generations and statistics alone."""

    model_name = "plain"

    def generate(self, inputs, num_generations=1, **kwargs):
        statistics = {"input_tokens": [1] * num_generations, "output_tokens": [1] * num_generations}
        return [{"generations": [self.text] * num_generations, "statistics": statistics} for _ in inputs]


def test_a_model_that_tells_no_finish_reasons_works_in_every_task():
    llm = PlainLLM(use_cache=False)
    llm.text = GOOD
    [written] = next(TextGeneration(llm=llm).process([ROW]))
    assert written["generation"] == GOOD
    assert written["distilabel_metadata"]["statistics_text_generation_0"]["finish_reason"] is None
    assert one(EvolQuality(llm=llm))["evolved_response"] == GOOD
    llm.text = "#### Text 1\nRating: 4"
    [rated] = next(UltraFeedback(llm=llm).process([{"instruction": "Why?", "generations": ["So."]}]))
    assert rated["ratings"] == [4.0]
    llm.text = None
    assert one(EvolQuality(llm=llm))["evolution_failures"] == ["no text"]


# --- EvolInstruct and a real model -------------------------------------------------------------------------------------


def test_evol_instruct():
    harder = "Why is the sky blue at noon but red at dusk?"
    task = EvolInstruct(llm=ScriptedLLM([harder]), num_evolutions=1)
    made = one(task, {"instruction": ROW["instruction"]})
    assert made["evolved_instruction"] == harder
    assert made["evolution_criteria"][0] in (
        "breadth",
        "concretising",
        "constraints",
        "deepening",
        "reasoning",
    )
    assert made["evolution_failures"] == [None] and made["model_name"] == "scripted"
    stored = one(
        EvolInstruct(llm=ScriptedLLM([harder]), store_evolutions=True, include_original_instruction=True), ROW
    )
    assert stored["evolved_instructions"] == [ROW["instruction"], harder]
    assert one(task, {"instruction": None})["evolution_failures"] == ["no instruction"]
    assert one(EvolInstruct(llm=ScriptedLLM(["# Task\nGo on."])))["evolution_failures"] == ["prompt leaked"]


def test_print_shows_the_prompt_without_the_model(capsys):
    llm = RecordingLLM(lambda prompt, seed: GOOD)
    EvolQuality(llm=llm).print({"instruction": "Why {{ x }}?"})
    shown = capsys.readouterr().out
    assert "Why {{ x }}?" in shown and "<RESPONSE>" in shown and llm.asked == []


def test_no_leak_of_a_real_model_gets_through():
    llm = TransformersLLM("smollm2-135m", use_cache=False, generation_kwargs={"max_new_tokens": 48})
    rows = [
        ROW,
        {"instruction": "Name three fruits.", "response": "Apple, pear, plum."},
        {"instruction": "What is six times seven?", "response": "42"},
        {"instruction": "Write a line about rain.", "response": "Rain taps on the roof all night."},
    ]
    task = EvolQuality(llm=llm)
    made = next(task.process(rows))
    llm.unload()
    assert len(made) == 4
    for row in made:
        [[message]] = row["distilabel_metadata"]["raw_input_evol_quality_0"]
        used = row["evolved_response"]
        assert (used is None) == bool(row["evolution_failures"][0])
        if used is not None:
            assert (
                rewrite_fault(
                    used, row["response"], message["content"], [row["instruction"], row["response"]]
                )
                is None
            )

"""What every language model does, shown on toy ones: order, caching, counting, and errors that help."""

import math
import sqlite3
from dataclasses import field

import numpy as np
import pytest

from course_lib.errors import CacheError, InputError
from course_lib.llms import LLM, ScriptedLLM, TransformersLLM, plugins
from course_lib.llms.base import SAMPLING, LinearHead, Usage, check_chat, continued, sampling_arguments
from course_lib.llms.cache import default_cache


class Echo(LLM):
    """Repeats the last message with the number of the draw; remembers what it was asked."""

    model_name: str = "echo"
    asked: list = field(default_factory=list)

    @property
    def fingerprint(self):
        return self.model_name

    def write(self, requests, wanted):
        # Backwards and two at a time: the order of the answers must not come from here.
        todo = sorted(wanted, reverse=True)
        for start in range(0, len(todo), 2):
            yield {position: self._answer(requests[position]) for position in todo[start : start + 2]}

    def _answer(self, request):
        text = request.chat[-1]["content"]
        self.asked.append((text, request.draw))
        return {
            "text": f"{text} {request.draw}",
            "input_tokens": 2,
            "output_tokens": 3,
            "finish_reason": "stop",
        }


class Lengths(Echo):
    """Scores: a longer choice is likelier; each letter of a completion costs as much as the chat is long."""

    can_score = True

    def score_choices(self, chats, choices, wanted):
        for position in sorted(wanted):
            self.asked.append((chats[position][-1]["content"], tuple(choices)))
            yield {position: [-1000.0 + len(choice) for choice in choices]}

    def score_completions(self, pairs, wanted):
        yield {position: [-float(len(pairs[position][0]))] * len(pairs[position][1]) for position in wanted}


def chats(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def first(results):
    return [result["generations"][0] for result in results]


def test_answers_come_in_the_order_of_the_inputs():
    texts = [f"text {n}" for n in range(7)]
    assert first(Echo().generate(chats(*texts))) == [f"{text} 0" for text in texts]


def test_no_inputs_give_no_answers():
    assert Echo().generate([]) == []


def test_num_generations_gives_that_many_draws_with_statistics():
    [result] = Echo().generate(chats("a"), num_generations=3)
    assert result == {
        "generations": ["a 0", "a 1", "a 2"],
        "finish_reasons": ["stop"] * 3,
        "statistics": {"input_tokens": [2, 2, 2], "output_tokens": [3, 3, 3]},
    }


def test_equal_inputs_are_computed_once():
    llm = Echo(use_cache=False)
    assert first(llm.generate(chats("a", "b", "a", "a"))) == ["a 0", "b 0", "a 0", "a 0"]
    assert sorted(llm.asked) == [("a", 0), ("b", 0)]


def test_results_are_kept_across_objects():
    Echo().generate(chats("a", "b"))
    later = Echo()
    assert first(later.generate(chats("b", "c", "a"))) == ["b 0", "c 0", "a 0"]
    assert later.asked == [("c", 0)]


def test_more_draws_of_the_same_chat_ask_only_for_the_new_ones():
    Echo().generate(chats("a"), num_generations=2)
    later = Echo()
    later.generate(chats("a"), num_generations=4)
    assert sorted(later.asked) == [("a", 2), ("a", 3)]


def test_other_models_arguments_and_roles_are_other_results():
    Echo().generate(chats("a"))
    other = Echo(model_name="other")
    cooler, seeded, same = (
        Echo(generation_kwargs={"temperature": 0.1}),
        Echo(),
        Echo(generation_kwargs={"temperature": 0.7}),
    )
    other.generate(chats("a"))
    cooler.generate(chats("a"))
    seeded.generate(chats("a"), seed=5)
    same.generate(chats("a"))
    assert [len(llm.asked) for llm in (other, cooler, seeded, same)] == [1, 1, 1, 0]
    system = Echo()
    system.generate([[{"role": "system", "content": "a"}]])
    assert len(system.asked) == 1


def test_without_cache_nothing_is_stored_or_looked_up(cache_path):
    Echo(use_cache=False).generate(chats("a"))
    assert not (cache_path / "results.sqlite").exists()
    Echo().generate(chats("a"))
    again = Echo(use_cache=False)
    again.generate(chats("a"))
    assert again.asked == [("a", 0)]


class Everything(Lengths):
    """Can do all that a model can do."""

    def score_with_head(self, pairs, head, wanted):
        yield dict.fromkeys(wanted, 0.5)

    def chat_text(self, chat):
        return chat[-1]["content"]

    def completion_tokens(self, completion):
        return list(completion)


HEAD = LinearHead((0,), np.zeros(3, dtype=np.float32), 0.0)
NO_COUNTS = {"text": "a 0", "finish_reason": "stop"}
COUNTS_IN_WORDS = {**NO_COUNTS, "input_tokens": "two", "output_tokens": 3}
CALLS = {
    "render": (lambda llm: llm.render(chats("a")[0]), [["a"], None, 3]),
    "tokens": (lambda llm: llm.tokens("ab"), ["ab", [1, 2], {"a": "b"}]),
    "generate": (lambda llm: llm.generate(chats("a")), ["a 0", NO_COUNTS, COUNTS_IN_WORDS]),
    "choices": (lambda llm: llm.choice_probabilities(chats("a"), ["x", "xx"]).tolist(), ["ab", [-1.0], [-1.0, None]]),
    "log_probs": (lambda llm: llm.token_log_probs(chats("a"), ["ab"]), ["ab", ["a", "b"], -1.0]),
    "head": (lambda llm: llm.head_scores(chats("a"), ["ab"], HEAD).tolist(), ["0.5", [0.5]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_a_kept_value_that_is_no_such_result_is_reported_and_made_again(kind, capsys, monkeypatch):
    call, others = CALLS[kind]
    expected, store = call(Everything()), default_cache()
    [(key,)] = sqlite3.connect(store.path).execute("SELECT key FROM results")
    for other in others:
        store.put_many({key: other}, "echo")
        with monkeypatch.context() as replay, pytest.raises(CacheError, match="not among the recorded"):
            replay.setenv("COURSE_LIB_REPLAY", "1")
            call(Everything())
        again, later = Everything(), Everything()
        assert call(again) == call(later) == expected
        assert (again.usage.new, later.usage.new) == (1, 0)
        assert "1 damaged results in" in capsys.readouterr().err


def test_batches_before_a_failure_are_kept():
    class Failing(Echo):
        def _answer(self, request):
            if request.chat[-1]["content"] == "fatal":
                raise KeyboardInterrupt
            return super()._answer(request)

    with pytest.raises(KeyboardInterrupt):
        Failing().generate(chats("fatal", "b", "c", "d", "e"))
    later = Echo()
    later.generate(chats("fatal", "b", "c", "d", "e"))
    assert later.asked == [("fatal", 0)]


def test_usage_counts_new_and_cached_results_and_tokens_of_new_ones():
    llm, seen = Echo(), []
    llm.on_progress = lambda usage: seen.append(usage.new)
    llm.generate(chats("a", "b", "a"))
    assert (llm.usage.new, llm.usage.cached, llm.usage.input_tokens, llm.usage.output_tokens) == (2, 1, 4, 6)
    llm.generate(chats("a", "c", "d", "e"))
    assert (llm.usage.new, llm.usage.cached, llm.usage.input_tokens, llm.usage.output_tokens) == (
        5,
        2,
        10,
        15,
    )
    assert seen == [2, 4, 5] and llm.usage.seconds > 0
    assert Echo().usage == Usage()


def test_none_where_the_model_could_not_write():
    [result] = ScriptedLLM([None, "text"]).generate(chats("a"), num_generations=2)
    assert result["generations"] == [None, "text"]
    assert result["finish_reasons"] == ["script gave None", "stop"]


def test_arguments_of_the_call_stand_over_those_of_the_model():
    seen = []

    class Shows(Echo):
        def _answer(self, request):
            seen.append(request.arguments)
            return super()._answer(request)

    llm = Shows(generation_kwargs={"temperature": 0.2, "max_new_tokens": 5})
    llm.generate(chats("a"), temperature=0.9, stop_strings="\n")
    assert seen == [{**SAMPLING, "temperature": 0.9, "max_new_tokens": 5, "stop_strings": ["\n"]}]
    assert llm.generation_kwargs == {"temperature": 0.2, "max_new_tokens": 5}


def test_do_sample_false_is_temperature_zero():
    assert sampling_arguments({"do_sample": False, "temperature": 0.5})["temperature"] == 0
    assert sampling_arguments({"do_sample": True})["temperature"] == SAMPLING["temperature"]
    assert sampling_arguments({"temperature": None, "top_k": None}) == sampling_arguments({})


def test_unknown_argument_is_named_with_those_allowed():
    with pytest.raises(InputError, match="max_tokens.*max_new_tokens"):
        Echo(generation_kwargs={"max_tokens": 5})
    with pytest.raises(InputError, match="temprature.*temperature"):
        Echo().generate(chats("a"), temprature=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", "hot"),
        ("top_p", 1.5),
        ("top_k", 2.5),
        ("max_new_tokens", 0),
        ("max_new_tokens", math.inf),
        ("max_new_tokens", True),
        ("min_p", -1),
        ("repetition_penalty", 0),
        ("seed", 2**63),
        ("seed", 0.5),
    ],
)
def test_value_out_of_range_is_named_with_what_is_allowed(name, value):
    with pytest.raises(InputError, match=f"{name}=.*allowed: a "):
        Echo().generate(chats("a"), **{name: value})


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", None])
def test_num_generations_must_be_a_whole_number_from_one(number):
    with pytest.raises(InputError, match="num_generations=.*whole number from 1"):
        Echo().generate(chats("a"), num_generations=number)


@pytest.mark.parametrize(
    "chat",
    [
        "just text",
        [],
        None,
        ["text"],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "robot", "content": "hi"}],
        [{"content": "hi"}],
    ],
)
def test_malformed_chat_is_shown_with_its_position_and_an_example(chat):
    llm = Echo()
    with pytest.raises(InputError, match=r'Input 1 .*Allowed.*"role": "user"'):
        llm.generate([*chats("fine"), chat])
    assert llm.asked == []


def test_check_chat_takes_all_roles():
    check_chat([{"role": role, "content": ""} for role in ("system", "user", "assistant")], 0)
    check_chat([], 0, may_be_empty=True)


def test_choice_probabilities_sum_to_one_in_each_row():
    probabilities = Lengths().choice_probabilities(chats("a", "b", "c"), ["x", "xx", "xxxx"])
    assert probabilities.shape == (3, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities[0], np.exp([1, 2, 4]) / np.exp([1, 2, 4]).sum())
    assert Lengths().choice_probabilities([], ["x", "xx"]).shape == (0, 2)


def test_choice_probabilities_are_cached_by_chat_prefill_and_choices():
    Lengths().choice_probabilities(chats("a"), ["x", "xx"])
    again = Lengths()
    again.choice_probabilities(chats("a"), ["x", "xx"])
    assert again.asked == []
    again.choice_probabilities(chats("a"), ["x", "xx"], prefill="Rating: ")
    again.choice_probabilities(chats("a"), ["xx", "x"])
    assert again.asked == [("Rating: ", ("x", "xx")), ("a", ("xx", "x"))]


def test_prefill_is_an_assistant_message_and_leaves_the_chat_alone():
    [chat] = chats("a")
    assert continued(chat, "So") == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "So"}]
    assert continued(chat, "") == chat == chats("a")[0]


def test_log_likelihood_is_the_mean_per_token_and_nan_for_nothing():
    inputs = [chats("a")[0], [], chats("b")[0] * 3, chats("c")[0]]
    found = Lengths().log_likelihood(inputs, ["four", "four", "two", ""])
    np.testing.assert_array_equal(found, [-1.0, 0.0, -3.0, np.nan])
    assert Lengths().token_log_probs(chats("a"), ["ab"]) == [[-1.0, -1.0]]


def test_as_many_completions_as_inputs():
    with pytest.raises(InputError, match="2 inputs but 1 completions"):
        Lengths().token_log_probs(chats("a", "b"), ["one"])


@pytest.mark.parametrize("method", ["choice_probabilities", "token_log_probs", "log_likelihood"])
def test_model_that_only_writes_says_so_when_asked_to_score(method):
    with pytest.raises(
        InputError, match="probabilities can be seen; ScriptedLLM only writes text.*TransformersLLM"
    ):
        getattr(ScriptedLLM(["a"]), method)(chats("a"), ["x"])


# --- what a backend brings ----------------------------------------------------------------------------------


class Own(LLM):
    """As a newcomer writes it: two settings, and every chat answered alike."""

    model_name: str = "own"
    reply: str = "x"

    def write(self, requests, wanted):
        return [
            {
                p: {"text": self.reply, "input_tokens": 1, "output_tokens": 1, "finish_reason": "stop"}
                for p in wanted
            }
        ]


def test_annotated_attributes_are_settings():
    assert first(Own().generate(chats("a"))) == ["x"]
    own = Own(reply="y", model_name="mine", generation_kwargs={"seed": 3})
    assert first(own.generate(chats("a"))) == ["y"] and repr(own).startswith("Own('mine'")
    with pytest.raises(TypeError, match="replly"):
        Own(replly="y")
    assert own.usage is not Own().usage


def test_subclass_with_an_init_of_its_own_hands_it_on():
    class Written(Own):
        def __init__(self, text):
            super().__init__(reply=text)

    class Below(Written):
        pass

    assert first(Below("z").generate(chats("a"))) == ["z"]


def test_generate_may_be_overridden_and_give_generations_and_statistics_alone():
    class Overriding(LLM):
        model_name: str = "overriding"
        reply: str = "x"

        def generate(self, inputs, num_generations=1, **kwargs):
            counts = {"input_tokens": [1] * num_generations, "output_tokens": [1] * num_generations}
            return [{"generations": [self.reply] * num_generations, "statistics": counts} for _ in inputs]

    results = Overriding(reply="y").generate(chats("a", "b"), num_generations=2)
    assert [result["generations"] for result in results] == [["y", "y"]] * 2


def test_mended_backend_under_the_same_name_gives_its_new_text(cache_path):
    assert first(Own(reply="old").generate(chats("a"))) == ["old"]
    assert first(Own(reply="new").generate(chats("a"))) == ["new"]
    assert not (cache_path / "results.sqlite").exists()

    class Kept(Own):
        fingerprint: str = "1"

    assert first(Kept(reply="old").generate(chats("a"))) == ["old"]
    assert first(Kept(reply="new").generate(chats("a"))) == ["old"], (
        "its fingerprint says that nothing has changed"
    )
    assert first(Kept(reply="new", fingerprint="2").generate(chats("a"))) == ["new"]


def test_result_that_lacks_a_key_or_does_not_come_is_an_error_that_names_backend_and_key():
    class NoCounts(Own):
        def write(self, requests, wanted):
            yield {p: {"text": "x", "finish_reason": "stop"} for p in wanted}

    class Short(Own):
        def write(self, requests, wanted):
            yield {}

    with pytest.raises(InputError, match="NoCounts.write .*request 0 .*without input_tokens, output_tokens"):
        NoCounts().generate(chats("a"))
    with pytest.raises(
        InputError, match=r"Short gave no result \(generate\) for 2 of 2 inputs, for example input 0: .*'a'"
    ):
        Short().generate(chats("a", "b"))


def test_any_backend_says_where_it_comes_from():
    assert (Own.source, Own.licence, Own.context) == ("", "not known", None)


class Point:
    """An entry point of an installed package."""

    name = "own"

    def load(self):
        return Own


def test_models_of_installed_packages_are_made_by_name(monkeypatch, tiny_model_folder):
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [Point()] if group == "course_lib.llms" else []
    )
    assert list(plugins.models()) == ["own"]
    assert first(plugins.llm("own", device=None, reply="z").generate(chats("a"))) == ["z"]
    local = plugins.llm(str(tiny_model_folder), device="cpu", generation_kwargs={"seed": 1})
    assert (
        isinstance(local, TransformersLLM) and local.generation_kwargs == {"seed": 1} and local.context == 512
    )


def test_backend_without_a_name_is_told_what_is_missing():
    with pytest.raises(TypeError, match="LLM must define model_name"):
        LLM().generate(chats("a"))


@pytest.mark.parametrize(
    "name, value",
    [("stop_strings", 5), ("stop_strings", [5]), ("stop_strings", [""]), ("stop_strings", {"a": 1})]
    + [
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("temperature", True),
        ("seed", 1.5),
        ("seed", "1"),
    ]
    + [("max_new_tokens", [1]), ("top_p", None.__class__), ("do_sample", "no"), ("colour", 1)],
)
def test_a_sampling_argument_of_a_wrong_kind_is_one_error_that_names_it(name, value):
    with pytest.raises(InputError, match=name):
        ScriptedLLM(["x"]).generate([[{"role": "user", "content": "Hi"}]], **{name: value})


@pytest.mark.parametrize(
    "inputs", ["Hi", 3, None, {"role": "user", "content": "Hi"}, [["Hi"]], [{"role": "user"}]]
)
def test_what_is_no_list_of_chats_is_one_error(inputs):
    with pytest.raises(InputError, match="chat|message"):
        ScriptedLLM(["x"]).generate(inputs)

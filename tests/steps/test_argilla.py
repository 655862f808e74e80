"""Rows go to Argilla and people's ratings come back: by a stand-in, or by the server that COURSE_LIB_ARGILLA names.

The real one (argilla-server 2.8.0 with SQLite) took the same tests: COURSE_LIB_ARGILLA=http://127.0.0.1:6900, and
COURSE_LIB_ARGILLA_KEY with the key of its owner.
"""

import os
import threading
from uuid import uuid4

import argilla
import pytest
from argilla_stand_in import KEY, StandIn

from course_lib.errors import EndpointError, InputError, MissingPackageError
from course_lib.llms import ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import (
    FormatTextGenerationDPO,
    LoadDataFromDicts,
    PreferenceToArgilla,
    TextGenerationToArgilla,
    ratings_from_argilla,
)
from course_lib.steps.tasks import UltraFeedback

CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
ROWS = [
    {
        "instruction": "Capital of Spain?",
        "generations": ["Madrid", "Barcelona"],
        "ratings": [4.6, 1.2],
        "rationales": ["Right.", None],
    },
    {"instruction": "Bye", "messages": CHAT, "generations": ["See you.", "No."], "ratings": [None, 7.5]},
]


@pytest.fixture
def stand_in():
    server = StandIn()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def place(stand_in):
    """Where the server is, and with which key."""
    url = os.environ.get("COURSE_LIB_ARGILLA")
    key = os.environ.get("COURSE_LIB_ARGILLA_KEY", KEY)
    return {"api_url": url or stand_in.url, "api_key": key}


@pytest.fixture
def name():
    return f"pairs-{uuid4().hex[:8]}"


def sent(rows, step):
    step.check()
    step.load()
    return next(step.process(rows))


def dataset_of(name, place) -> argilla.Dataset:
    return argilla.Argilla(**place).datasets(name)


def answered(name, place, number: int, ratings: list[int], status: str = "submitted") -> None:
    """A new person's ratings of the record with this number."""
    dataset = dataset_of(name, place)
    person = argilla.User(f"ann-{uuid4().hex[:8]}", "Ann", password="loopback-only", client=dataset._client)
    user = person.create().id
    record = list(dataset.records())[number]
    given = [
        argilla.Response(f"rating-{n}", rating, user_id=user, status=status)
        for n, rating in enumerate(ratings)
    ]
    parts = {"fields": dict(record.fields), "metadata": dict(record.metadata)}
    dataset.records.log([argilla.Record(record.id, **parts, responses=given)])


def test_rows_pass_unchanged_and_people_see_texts_with_a_models_ratings(name, place):
    step = PreferenceToArgilla(dataset_name=name, num_generations=2, **place)
    assert sent(ROWS, step) == ROWS
    dataset = dataset_of(name, place)
    first, second = dataset.records()
    assert dict(first.fields) == {
        "instruction": "Capital of Spain?",
        "generation-0": "Madrid",
        "generation-1": "Barcelona",
    }
    values = {suggestion.question_name: suggestion.value for suggestion in first.suggestions}
    assert values == {"rating-0": 5, "rating-1": 1, "rationale-0": "Right."}
    assert second.fields["instruction"] == "User: Hi\n\nAssistant: Hello\n\nUser: Bye"
    assert len(second.suggestions) == 0  # no rating, and one that is outside of the scale
    required = {question.name for question in dataset.questions if question.required}
    assert required == {"rating-0", "rating-1"}


def test_ratings_of_people_come_back_as_rows_that_make_pairs(name, place):
    sent(ROWS, PreferenceToArgilla(dataset_name=name, num_generations=2, **place))
    answered(name, place, 0, [5, 2])
    answered(name, place, 0, [4, 1])
    answered(name, place, 0, [1, 5], "draft")
    answered(name, place, 0, [1, 5], "discarded")
    first, second = ratings_from_argilla(name, **place)
    assert first["ratings"] == [4.5, 1.5] and sorted(first["ratings_by_person"]) == [[4, 1], [5, 2]]
    assert second == {
        "instruction": "Bye",
        "messages": CHAT,
        "generations": ["See you.", "No."],
        "ratings": [None, None],
        "ratings_by_person": [],
    }
    paired, unrated = next(FormatTextGenerationDPO().process([first, second]))
    assert [paired[side][-1]["content"] for side in ("chosen", "rejected")] == ["Madrid", "Barcelona"]
    assert unrated["drop_reason"]


def test_a_second_run_sends_nothing_twice_and_leaves_the_answers(name, place):
    for _ in range(2):
        sent([*ROWS, ROWS[0]], PreferenceToArgilla(dataset_name=name, num_generations=2, **place))
        if not ratings_from_argilla(name, **place)[0]["ratings_by_person"]:
            answered(name, place, 0, [3, 2])
    changed = {**ROWS[0], "generations": ["Madrid.", "Barcelona"]}
    sent([changed], PreferenceToArgilla(dataset_name=name, num_generations=2, **place))
    rows = ratings_from_argilla(name, **place)
    assert [row["ratings"] for row in rows] == [[3, 2], [None, None], [None, None]]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Q?", "generations": ["one", None]},
        {"instruction": "Q?", "generations": ["one", " "]},
        {"instruction": None, "generations": ["one", "two"]},
        {"instruction": "Q?", "generations": None},
        {"instruction": "Q?", "generations": ["one", "two", "three"]},
    ],
)
def test_a_row_without_all_its_texts_is_not_sent_and_this_is_said(row, name, place, capsys):
    step = PreferenceToArgilla(dataset_name=name, num_generations=2, name="to_people", **place)
    assert sent([row, ROWS[0]], step) == [row, ROWS[0]]
    assert len(ratings_from_argilla(name, **place)) == 1
    said = f"to_people does not send a row that lacks texts: {row['instruction']!r}"
    assert said in capsys.readouterr().out


def test_one_generation_can_be_rated_too(name, place):
    row = {"instruction": "Say hello.", "generation": "Hello!", "system_prompt": "Be brief."}
    assert sent([row], TextGenerationToArgilla(dataset_name=name, **place)) == [row]
    answered(name, place, 0, [4])
    back = ratings_from_argilla(name, **place)
    prompt = {"instruction": "Say hello.", "system_prompt": "Be brief."}
    assert back == [{**prompt, "generations": ["Hello!"], "ratings": [4], "ratings_by_person": [[4]]}]


def test_a_pipeline_sends_what_a_judge_rated_in_batches(name, place, monkeypatch):
    monkeypatch.setattr("course_lib.steps.argilla.AT_ONCE", 4)
    judged = "#### Output for Text 1\nRating: 4\nRationale: Fine.\n\n#### Output for Text 2\nRating: 2\nRationale: Short."
    data = [{"instruction": f"Question {n}?", "generations": ["a", "b"]} for n in range(9)]
    with Pipeline() as pipeline:
        to_people = PreferenceToArgilla(dataset_name="later", num_generations=2)
        LoadDataFromDicts(data=data) >> UltraFeedback(llm=ScriptedLLM([judged] * 9)) >> to_people
    distiset = pipeline.run(parameters={to_people.name: {"dataset_name": name, **place}}, progress=False)
    assert distiset["default"]["train"]["ratings"] == [[4.0, 2.0]] * 9
    rows = ratings_from_argilla(name, **place)
    assert [row["instruction"] for row in rows] == [row["instruction"] for row in data]
    assert list(dataset_of(name, place).records())[8].suggestions["rationale-1"].value == "Short."


# --- what can go wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, message",
    [
        ({"api_key": "argilla.wrong"}, r"Argilla at http\S+ cannot be asked \(Credentials .* are invalid\)"),
        ({"api_key": None}, r"cannot be asked \(Missing api_key.*\)\. Check api_url and api_key"),
        ({"api_url": "http://127.0.0.1:9"}, r"http://127.0.0.1:9 cannot be asked \(.*refused"),
        ({"api_url": "localhost"}, r"localhost cannot be asked \(.*protocol"),
    ],
)
def test_a_wrong_address_or_key_is_one_sentence_before_any_row(given, message, name, place, monkeypatch):
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    arguments = {"dataset_name": name, **place, **given}
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=ROWS) >> PreferenceToArgilla(num_generations=2, **arguments)
    for ask in (lambda: pipeline.run(progress=False), lambda: ratings_from_argilla(**arguments)):
        with pytest.raises(EndpointError, match=message) as caught:
            ask()
        assert "argilla." not in str(caught.value) and "\n" not in str(caught.value)


def test_address_and_key_of_the_environment_are_taken(name, place, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_URL", place["api_url"])
    monkeypatch.setenv("ARGILLA_API_KEY", place["api_key"])
    step = PreferenceToArgilla(dataset_name=name, num_generations=2)
    sent(ROWS, step)
    assert len(ratings_from_argilla(name)) == 2
    assert place["api_key"] not in repr(step)


def test_a_dataset_with_other_settings_a_workspace_or_a_dataset_that_is_not_there_are_named(name, place):
    sent(ROWS, PreferenceToArgilla(dataset_name=name, num_generations=2, **place))
    with pytest.raises(InputError, match="generation-2, rating-2, rationale-2. Give another dataset_name"):
        PreferenceToArgilla(dataset_name=name, num_generations=3, **place).check()
    with pytest.raises(InputError, match="has no workspace nobody; there are: .*argilla"):
        PreferenceToArgilla(dataset_name=name, num_generations=2, dataset_workspace="nobody", **place).check()
    with pytest.raises(InputError, match=f"has no dataset nothing; there are: .*{name}"):
        ratings_from_argilla("nothing", **place)


def test_ratings_of_a_dataset_that_others_made_are_refused(name, place):
    client = argilla.Argilla(**place)
    settings = argilla.Settings(fields=[argilla.TextField("text")], questions=[argilla.TextQuestion("why")])
    dataset = argilla.Dataset(name, settings=settings, client=client).create()
    dataset.records.log([{"text": "Hello"}])
    with pytest.raises(InputError, match="has records without 'prompt'. Give the name of a dataset that"):
        ratings_from_argilla(name, **place)


@pytest.mark.parametrize("fault", ["portal", "forbidden"])
def test_a_server_that_is_none_or_forbids_is_one_sentence(fault, stand_in, name):
    stand_in.fault = fault
    step = PreferenceToArgilla(dataset_name=name, num_generations=2, api_url=stand_in.url, api_key=KEY)
    with pytest.raises(EndpointError, match=r"cannot be asked \(.+\)\. Check api_url and api_key"):
        sent(ROWS, step)


def test_a_check_makes_no_dataset(stand_in, name):
    PreferenceToArgilla(dataset_name=name, num_generations=2, api_url=stand_in.url, api_key=KEY).check()
    assert stand_in.datasets == {} and {asked.split()[0] for asked in stand_in.asked} == {"GET"}


def test_without_the_client_the_command_that_brings_it_is_named(monkeypatch):
    monkeypatch.setattr("course_lib.errors.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="-m pip install argilla` brings it"):
        PreferenceToArgilla(dataset_name="pairs", num_generations=2).check()
    with pytest.raises(MissingPackageError, match="pip install argilla"):
        ratings_from_argilla("pairs")

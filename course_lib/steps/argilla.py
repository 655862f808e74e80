"""Argilla (https://docs.argilla.io), where people rate texts in a browser: rows go there, and ratings come back."""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from statistics import mean
from typing import Any

from course_lib.errors import EndpointError, InputError, require_package
from course_lib.steps.base import Row, Step, StepInput, StepOutput
from course_lib.steps.prompts import OPTIONAL, prompt_text

SCALE = [1, 2, 3, 4, 5]
AT_ONCE = 250  # records in one request


class PreferenceToArgilla(Step):
    """Sends instructions with their `generations`, each to be rated from 1 to 5; its rows pass on unchanged.

    A model's `ratings` (rounded) and `rationales` become suggestions. The id of a record is a hash of its prompt and
    texts, so that a second run sends nothing twice and leaves people's answers as they are.

    Args:
        dataset_name: a dataset of Argilla, made where there is none.
        dataset_workspace: by default the first one of the key's user.
        num_generations: how many texts are rated side by side; rows that have not as many are not sent.
        api_url: else the environment variable `ARGILLA_API_URL`, else `http://localhost:6900`.
        api_key: else the environment variable `ARGILLA_API_KEY`.

    Raises:
        EndpointError: no answer from the address, or it refuses the key; before any model is loaded.
        InputError: no such workspace, or a dataset of that name with other settings.
    """

    dataset_name: str
    dataset_workspace: str | None = None
    num_generations: int
    api_url: str | None = None
    api_key: str | None = None

    inputs = {"instruction": True, "generations": True, "ratings": False, "rationales": False}

    def check(self) -> None:
        self._dataset()

    def load(self) -> None:
        self.dataset = self._dataset()
        if not self.dataset.id:
            with _asking(self.api_url):
                self.dataset.create()

    def process(self, rows: StepInput) -> StepOutput:
        records = {record.id: record for record in map(self._record, rows) if record}
        # The client draws a bar of its own, over that of the pipeline.
        with _asking(self.api_url), redirect_stderr(io.StringIO()):
            if records:
                self.dataset.records.log(list(records.values()), batch_size=min(len(records), AT_ONCE))
        yield rows

    def texts(self, row: Row) -> list[Any]:
        return list(row["generations"] or [])

    def _record(self, row: Row) -> Any:
        """What people see of a row, or None if it lacks a text."""
        import argilla

        texts = self.texts(row)
        whole = all(isinstance(text, str) and text.strip() for text in [row["instruction"], *texts])
        if len(texts) != self.num_generations or not whole:
            print(f"{self.name} does not send a row that lacks texts: {row['instruction']!r:.60}")
            return None
        rated, reasons = ((row.get(name) or [])[: len(texts)] for name in ("ratings", "rationales"))
        prompt = {name: row[name] for name in ("instruction", *OPTIONAL) if row.get(name) is not None}
        fields = {"instruction": prompt_text(row), **_numbered("generation", texts)}
        ratings = _numbered("rating", [x and x == x and round(x) for x in rated])
        suggested = {name: x for name, x in ratings.items() if x in SCALE} | _numbered("rationale", reasons)
        return argilla.Record(
            id=hashlib.sha256(json.dumps(list(fields.values())).encode()).hexdigest(),
            fields=fields,
            metadata={"prompt": json.dumps(prompt, default=list)},
            suggestions=[argilla.Suggestion(name, value) for name, value in suggested.items() if value],
        )

    def _dataset(self) -> Any:
        workspace = _workspace(self.dataset_workspace, self.api_url, self.api_key)
        import argilla

        names = ["generation", "rating", "rationale"]
        texts, ratings, reasons = (_numbered(name, range(self.num_generations)) for name in names)
        settings = argilla.Settings(
            fields=[argilla.TextField(name) for name in ("instruction", *texts)],
            questions=[argilla.RatingQuestion(name, SCALE) for name in ratings]
            + [argilla.TextQuestion(name, required=False) for name in reasons],
            allow_extra_metadata=True,
        )
        with _asking(self.api_url):
            dataset = next((one.get() for one in workspace.datasets if one.name == self.dataset_name), None)
        if dataset and (other := _outline(dataset.settings) ^ _outline(settings)):
            raise InputError(
                f"Argilla's dataset {self.dataset_name!r} has other fields or questions than {self.name} sends: "
                f"{', '.join(sorted({name for name, _ in other}))}. Give another dataset_name."
            )
        return dataset or argilla.Dataset(self.dataset_name, workspace, settings)


class TextGenerationToArgilla(PreferenceToArgilla):
    """Sends instructions with their one `generation`; otherwise as `PreferenceToArgilla`."""

    num_generations: int = 1
    inputs = ["instruction", "generation"]

    def texts(self, row: Row) -> list[Any]:
        return [row["generation"]]


def ratings_from_argilla(
    dataset_name: str,
    dataset_workspace: str | None = None,
    api_url: str | None = None,
    api_key: str | None = None,
) -> list[Row]:
    """What people submitted in a dataset that one of the two steps made: a row for each record.

    Returns:
        Rows with the columns of the prompt, `generations`, their `ratings` (the mean over people, or None) and
        `ratings_by_person`, a list of ratings for each person.
    """
    workspace = _workspace(dataset_workspace, api_url, api_key)
    with _asking(api_url):
        dataset, records = _named("dataset", dataset_name, workspace.datasets), []
        while page := workspace._client.api.records.list(dataset.id, len(records), AT_ONCE):
            records += page
    try:
        return [_rated(record) for record in records]
    except KeyError as error:
        advice = "Give the name of a dataset that PreferenceToArgilla made"
        raise InputError(
            f"Argilla's dataset {dataset_name!r} has records without {error}. {advice}."
        ) from error


def _rated(record: Any) -> Row:
    texts = [record.fields[name] for name in _numbered("generation", range(len(record.fields) - 1))]
    submitted = [answer.values for answer in record.responses if answer.status == "submitted"]
    ratings = [[given[name]["value"] for name in _numbered("rating", texts)] for given in submitted]
    means = [mean(column) for column in zip(*ratings, strict=True)] or [None] * len(texts)
    prompt = {part.name: part.value for part in record.metadata}["prompt"]
    return {**json.loads(prompt), "generations": texts, "ratings": means, "ratings_by_person": ratings}


def _numbered(name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}-{n}": value for n, value in enumerate(values)}


def _outline(settings: Any) -> set[tuple[str, str]]:
    return {(p.name, f"{p.type} {getattr(p, 'values', '')}") for p in (*settings.fields, *settings.questions)}


def _workspace(name: str | None, api_url: str | None, api_key: str | None) -> Any:
    require_package("argilla", "Argilla")
    import argilla

    with _asking(api_url) as address:
        client = argilla.Argilla(address, api_key or os.environ.get("ARGILLA_API_KEY"), retries=1)
        return _named("workspace", name, client.workspaces.list())


def _named(kind: str, name: str | None, things: Sequence[Any]) -> Any:
    """The one of that name; without one, the first."""
    for thing in things:
        if name in (None, thing.name):
            return thing
    there = ", ".join(thing.name for thing in things) or "none"
    raise InputError(
        f"Argilla has no {kind} {name or 'for this key'}; there are: {there}. Give one of these."
    )


@contextmanager
def _asking(api_url: str | None) -> Iterator[str]:
    """The address; what goes wrong between here and there is an `EndpointError`."""
    import httpx
    from argilla.client import ArgillaError

    address = api_url or os.environ.get("ARGILLA_API_URL") or "http://localhost:6900"
    try:
        yield address
    except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError, ArgillaError) as error:
        reason = " ".join(str(error.args[0]).partition("<")[0].split()).rstrip(".")[:200]
        advice = "Check api_url and api_key, and what its user may do"
        raise EndpointError(f"Argilla at {address} cannot be asked ({reason}). {advice}.") from error

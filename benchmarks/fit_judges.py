"""Fit the calibration of the judges on the labelled items (part "fit"): writes course_lib/data/judge_fit.json.

    .venv/bin/python benchmarks/fit_judges.py

`likelihood`: for each packaged model mean and standard deviation of the mean log-probability per token of all answers.
`contrast`: the weights of the two features, from a logistic regression without intercept on their differences within pairs
(good − worse, good − off_topic; each kind weighs the same), L2-regularised on standardised features; then mean and
standard deviation of the weighted sum over all answers.
"""

import json

import numpy as np

from course_lib.judging import ANSWERS, default_judge, labelled_items, likelihood_panel
from course_lib.steps.load import DATA
from course_lib.steps.tasks import likelihood

FEATURES = ("style", "relevance")
PENALTY = 1.0


def scored(judge, items) -> list[list[dict]]:
    """What the judge found for each answer of each item."""
    instructions = [item["instruction"] for item in items for _ in ANSWERS]
    texts = [item[name] for item in items for name in ANSWERS]
    found = judge.score(instructions, texts, [None] * len(texts))
    return [found[i : i + len(ANSWERS)] for i in range(0, len(found), len(ANSWERS))]


def logistic_weights(differences: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Newton's method for `sum(w log(1 + exp(-d·b))) + PENALTY |b|² / 2`; `differences` has shape (pairs, features)."""
    b = np.zeros(differences.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(differences @ b))
        gradient = PENALTY * b - differences.T @ (weights * p)
        curvature = PENALTY * np.eye(len(b)) + (differences * (weights * p * (1 - p))[:, None]).T @ differences
        b = b - np.linalg.solve(curvature, gradient)
    return b


def contrast_fit(items) -> dict[str, float]:
    values = np.array([[[one[name] for name in FEATURES] for one in item] for item in scored(default_judge(), items)])
    spread = values.reshape(-1, len(FEATURES)).std(axis=0)
    pairs = np.concatenate([values[:, 0] - values[:, 1], values[:, 0] - values[:, 2]]) / spread
    b = logistic_weights(pairs, np.ones(len(pairs))) / spread
    totals = values @ b
    return {**dict(zip(FEATURES, b.tolist(), strict=True)), "mean": float(totals.mean()), "sd": float(totals.std())}


def likelihood_fit(items) -> dict[str, dict[str, float]]:
    found = [one["log_likelihoods"] for item in scored(likelihood_panel(), items) for one in item]
    return {
        name: {"mean": float(np.mean([one[name] for one in found])), "sd": float(np.std([one[name] for one in found]))}
        for name in found[0]
    }


def rounded(value):
    return {key: rounded(one) for key, one in value.items()} if isinstance(value, dict) else round(value, 5)


def main() -> None:
    items = labelled_items("fit")
    # Features are wanted before there is a fit; these numbers change none of them.
    plain = {"mean": 0.0, "sd": 1.0}
    likelihood.fit = lambda: {"likelihood": {"any": plain}, "contrast": {**dict.fromkeys(FEATURES, 1.0), **plain}}
    result = rounded({"likelihood": likelihood_fit(items), "contrast": contrast_fit(items)})
    (DATA / "judge_fit.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""Fit the judges on the labelled items (part "fit"): writes course_lib/data/judge_fit.json and judge_heads.npz.

    .venv/bin/python benchmarks/fit_judges.py

Likelihood: for each packaged model mean and standard deviation of the mean log-probability per token of all answers.

Reward heads: for each packaged model a logistic regression without intercept on the differences of hidden features within
pairs (good − worse, good − off_topic), features divided by their standard deviation, with an L2 penalty; the score is
then shifted and scaled to mean 0 and standard deviation 1 over all answers.

LAYERS, PENALTY, WEIGHTS and BROKEN were chosen by five-fold cross-validation over items, which is printed.
"""

import json

import numpy as np

from course_lib.judging import ANSWERS, labelled_items
from course_lib.llms import TransformersLLM
from course_lib.llms.base import LinearHead
from course_lib.llms.weights import PACKAGED
from course_lib.steps.load import DATA
from course_lib.steps.tasks.checks import faults_by_code

LAYERS = {"smollm2-135m": (16, 22), "gemma-3-270m": (9, 15)}
WEIGHTS = {"smollm2-135m": 1.0, "gemma-3-270m": 1.0, "likelihood": 0.4}
BROKEN = 1.0  # standard deviations off for a broken constraint or a false sum
PENALTY = 0.03
FOLDS = 5


def pairs_of(items) -> list[tuple[list[dict], str]]:
    return [
        ([{"role": "user", "content": item["instruction"]}], item[name]) for item in items for name in ANSWERS
    ]


def chats_and_texts(items) -> tuple[list, list]:
    chats, texts = zip(*pairs_of(items), strict=True)
    return list(chats), list(texts)


def features_of(llm: TransformersLLM, items, layers) -> np.ndarray:
    """Shape (items, answers, features)."""
    batches = llm.completion_features(pairs_of(items), layers, LinearHead.question)
    found = {p: one for batch in batches for p, one in batch.items()}
    return np.stack([found[p] for p in range(len(found))]).reshape(len(items), len(ANSWERS), -1)


def fitted(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of the standardised score, for features of shape (items, answers, features)."""
    spread = (features.reshape(-1, features.shape[-1]).std(axis=0) + 1e-6) * np.sqrt(features.shape[-1])
    scaled = features / spread
    differences = np.concatenate([scaled[:, 0] - scaled[:, 1], scaled[:, 0] - scaled[:, 2]])
    weights = logistic_weights(differences) / spread
    totals = features @ weights
    return (weights / totals.std()).astype(np.float32), float(-totals.mean() / totals.std())


def logistic_weights(x: np.ndarray) -> np.ndarray:
    """Minimise `sum(log(1 + exp(-x·b))) + PENALTY |b|² / 2` by Newton's method in the space of the rows."""
    kernel, margins = x @ x.T, np.zeros(len(x))
    for _ in range(30):
        p = 1 / (1 + np.exp(margins))
        curvature = p * (1 - p) + 1e-6
        dual = np.linalg.solve(kernel + PENALTY * np.diag(1 / curvature), margins + p / curvature)
        before, margins = margins, kernel @ dual
        if np.abs(margins - before).max() < 1e-6:
            break
    return x.T @ dual


def accuracy(scores: np.ndarray) -> tuple[float, float]:
    """Shares of items with good > worse and good > off_topic, for scores of shape (items, answers)."""
    return float((scores[:, 0] > scores[:, 1]).mean()), float((scores[:, 0] > scores[:, 2]).mean())


def cross_validated(
    features: dict[str, np.ndarray], likelihoods: list[np.ndarray], broken: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of items left out, shape (items, answers): each vote alone, and all together."""
    folds = np.random.default_rng(0).permutation(len(broken)) % FOLDS
    scores = {name: np.zeros(broken.shape) for name in features}
    for fold in range(FOLDS):
        for name, values in features.items():
            weights, bias = fitted(values[folds != fold])
            scores[name][folds == fold] = values[folds == fold] @ weights + bias
    scores["likelihood"] = np.mean([(one - one.mean()) / one.std() for one in likelihoods], axis=0)
    votes = sum(WEIGHTS[name] * one for name, one in scores.items()) / sum(WEIGHTS.values())
    return {**scores, "votes": votes, "all together": votes - BROKEN * broken}


def moments(values: np.ndarray) -> dict[str, float]:
    return {"mean": round(float(values.mean()), 4), "sd": round(float(values.std()), 4)}


def main() -> None:
    items = labelled_items("fit")
    chats, texts = chats_and_texts(items)
    llms = {name: TransformersLLM(name) for name in PACKAGED}
    features = {name: features_of(llm, items, LAYERS[name]) for name, llm in llms.items()}
    likelihoods = {name: llm.log_likelihood(chats, texts) for name, llm in llms.items()}
    fit = {
        "heads": {name: {"layers": LAYERS[name]} for name in llms},
        "weights": WEIGHTS,
        "broken": BROKEN,
        "likelihood": {name: moments(values) for name, values in likelihoods.items()},
    }
    broken = np.array(
        [[bool(faults_by_code(item["instruction"], item[name])) for name in ANSWERS] for item in items]
    )
    scores = cross_validated(features, [one.reshape(len(items), -1) for one in likelihoods.values()], broken)
    for name, (worse, off) in {name: accuracy(one) for name, one in scores.items()}.items():
        print(
            f"cross-validated on {len(items)} items, {name}: good > worse {worse:.3f}, good > off-topic {off:.3f}"
        )
    kinds = np.array([item["worse_kind"] for item in items])
    for kind in sorted(set(kinds)):
        print(
            f"    all together, {kind}: good > worse {accuracy(scores['all together'][kinds == kind])[0]:.3f}"
        )
    heads = {name: fitted(values) for name, values in features.items()}
    for name, (_, bias) in heads.items():
        fit["heads"][name]["bias"] = round(bias, 5)
    (DATA / "judge_fit.json").write_text(json.dumps(fit, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(DATA / "judge_heads.npz", **{name: weights for name, (weights, _) in heads.items()})
    print(json.dumps(fit, indent=1))


if __name__ == "__main__":
    main()

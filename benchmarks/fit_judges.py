"""Fit the judges: writes course_lib/data/judge_fit.json and judge_heads.npz.

    .venv/bin/python benchmarks/fit_judges.py            all of it
    .venv/bin/python benchmarks/fit_judges.py --real     the second step of the heads alone, from their kept first step

Likelihood: for each packaged model mean and standard deviation of the mean log-probability per token of all answers.

Reward heads, in two steps. First on the labelled items (part "fit"): for each packaged model a logistic regression without
intercept on the differences of hidden features within pairs (good − worse, good − off_topic), features divided by their
standard deviation, with an L2 penalty; the score is then shifted and scaled to mean 0 and standard deviation 1 over all
answers. Then on pairs of what the packaged models really write (data/real_fit.jsonl), together with the labelled items of the
same instructions: good above worse, and good above each real text. It is the same regression, begun at SLOPE times the head of
the first step, with the penalty ANCHOR on the distance from it; shift and scale keep the mean and standard deviation over the
real texts.

The constants below were chosen by cross-validation over items or instructions, which is printed.
"""

import json
import sys
from typing import NamedTuple

import numpy as np

from course_lib.judging import ANSWERS, labelled_items
from course_lib.llms import TransformersLLM
from course_lib.llms.base import LinearHead
from course_lib.llms.weights import PACKAGED
from course_lib.steps.load import DATA, read_jsonl
from course_lib.steps.tasks.checks import faults_by_code

LAYERS = {"smollm2-135m": (16, 22), "gemma-3-270m": (9, 15)}
WEIGHTS = {"smollm2-135m": 1.0, "gemma-3-270m": 1.0, "likelihood": 0.4}
BROKEN = 1.0  # standard deviations off for a broken constraint or a false sum
PENALTY = 0.03
SLOPE, ANCHOR = 2.0, 1.0  # the second step
SHARES = {"real": 1.0, "good > worse": 1.0, "good > real": 0.3}  # what a pair of each kind counts there
FOLDS = 5
FIT, HEADS = DATA / "judge_fit.json", DATA / "judge_heads.npz"
FIRST = "{}, labelled items"  # a head after the first step, in HEADS


def pairs_of(items) -> list[tuple[list[dict], str]]:
    return [
        ([{"role": "user", "content": item["instruction"]}], item[name]) for item in items for name in ANSWERS
    ]


def chats_and_texts(items) -> tuple[list, list]:
    chats, texts = zip(*pairs_of(items), strict=True)
    return list(chats), list(texts)


def features_of(llm: TransformersLLM, pairs, layers) -> np.ndarray:
    """Shape (pairs, features), for pairs of a chat and a text."""
    batches = llm.completion_features(pairs, layers, LinearHead.question)
    by_place = {place: features for batch in batches for place, features in batch.items()}
    return np.stack([by_place[place] for place in range(len(by_place))])


def fitted(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of the standardised score, for features of shape (items, answers, features)."""
    spread = (features.reshape(-1, features.shape[-1]).std(axis=0) + 1e-6) * np.sqrt(features.shape[-1])
    scaled = features / spread
    differences = np.concatenate([scaled[:, 0] - scaled[:, 1], scaled[:, 0] - scaled[:, 2]])
    weights = logistic_weights(differences) / spread
    totals = features @ weights
    return (weights / totals.std()).astype(np.float32), float(-totals.mean() / totals.std())


def logistic_weights(
    x: np.ndarray, penalty: float = PENALTY, known: np.ndarray | float = 0.0, shares: np.ndarray | float = 1.0
) -> np.ndarray:
    """Minimise `sum(shares log(1 + exp(-known - x·b))) + penalty |b|² / 2` by Newton's method in the space of the rows."""
    kernel, margins = x @ x.T, np.zeros(len(x))
    for _ in range(40):
        p = 1 / (1 + np.exp(margins + known))
        curvature = shares * p * (1 - p) + 1e-6
        dual = np.linalg.solve(kernel + penalty * np.diag(1 / curvature), margins + shares * p / curvature)
        before, margins = margins, kernel @ dual
        if np.abs(margins - before).max() < 1e-6:
            break
    return x.T @ dual


class Pairs(NamedTuple):
    """Pairs of texts for the second step: places of the better and the worse text, what each counts, its fold and kind."""

    better: np.ndarray
    worse: np.ndarray
    shares: np.ndarray
    folds: np.ndarray
    kinds: np.ndarray

    def where(self, chosen: np.ndarray) -> "Pairs":
        return Pairs(*(column[chosen] for column in self))


def moved(weights: np.ndarray, bias: float, features: np.ndarray, pairs: Pairs, real: np.ndarray):
    """A head after the second step: weights and bias; `real` are the places of real output among the texts."""
    spread = (features[real].std(axis=0) + 1e-6) * np.sqrt(features.shape[-1])
    differences = features[pairs.better] - features[pairs.worse]
    start = SLOPE * weights.astype(np.float64)
    step = logistic_weights(differences / spread, ANCHOR, differences @ start, pairs.shares) / spread
    before, after = features[real] @ weights + bias, features[real] @ (start + step)
    scale = before.std() / after.std()
    return ((start + step) * scale).astype(np.float32), float(before.mean() - after.mean() * scale)


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


def first_step() -> tuple[dict, dict[str, tuple[np.ndarray, float]]]:
    """The calibration without its heads, and each head after the first step."""
    items = labelled_items("fit")
    chats, texts = chats_and_texts(items)
    llms = {name: TransformersLLM(name) for name in PACKAGED}
    shape = (len(items), len(ANSWERS), -1)
    features = {
        name: features_of(llm, pairs_of(items), LAYERS[name]).reshape(shape) for name, llm in llms.items()
    }
    likelihoods = {name: llm.log_likelihood(chats, texts) for name, llm in llms.items()}
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
    moments_of = {name: moments(values) for name, values in likelihoods.items()}
    heads = {name: fitted(values) for name, values in features.items()}
    return {"weights": WEIGHTS, "broken": BROKEN, "likelihood": moments_of}, heads


def kept_first_step() -> tuple[dict, dict[str, tuple[np.ndarray, float]]]:
    """What `first_step` gave, from the files."""
    fit, weights = json.loads(FIT.read_text(encoding="utf-8")), np.load(HEADS)
    return fit, {name: (weights[FIRST.format(name)], fit["heads"][name]["first_bias"]) for name in PACKAGED}


def second_texts() -> tuple[list, Pairs, np.ndarray]:
    """Chats with texts; the pairs among them; the places of real output."""
    items = read_jsonl(DATA / "real_fit.jsonl")
    labelled = {item["instruction"]: item for item in labelled_items("fit")}
    instructions = list(dict.fromkeys(item["instruction"] for item in items))
    rows = [(item["instruction"], item["good"], item["worse"], "real") for item in items]
    real = dict.fromkeys((item["instruction"], item[side]) for item in items for side in ("good", "worse"))
    rows += [(name, labelled[name]["good"], labelled[name]["worse"], "good > worse") for name in instructions]
    rows += [(name, labelled[name]["good"], text, "good > real") for name, text in real]
    places: dict[tuple[str, str], int] = {text: place for place, text in enumerate(real)}
    for instruction, good, worse, _ in rows:
        for text in (good, worse):
            places.setdefault((instruction, text), len(places))
    shuffled = np.random.default_rng(0).permutation(len(instructions)) % FOLDS
    fold_of = dict(zip(instructions, shuffled, strict=True))
    columns = [
        (places[name, good], places[name, worse], SHARES[kind], fold_of[name], kind)
        for name, good, worse, kind in rows
    ]
    texts = [([{"role": "user", "content": instruction}], text) for instruction, text in places]
    return texts, Pairs(*map(np.array, zip(*columns, strict=True))), np.arange(len(real))


def second_step(heads: dict[str, tuple[np.ndarray, float]]) -> dict[str, tuple[np.ndarray, float]]:
    texts, pairs, real = second_texts()
    votes, final = {step: np.zeros(len(pairs.folds)) for step in ("first", "second")}, {}
    for name, (weights, bias) in heads.items():
        features = features_of(TransformersLLM(name), texts, LAYERS[name])
        differences = features[pairs.better] - features[pairs.worse]
        votes["first"] += WEIGHTS[name] * (differences @ weights)
        for fold in range(FOLDS):
            left_out = pairs.folds == fold
            other = moved(weights, bias, features, pairs.where(~left_out), real)[0]
            votes["second"][left_out] += WEIGHTS[name] * (differences[left_out] @ other)
        final[name] = moved(weights, bias, features, pairs, real)
    for step, margins in votes.items():
        for kind in SHARES:
            right = margins[pairs.kinds == kind] > 0
            print(f"both heads after the {step} step, {len(right)} pairs {kind}: {right.mean():.3f}")
    return final


def main() -> None:
    fit, first = kept_first_step() if "--real" in sys.argv else first_step()
    final = second_step(first)
    fit["heads"] = {
        name: {"layers": LAYERS[name], "bias": round(bias, 5), "first_bias": round(first[name][1], 5)}
        for name, (_, bias) in final.items()
    }
    FIT.write_text(json.dumps(fit, indent=1) + "\n", encoding="utf-8")
    kept = {name: weights for name, (weights, _) in final.items()}
    np.savez_compressed(
        HEADS, **kept, **{FIRST.format(name): weights for name, (weights, _) in first.items()}
    )
    print(json.dumps(fit, indent=1))


if __name__ == "__main__":
    main()

"""Fit the judges: writes course_lib/data/judge_fit.json and judge_heads.npz.

    .venv/bin/python benchmarks/fit_judges.py            all of it
    .venv/bin/python benchmarks/fit_judges.py --real     the second step of the heads alone, from their kept first step

Likelihood: for each packaged model mean and standard deviation of the mean log-probability per token of all answers.

Reward heads, in two steps. First on the labelled items (part "fit"): for each packaged model a logistic regression without
intercept on the differences of hidden features within pairs (good − worse, good − off_topic), features divided by their
standard deviation, with an L2 penalty; the score is then shifted and scaled to mean 0 and standard deviation 1 over all
answers. Then on pairs of what the packaged models really write (data/real_fit.jsonl): the same regression, with the penalty
on the distance from the head of the first step; shift and scale keep the mean and standard deviation over those texts.

LAYERS, PENALTY, WEIGHTS, BROKEN and ANCHOR were chosen by cross-validation over items or instructions, which is printed.
"""

import json
import sys

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
ANCHOR = 3.0  # the penalty of the second step
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


def logistic_weights(x: np.ndarray, penalty: float = PENALTY, known: np.ndarray | float = 0.0) -> np.ndarray:
    """Minimise `sum(log(1 + exp(-known - x·b))) + penalty |b|² / 2` by Newton's method in the space of the rows."""
    kernel, margins = x @ x.T, np.zeros(len(x))
    for _ in range(30):
        p = 1 / (1 + np.exp(margins + known))
        curvature = p * (1 - p) + 1e-6
        dual = np.linalg.solve(kernel + penalty * np.diag(1 / curvature), margins + p / curvature)
        before, margins = margins, kernel @ dual
        if np.abs(margins - before).max() < 1e-6:
            break
    return x.T @ dual


def moved(weights: np.ndarray, bias: float, features: np.ndarray, pairs: np.ndarray):
    """A head after the second step: weights and bias.

    Args:
        features: of the texts, shape (texts, features).
        pairs: places of the better and the worse text, shape (pairs, 2).
    """
    spread = (features.std(axis=0) + 1e-6) * np.sqrt(features.shape[-1])
    better, worse = features[pairs[:, 0]], features[pairs[:, 1]]
    step = logistic_weights((better - worse) / spread, ANCHOR, (better - worse) @ weights) / spread
    before, after = features @ weights + bias, features @ (weights + step)
    scale = before.std() / after.std()
    return ((weights + step) * scale).astype(np.float32), float(before.mean() - (after * scale).mean())


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


def real_texts() -> tuple[list, np.ndarray, np.ndarray]:
    """Chats with texts of real output; places of the better and the worse one; the fold of each pair, by instruction."""
    items, places = read_jsonl(DATA / "real_fit.jsonl"), {}
    pairs = [
        [places.setdefault((item["instruction"], item[side]), len(places)) for side in ("good", "worse")]
        for item in items
    ]
    texts = [([{"role": "user", "content": instruction}], text) for instruction, text in places]
    instructions = list(dict.fromkeys(item["instruction"] for item in items))
    shuffled = dict(
        zip(instructions, np.random.default_rng(0).permutation(len(instructions)) % FOLDS, strict=True)
    )
    return texts, np.array(pairs), np.array([shuffled[item["instruction"]] for item in items])


def second_step(heads: dict[str, tuple[np.ndarray, float]]) -> dict[str, tuple[np.ndarray, float]]:
    texts, pairs, folds = real_texts()
    votes, final = {"before": np.zeros(len(pairs)), "after": np.zeros(len(pairs))}, {}
    for name, (weights, bias) in heads.items():
        features = features_of(TransformersLLM(name), texts, LAYERS[name])
        differences = features[pairs[:, 0]] - features[pairs[:, 1]]
        after = np.zeros(len(pairs))
        for fold in range(FOLDS):
            left_in = moved(weights, bias, features, pairs[folds != fold])[0]
            after[folds == fold] = differences[folds == fold] @ left_in
        for step, margins in {"before": differences @ weights, "after": after}.items():
            votes[step] += WEIGHTS[name] * margins
            print(f"{len(pairs)} pairs of real output, {name}, {step}: {(margins > 0).mean():.3f}")
        final[name] = moved(weights, bias, features, pairs)
    for step, margins in votes.items():
        print(f"{len(pairs)} pairs of real output, both heads, {step}: {(margins > 0).mean():.3f}")
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

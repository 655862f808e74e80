"""Chapter 6, DPO: what the answers are checked for."""

import math
import re
from functools import partial

from course_lib.exercises.checks import agree, data, expect, is_pair, require
from course_lib.exercises.choices import chosen_from, match_each, number_in, of_type, read_off
from course_lib.exercises.my_dataset import kept
from course_lib.exercises.questions import question

BETAS = (0.1, 0.5, 1.0)
WORDS = 25


def _rewards(pair: dict, beta: float) -> tuple[float, float]:
    chosen, rejected = (pair[f"policy_{side}"] - pair[f"reference_{side}"] for side in ("chosen", "rejected"))
    return beta * chosen, beta * rejected


def _margin(pair: dict, beta: float) -> float:
    chosen, rejected = _rewards(pair, beta)
    return chosen - rejected


def _loss(margin: float) -> float:
    return math.log1p(math.exp(-margin))


def _cases() -> dict[str, tuple]:
    return {
        f"{tuple(pair.values())} and beta {beta}": (pair, beta)
        for pair in data("training")["pairs"]
        for beta in BETAS
    }


@question(
    "🐢",
    "The gain of a completion is its log-probability under the policy minus that under the reference.",
    "Its reward is beta times the gain; do this for chosen and for rejected.",
)
def implicit_rewards(answer):
    """A function of (pair, beta): the implicit rewards of both completions, (chosen, rejected)."""
    misread = {
        "beta has no effect yet": lambda pair, beta: _rewards(pair, 1),
        "the gains are turned round: they must be policy minus reference": lambda pair, beta: _rewards(
            pair, -beta
        ),
        "this is (rejected, chosen). Turn them round": lambda pair, beta: _rewards(pair, beta)[::-1],
        "these are the log-probabilities of the policy. Subtract those of the reference": lambda pair, beta: (
            beta * pair["policy_chosen"],
            beta * pair["policy_rejected"],
        ),
    }
    agree(answer, _rewards, _cases(), misread)


@question(
    "🐢",
    "The margin is the reward of chosen minus the reward of rejected.",
    "-log(sigmoid(margin)) is log(1 + exp(-margin)), which math.log1p(math.exp(-margin)) gives.",
)
def dpo_loss(answer):
    """A function of (pair, beta): the DPO loss, -log(sigmoid(margin)), where the margin is that of the implicit rewards."""
    misread = {
        "a loss is not negative; the sign is missing": lambda pair, beta: -_loss(_margin(pair, beta)),
        "the margin is turned round: it must be chosen minus rejected": lambda pair, beta: _loss(
            -_margin(pair, beta)
        ),
        "beta has no effect yet": lambda pair, beta: _loss(_margin(pair, 1)),
        "this is the sigmoid of the margin. Take minus its logarithm": lambda pair, beta: math.exp(
            -_loss(_margin(pair, beta))
        ),
        "this is the margin of the log-probabilities. The reference is left out": lambda pair, beta: _loss(
            beta * (pair["policy_chosen"] - pair["policy_rejected"])
        ),
    }
    agree(answer, lambda pair, beta: _loss(_margin(pair, beta)), _cases(), misread)


@question(
    "🐢",
    "A reward is beta times a gain. Which beta reaches a margin of 1 with a smaller gain?",
    "Before training, policy and reference are the same model. What is the gain then, and the loss?",
    kind="concept",
)
def what_beta_does(answer):
    """A dict from closer, reward, drift and start to "larger", "smaller" or "the same"."""
    match_each(answer, data("training")["beta"], "is not")


@question(
    "🐕",
    "One margin for each pair; then the mean of the losses, and the share of margins above 0.",
    "A margin of exactly 0 prefers neither text, so it does not count as right.",
)
def line_of_the_log(answer):
    """A function of (pairs, beta): a dict with "loss", the mean DPO loss, "margin", the mean margin, and "accuracy", the
    share of pairs with a margin above 0."""
    pairs = data("training")["pairs"]
    cases = {f"{len(pairs)} pairs and beta {beta}": (pairs, beta) for beta in BETAS}
    cases |= {f"pair {k} alone": (pairs[k : k + 1], 0.1) for k in range(len(pairs))}
    misread = {
        "a margin of 0 counts as right here; it prefers neither text": partial(_log_line, least=0.0),
        "these are sums; the log has means": partial(_log_line, summed=True),
    }
    agree(answer, _log_line, cases, misread)


def _log_line(pairs: list[dict], beta: float, least: float = 1e-12, summed: bool = False) -> dict[str, float]:
    margins = [_margin(pair, beta) for pair in pairs]
    count = 1 if summed else len(margins)
    loss, right = sum(map(_loss, margins)), sum(margin >= least for margin in margins)
    return {"loss": loss / count, "margin": sum(margins) / count, "accuracy": right / count}


@question(
    "🐕",
    "Look at the held-out pairs: the other curve falls as long as you train.",
    "Find the lowest point of the curve of the held-out pairs, and go down to the axis.",
    kind="plot",
)
def stop_at(answer):
    """The step, read from the figure to within 7 steps, at which the training should stop."""
    curves = data("training")["curves"]
    last = curves["held-out pairs"][-1][0]
    step = number_in(answer, 0, last, "a step, a number")
    right = min(curves["held-out pairs"], key=lambda point: point[1])[0]
    early = "the loss on held-out pairs still falls there"
    effect = early if step < right else "the loss on held-out pairs has been rising for a while"
    read_off(step, right, 7, effect, curves, "training step", "DPO loss")


@question(
    "🐕",
    "The loss is measured on the labels that a run was given. Right or wrong, a model can fit them.",
    "The held-out pairs have right labels. A model that has learned the opposite gets fewer of them right than a coin.",
    kind="fault",
)
def reversed_run(answer):
    """The run that was trained on reversed labels: "a", "b", "c" or "d"."""
    misread = {
        "a": "its loss falls, and it gets more and more held-out pairs right: that is a run as it should be.",
        "b": "its loss stays at ln 2 and its accuracy at that of a coin: it has learned nothing, right or wrong.",
        "d": "its loss falls most, and its held-out accuracy rises and sinks again: it learns its pairs by heart.",
    }
    chosen_from(answer, "c", misread)


@question(
    "🐕",
    "Cross out the lines that hardly keep to the rule, then those that paid for it with the variety of their texts.",
    "Of two that are left and keep to the rule nearly as often, take the one that moved less from the reference.",
    kind="concept",
)
def beta_from_table(answer):
    """The beta to go on with, a number from the table."""
    rows, beta = data("training")["betas"], number_in(answer, 0, 10, "a beta, a number")
    row = next((row for row in rows if math.isclose(row["beta"], beta, rel_tol=1e-3)), None)
    require(row, f"{beta:g} is not in the table; it has {', '.join(str(row['beta']) for row in rows)}.")
    facts = f"it keeps to the rule in {row['keeps to the rule']:.0%}, and {row['different texts']:.0%} of its texts differ"
    advice = "Look for a run within 5 points of the best share, with 90% or more of different texts"
    require(row["beta"] == 0.1, f"With beta {beta:g}, {facts}. {advice}.")


@question(
    "🐕",
    "Which way does the pair push? Up and down alike, the wrong way, or towards something that is no quality?",
    "One of them spoils no training at all, only the number that you report.",
    kind="concept",
)
def before_training(answer):
    """A dict from each fault to its effect: "nothing", "the opposite", "a habit" or "a false score"."""
    match_each(answer, data("training")["faults"], "does not teach")


@question(
    "🦁",
    "How many pairs are for training? What do your chosen texts have in common that the rejected ones have not?",
    "Say which number of the log would move, and which text would look different, if you are right.",
)
def my_training(answer):
    """A pair (pairs, report): how many of your pairs are for training, and a text of 25 words or more: what came out of the
    training, or what you expect, and why."""
    expect(is_pair(answer), "a pair (pairs, report), such as (3, 'I expect …')", answer)
    pairs, report = answer
    rows = kept(5)[0]
    train = sum(row["split"] == "train" for row in rows)
    right = f"You kept {len(rows)} pairs, {train} of them with the split 'train'; your answer says {pairs}."
    require(number_in(pairs, 0, 10**6, "a number of pairs") == train, right)
    of_type(report, str, "a text as your report")
    words = report.lower().split()
    require(len(words) >= WORDS, f"Your report has {len(words)} words; {WORDS} or more say what and why.")
    reasons = ("because", "since", "so", "why", "therefore", "as")
    require(set(reasons) & set(words), "Your report gives no reason. Write one, with 'because'.")
    measures = "loss|margin|accuracy|reward|text|answer|length|longer|shorter|word"
    unseen = (
        "How would one see it? Name a number of the log (loss, margin, accuracy), or what the texts show."
    )
    require(re.search(measures, report.lower()), unseen)
    require(len(set(words)) >= 12, f"Your report repeats {len(set(words))} words. Say more with others.")

"""Right and wrong answers to the questions of chapter 6."""

import math

import numpy as np
import pandas as pd
import torch

from course_lib.exercises.checks import data


def rewards(pair, beta):
    gains = [pair[f"policy_{side}"] - pair[f"reference_{side}"] for side in ("chosen", "rejected")]
    return beta * gains[0], beta * gains[1]


def rewards_array(pair, beta):
    policy, reference = np.array(list(pair.values())).reshape(2, 2)
    return beta * (policy - reference)


def rewards_tensor(pair, beta):
    return beta * (torch.tensor(list(pair.values())).reshape(2, 2) * torch.tensor([[1.0], [-1.0]])).sum(0)


def margin(pair, beta):
    chosen, rejected = rewards(pair, beta)
    return chosen - rejected


def loss(pair, beta):
    return math.log1p(math.exp(-margin(pair, beta)))


def log_line(pairs, beta):
    margins = np.array([margin(pair, beta) for pair in pairs])
    return {
        "loss": np.logaddexp(0, -margins).mean(),
        "margin": margins.mean(),
        "accuracy": (margins > 0).mean(),
    }


def log_line_by_hand(pairs, beta):
    lines = [(loss(pair, beta), margin(pair, beta)) for pair in pairs]
    return {
        "accuracy": len([1 for _, m in lines if m > 0]) / len(lines),
        "margin": sum(m for _, m in lines) / len(lines),
        "loss": sum(value for value, _ in lines) / len(lines),
    }


def log_line_by_pandas(pairs, beta):
    frame = pd.DataFrame({"loss": [loss(p, beta) for p in pairs], "margin": [margin(p, beta) for p in pairs]})
    return pd.concat([frame.mean(), pd.Series({"accuracy": (frame.margin > 0).mean()})]).to_dict()


def log_line_with(**changes):
    return lambda pairs, beta: {
        **log_line(pairs, beta),
        **{k: change(pairs, beta) for k, change in changes.items()},
    }


BETA = {"closer": "larger", "reward": "larger", "drift": "smaller", "start": "the same"}
EFFECTS = {name: row["right"] for name, row in data("training")["faults"].items()}
TRAIN = sum(row["split"] == "train" for row in data("stand_in_5"))
REPORT = """I expect that the margin on my own pairs rises at once, because so few pairs are learned by heart, and that
the texts for other questions stay what they were before the training."""

RIGHT = {
    "implicit_rewards": [
        rewards,
        rewards_array,
        rewards_tensor,
        lambda pair, beta: list(rewards(pair, beta)),
    ],
    "dpo_loss": [
        loss,
        lambda pair, beta: -np.log(1 / (1 + np.exp(-margin(pair, beta)))),
        lambda pair, beta: -torch.nn.functional.logsigmoid(torch.tensor(margin(pair, beta))),
        lambda pair, beta: float(np.logaddexp(0, -margin(pair, beta))),
    ],
    "what_beta_does": [BETA, {name: f" {word.title()} " for name, word in reversed(BETA.items())}],
    "line_of_the_log": [log_line, log_line_by_hand, log_line_by_pandas],
    "stop_at": [50, 45, 56, np.float32(48), torch.tensor(52)],
    "reversed_run": ["c", " C "],
    "beta_from_table": [0.1, np.float32(0.1), 1e-1, torch.tensor(0.1)],
    "before_training": [EFFECTS, {name: f" {word.upper()}" for name, word in EFFECTS.items()}],
    "my_training": [
        (TRAIN, REPORT),
        [TRAIN, REPORT.upper()],
        (np.int64(TRAIN), REPORT),
        (float(TRAIN), f"# Report\n{REPORT}"),
    ],
}
WRONG = {
    "implicit_rewards": [
        (lambda pair, beta: rewards(pair, 1), "beta has no effect yet"),
        (lambda pair, beta: rewards(pair, -beta), "policy minus reference"),
        (lambda pair, beta: rewards(pair, beta)[::-1], "this is (rejected, chosen)"),
        (
            lambda pair, beta: (beta * pair["policy_chosen"], beta * pair["policy_rejected"]),
            "Subtract those of the reference",
        ),
        (margin, "expected (0.0, 0.0)"),
        (lambda pair, beta: print(rewards(pair, beta)), "let it return it"),
        (lambda pair, beta: (math.exp(rewards(pair, beta)[0]), 0), "expected (0.0, 0.0"),
        (lambda pair: rewards(pair, 1), "raised TypeError"),
        ((0.2, -0.3), "Expected a function"),
    ],
    "dpo_loss": [
        (lambda pair, beta: -loss(pair, beta), "the sign is missing"),
        (lambda pair, beta: math.log1p(math.exp(margin(pair, beta))), "chosen minus rejected"),
        (lambda pair, beta: loss(pair, 1), "beta has no effect yet"),
        (lambda pair, beta: 1 / (1 + math.exp(-margin(pair, beta))), "the sigmoid of the margin"),
        (
            lambda pair, beta: math.log1p(math.exp(beta * (pair["policy_rejected"] - pair["policy_chosen"]))),
            "The reference is left out",
        ),
        (margin, "expected 0.693"),
        (lambda pair, beta: print(loss(pair, beta)), "let it return it"),
        (lambda pair, beta: str(loss(pair, beta)), "expected 0.693"),
        (0.6931, "Expected a function"),
    ],
    "what_beta_does": [
        ({**BETA, "closer": "smaller"}, "'closer' is not 'smaller'"),
        ({**BETA, "reward": "the same"}, "a reward is beta times a gain"),
        ({**BETA, "drift": "larger"}, "'drift' is not 'larger'"),
        ({**BETA, "start": "larger"}, "the loss is ln 2"),
        ({**BETA, "start": "0.69"}, "start: '0.69'; allowed"),
        ({"closer": "larger"}, "Expected the keys"),
        ("larger", "Expected a dict"),
    ],
    "line_of_the_log": [
        (
            log_line_with(accuracy=lambda pairs, beta: np.mean([margin(p, beta) >= 0 for p in pairs])),
            "a margin of 0 counts",
        ),
        (
            lambda pairs, beta: {name: value * len(pairs) for name, value in log_line(pairs, beta).items()},
            "these are sums",
        ),
        (
            log_line_with(loss=lambda pairs, beta: math.log1p(math.exp(-log_line(pairs, beta)["margin"]))),
            "expected {'loss'",
        ),
        (log_line_with(accuracy=lambda pairs, beta: 100.0), "expected {'loss'"),
        (lambda pairs, beta: log_line(pairs, beta)["loss"], "expected {'loss'"),
        (lambda pairs, beta: {"loss": log_line(pairs, beta)["loss"]}, "expected {'loss'"),
        (lambda pairs, beta: print(log_line(pairs, beta)), "let it return it"),
        (lambda pairs, beta: log_line(pairs["chosen"], beta), "raised TypeError"),
        ({}, "Expected a function"),
    ],
    "stop_at": [
        (100, "100 is too high: the loss on held-out pairs has been rising for a while"),
        (20, "20 is too low: the loss on held-out pairs still falls there"),
        (0, "too low"),
        (64, "too high"),
        (500, "from 0 to 100"),
        ("50", "without quotes"),
        (None, "of type NoneType"),
    ],
    "reversed_run": [
        ("a", "a run as it should be"),
        ("b", "it has learned nothing"),
        ("d", "learns its pairs by heart"),
        ("run c", "allowed: 'a', 'b', 'c', 'd'"),
        (2, "allowed"),
    ],
    "beta_from_table": [
        (0.01, "41% of its texts differ"),
        (0.05, "78% of its texts differ"),
        (0.5, "it keeps to the rule in 44%"),
        (2, "With beta 2, it keeps to the rule in 19%"),
        (0.2, "0.2 is not in the table; it has 0.01, 0.05, 0.1, 0.5, 2.0"),
        ("0.1", "without quotes"),
        (-1, "from 0 to 10"),
    ],
    "before_training": [
        ({**EFFECTS, "identical pair": "a habit"}, "'identical pair' does not teach 'a habit'"),
        ({**EFFECTS, "reversed pair": "nothing"}, "its loss falls like that of a right pair"),
        ({**EFFECTS, "test prompt in train": "a habit"}, "the number that you report is too high"),
        ({**EFFECTS, "chosen cut off in mid-sentence": "nothing"}, "the end token follows the cut"),
        (dict.fromkeys(EFFECTS, "nothing"), "does not teach 'nothing'"),
        ({**EFFECTS, "reversed pair": "bad"}, "reversed pair: 'bad'; allowed"),
        ({"reversed pair": "the opposite"}, "Expected the keys"),
        (list(EFFECTS.values()), "Expected a dict"),
    ],
    "my_training": [
        ((TRAIN + 5, REPORT), "with the split 'train'; your answer says"),
        ((TRAIN, "I expect a higher margin, because I trained."), "Your report has 8 words"),
        ((TRAIN, "It will learn my margin well. " * 6), "Your report gives no reason"),
        (
            (TRAIN, "It gets better because it is good and I like it very much indeed. " * 3),
            "How would one see it?",
        ),
        (("3", REPORT), "without quotes"),
        ((TRAIN, "because loss " * 13), "Your report repeats 2 words"),
        ((TRAIN, None), "Expected a text as your report"),
        (REPORT, "Expected a pair (pairs, report)"),
        (TRAIN, "Expected a pair (pairs, report)"),
    ],
}

"""Writing on tensors: from prompts to tokens, a batch at a time.

Sampling noise is drawn per row from `(seed, chat, draw, position, token)` by a counter-based hash, never from a
global generator, so a row gets the same text at any batch size, in any order and after any restart. A token is
chosen by the Gumbel-max trick: argmax of log-probability plus Gumbel noise is a draw from the distribution
(Maddison et al. 2014, https://arxiv.org/abs/1411.0030).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from course_lib.llms.cache import result_key
from course_lib.llms.devices import finite
from course_lib.llms.tree import prefill

# Of splitmix64, as signed numbers.
GOLDEN, MIX_A, MIX_B = -7046029254386353131, -4658895280553007687, -7723592293110705685


def noise_key(seed: int, chat: Any, draw: int) -> int:
    """The 64-bit key of a row's noise; a function of what the row says, not of where it stands."""
    digest = hashlib.blake2b(result_key(seed, chat, draw).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def gumbel_noise(keys: torch.Tensor, position: int, token_ids: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise for each row's candidate tokens.

    Args:
        keys: int64, shape `(rows,)`.
        position: index of the token to draw in its completion.
        token_ids: int64, shape `(rows, candidates)`.

    Returns:
        float32, shape `(rows, candidates)`.
    """
    state = _mix(keys + (position << 32))[:, None] + token_ids * GOLDEN
    uniform = (((_mix(state) >> 40) & 0xFFFFFF).float() + 0.5) / 2**24
    return -torch.log(-torch.log(uniform))


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The finalizer of splitmix64 (https://prng.di.unimi.it/splitmix64.c); int64 products wrap as needed."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * MIX_A
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * MIX_B
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def choose_tokens(
    logits: torch.Tensor, keys: torch.Tensor, position: int, arguments: dict[str, Any]
) -> torch.Tensor:
    """One token id per row, sampled as Transformers would (temperature, then top-k, top-p, min-p).

    Args:
        logits: float32, shape `(rows, vocabulary)`.
        keys: int64, shape `(rows,)`, from `noise_key`.
        position: index of the token in its completion.
        arguments: checked sampling arguments.
    """
    if arguments["temperature"] == 0:
        return logits.argmax(-1)
    vocabulary = logits.shape[-1]
    top_k = min(arguments["top_k"] or vocabulary, vocabulary)
    scores, token_ids = logits, torch.arange(vocabulary, device=logits.device).expand_as(logits)
    if top_k < vocabulary or arguments["top_p"] < 1 or arguments["min_p"] > 0:  # best first
        scores, token_ids = logits.topk(top_k, dim=-1)
    scores = (scores / arguments["temperature"]).log_softmax(-1)
    probabilities = scores.exp()
    if arguments["top_p"] < 1:
        before = probabilities.cumsum(-1) - probabilities
        scores = scores.masked_fill((before >= arguments["top_p"]) & (before > 0), -torch.inf)
    if arguments["min_p"] > 0:
        scores = scores.masked_fill(probabilities < arguments["min_p"] * probabilities[:, :1], -torch.inf)
    best = (scores + gumbel_noise(keys, position, token_ids)).argmax(-1, keepdim=True)
    return token_ids.gather(1, best).squeeze(1)


@dataclass
class Row:
    """One completion while it grows. `stops` says whether its text has reached a stop string."""

    prompt: list[int]
    key: int
    limit: int
    stops: Callable[[list[int]], bool]
    tokens: list[int] = field(default_factory=list)
    finish_reason: str = ""

    def take(self, token: int, end_tokens: set[int]) -> None:
        if token not in end_tokens:
            self.tokens.append(token)
        if token in end_tokens or self.stops(self.tokens):
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.limit:
            self.finish_reason = "length"


@torch.inference_mode()
def decode(model, rows: list[Row], arguments: dict[str, Any], end_tokens: set[int], most_nodes: int) -> None:
    """Write the completions of one batch into `rows`.

    Beginnings that prompts share are read once (`most_nodes` bounds one pass over them). Finished rows leave the
    batch as soon as they are an eighth of it, so that a batch does not wait for its longest.
    """
    order, cache, logits = prefill(model, [row.prompt for row in rows], most_nodes)
    live = [rows[i] for i in order]
    lengths, keys = torch.tensor([(len(row.prompt), row.key) for row in live], device=model.device).T
    longest, penalty = int(lengths.max()), arguments["repetition_penalty"]
    mask = (torch.arange(longest, device=model.device) >= longest - lengths[:, None]).long()
    # Each row's tokens so far, padded with one that it has.
    seen = [row.prompt[:1] * (longest - len(row.prompt)) + row.prompt for row in live]
    seen = torch.tensor(seen, device=model.device)
    for position in range(max(row.limit for row in live)):
        if penalty != 1:  # that of CTRL (1909.05858), as Transformers applies it
            scores = logits.gather(1, seen)
            logits = logits.scatter(1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))
        chosen = choose_tokens(logits, keys, position, arguments)
        for row, token in zip(live, chosen.tolist(), strict=True):
            if not row.finish_reason:
                row.take(token, end_tokens)
        keep = [i for i, row in enumerate(live) if not row.finish_reason]
        if not keep:
            return
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        seen = torch.cat([seen, chosen[:, None]], dim=1)
        if len(keep) <= len(live) * 7 // 8:
            live = [live[i] for i in keep]
            kept = torch.tensor(keep, device=model.device)
            cache.batch_select_indices(kept)
            mask, seen, keys = mask[kept], seen[kept], keys[kept]
        out = model(
            seen[:, -1:],
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = finite(out.logits[:, -1].float())

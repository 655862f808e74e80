"""Sampling and scoring on tensors: what stands between a Transformers model and text.

Sampling noise is drawn per row from `(seed, chat, draw, position, token)` by a counter-based hash, never from a
global generator, so a row gets the same text at any batch size, in any order and after any restart. A token is
chosen by the Gumbel-max trick: argmax of log-probability plus Gumbel noise is a draw from the distribution
(Maddison et al. 2014, https://arxiv.org/abs/1411.0030).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from course_lib.llms.cache import result_key

GOLDEN, MIX_A, MIX_B = -7046029254386353131, -4658895280553007687, -7723592293110705685  # splitmix64, as signed


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


def choose_tokens(logits: torch.Tensor, keys: torch.Tensor, position: int, arguments: dict[str, Any]) -> torch.Tensor:
    """One token id per row, sampled as Transformers would (temperature, then top-k, top-p, min-p).

    Args:
        logits: float32, shape `(rows, vocabulary)`.
        keys: int64, shape `(rows,)`, from `noise_key`.
        position: index of the token in its completion.
        arguments: checked sampling arguments.
    """
    if arguments["temperature"] == 0:
        return logits.argmax(-1)
    scores, token_ids = _candidates(logits, arguments)
    scores = (scores / arguments["temperature"]).log_softmax(-1)
    probabilities = scores.exp()
    if arguments["top_p"] < 1:
        before = probabilities.cumsum(-1) - probabilities
        scores = scores.masked_fill((before >= arguments["top_p"]) & (before > 0), -torch.inf)
    if arguments["min_p"] > 0:
        scores = scores.masked_fill(probabilities < arguments["min_p"] * probabilities[:, :1], -torch.inf)
    best = (scores + gumbel_noise(keys, position, token_ids)).argmax(-1, keepdim=True)
    return token_ids.gather(1, best).squeeze(1)


def _candidates(logits: torch.Tensor, arguments: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and token ids of the tokens that may be drawn, best first (unsorted only where no filter needs order)."""
    vocabulary = logits.shape[-1]
    top_k = min(arguments["top_k"] or vocabulary, vocabulary)
    if top_k < vocabulary or arguments["top_p"] < 1 or arguments["min_p"] > 0:
        return logits.topk(top_k, dim=-1)
    return logits, torch.arange(vocabulary, device=logits.device).expand_as(logits)


def left_padded(rows: Sequence[Sequence[int]], pad: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both int64 of shape `(rows, longest)`, with the padding on the left."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)


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
        if token in end_tokens:
            self.finish_reason = "stop"
            return
        self.tokens.append(token)
        if self.stops(self.tokens):
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.limit:
            self.finish_reason = "length"


@torch.inference_mode()
def decode(model, rows: list[Row], arguments: dict[str, Any], end_tokens: set[int], pad: int) -> None:
    """Write the completions of one batch into `rows`.

    Finished rows leave the batch as soon as they are an eighth of it, so that a batch does not wait for its longest.
    """
    ids, mask = left_padded([row.prompt for row in rows], pad, model.device)
    keys = torch.tensor([row.key for row in rows], device=model.device)
    seen = _seen(ids, mask, model.config.get_text_config().vocab_size) if arguments["repetition_penalty"] != 1 else None
    cache = DynamicCache(config=model.config)
    where = (mask.cumsum(-1) - 1).clamp(min=0)
    live = list(rows)
    for position in range(max(row.limit for row in rows)):
        out = model(ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits = _finite(out.logits[:, -1].float())
        if seen is not None:
            logits = _penalised(logits, seen, arguments["repetition_penalty"])
        chosen = choose_tokens(logits, keys, position, arguments)
        for row, token in zip(live, chosen.tolist(), strict=True):
            if not row.finish_reason:
                row.take(token, end_tokens)
        if seen is not None:
            seen.scatter_(1, chosen[:, None], True)
        open_rows = [i for i, row in enumerate(live) if not row.finish_reason]
        if not open_rows:
            return
        ids, where = chosen[:, None], where[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        if len(open_rows) <= len(live) * 7 // 8:
            keep = torch.tensor(open_rows, device=model.device)
            cache.batch_select_indices(keep)
            ids, where, mask, keys = ids[keep], where[keep], mask[keep], keys[keep]
            seen = seen[keep] if seen is not None else None
            live = [live[i] for i in open_rows]


def _seen(ids: torch.Tensor, mask: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Which tokens each row holds, padding apart: bool, shape `(rows, vocabulary)`."""
    seen = torch.zeros((ids.shape[0], vocabulary + 1), dtype=torch.bool, device=ids.device)
    return seen.scatter_(1, torch.where(mask.bool(), ids, vocabulary), True)[:, :vocabulary].contiguous()


def _penalised(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """CTRL's repetition penalty on the tokens of prompt and completion, as Transformers applies it (1909.05858)."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def _finite(logits: torch.Tensor) -> torch.Tensor:
    if torch.isnan(logits).any():
        raise FloatingPointError(
            "The model gave NaN instead of scores; its numbers are too large for this dtype. Use dtype='float32'."
        )
    return logits


# --- scoring ------------------------------------------------------------------------------------------------------


class TokenTree:
    """Token sequences laid over each other, so that what several have in common is computed once.

    A node is a token after a given beginning. `add` grows the tree; `nodes` of a row are its path.
    """

    def __init__(self):
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, row: Sequence[int]) -> list[int]:
        """The nodes of `row`, one per token."""
        nodes, parent = [], -1
        for depth, token in enumerate(row):
            node = self._children.setdefault((parent, token), len(self.tokens))
            if node == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(depth)
            nodes.append(node)
            parent = node
        return nodes

    def mask(self) -> torch.Tensor:
        """Which node sees which, itself and those before it on its path: bool, shape `(nodes, nodes)`."""
        seen = torch.eye(len(self), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


@torch.inference_mode()
def log_probs_of(model, rows: Sequence[Sequence[int]], targets: Sequence[Sequence[tuple[int, int]]], most_kept: int):
    """Log-probabilities of chosen tokens after chosen beginnings, all rows in one forward pass.

    Args:
        rows: token ids.
        targets: for each row `(place, token)`: how likely is `token` after the row's tokens up to and with `place`?
        most_kept: most places whose logits are held at once; more are computed in further passes.

    Returns:
        For each row a list of natural logarithms, one per target.
    """
    tree = TokenTree()
    paths = [tree.add(row) for row in rows]
    wanted = [(path[place], token) for path, row in zip(paths, targets, strict=True) for place, token in row]
    kept = sorted({node for node, _ in wanted})
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(kept), most_kept):
        part = torch.tensor(kept[start : start + most_kept], device=model.device)
        logits = _finite(_tree_logits(model, tree, part))
        norms = logits.logsumexp(-1)
        index = {node: i for i, node in enumerate(part.tolist())}
        pairs = [(node, token) for node, token in wanted if node in index]
        places = torch.tensor([index[node] for node, _ in pairs], device=logits.device)
        tokens = torch.tensor([token for _, token in pairs], device=logits.device)
        found.update(zip(pairs, (logits[places, tokens] - norms[places]).tolist(), strict=True))
    return [[found[path[place], token] for place, token in row] for path, row in zip(paths, targets, strict=True)]


def _tree_logits(model, tree: TokenTree, kept: torch.Tensor) -> torch.Tensor:
    """float32 logits at the nodes `kept`, shape `(len(kept), vocabulary)`."""
    depths = torch.tensor(tree.depths)
    mask: Any = tree.mask()
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window and max(tree.depths) >= window and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        near = mask & (depths[:, None] - depths[None, :] < window)
        mask = {"full_attention": mask, "sliding_attention": near}
        mask = {kind: one[None, None].to(model.device) for kind, one in mask.items()}
    else:
        mask = mask[None, None].to(model.device)
    ids, where = torch.tensor([tree.tokens], device=model.device), depths[None].to(model.device)
    out = model(ids, attention_mask=mask, position_ids=where, use_cache=False, logits_to_keep=kept)
    return out.logits[0].float()

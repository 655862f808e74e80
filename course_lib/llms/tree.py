"""Many token sequences in one forward pass, what they share computed once.

Sequences are laid over each other as a tree; an attention mask lets each token see its own path only (the tree attention
of Miao et al. 2023, https://arxiv.org/abs/2305.09781, here for prompts and for scoring).
"""

import os
from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import partial
from itertools import islice
from typing import Any

import torch
from transformers import DynamicCache

from course_lib.llms.devices import finite

LEAST_PREFIX = 16  # tokens; a shorter beginning costs less to read again than to keep
LOGITS = 2**27  # held at once while scoring; each token of Gemma has a megabyte of them


def shared_length(rows: Sequence[Sequence[int]], most: int) -> int:
    """How many tokens all `rows` begin with, at most `most`; 0 where keeping them is not worth it."""
    length = len(os.path.commonprefix([row[:most] for row in rows]))
    return length if len(rows) > 1 and length >= LEAST_PREFIX else 0


@torch.inference_mode()
def read_prefix(model, tokens: Sequence[int]) -> DynamicCache:
    """The keys and values of `tokens`, for the sequences that begin with them; whoever goes on from there copies it."""
    cache = DynamicCache()
    if tokens:
        _logits(model, TokenTree([tokens]), [len(tokens) - 1], cache)
    return cache


class TokenTree:
    """Token sequences laid over each other, so that what several have in common is computed once.

    A node is a token after a given beginning: `nodes` numbers each `(node before or -1, token)`, in order. `paths` has
    the nodes of each row.
    """

    def __init__(self, rows: Iterable[Sequence[int]] = ()):
        self.nodes: dict[tuple[int, int], int] = {}
        self.paths = [self.add(row) for row in rows]

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, row: Sequence[int]) -> list[int]:
        """Grow the tree by `row`; its nodes, one per token."""
        path = [-1]
        for token in row:
            path.append(self.nodes.setdefault((path[-1], token), len(self.nodes)))
        return path[1:]

    def mask(self, count: int) -> torch.Tensor:
        """Which of the first `count` nodes sees which, itself and its path: bool, shape `(count, count)`."""
        seen = torch.eye(count, dtype=torch.bool)
        for node, (parent, _) in enumerate(islice(self.nodes, count)):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def tree_batches(rows: dict[int, list[int]], most_nodes: int) -> list[list[int]]:
    """Positions in batches whose rows, laid over each other, have at most `most_nodes` tokens (or are one row)."""
    batches: list[list[int]] = []
    tree = TokenTree()
    for position in sorted(rows, key=lambda p: (rows[p], p)):
        tree.add(rows[position])
        if batches and len(tree) <= most_nodes:
            batches[-1].append(position)
        else:
            batches.append([position])
            tree = TokenTree([rows[position]])
    return batches


@torch.inference_mode()
def log_probs_of(
    model, rows: Sequence[Sequence[int]], targets: Sequence[Sequence[tuple[int, int]]], prefix: DynamicCache
) -> list[list[float]]:
    """Log-probabilities of chosen tokens after chosen beginnings, all rows in one tree.

    Args:
        rows: token ids, those of `prefix` included.
        targets: for each row `(place, token)`: how likely is `token` after the row's tokens up to and with `place`?
        prefix: what all rows begin with, from `read_prefix`; no target lies in it.

    Returns:
        For each row a list of natural logarithms, one per target.
    """
    past, cache = prefix.get_seq_length(), deepcopy(prefix)
    tree, logs = TokenTree(row[past:] for row in rows), {}
    pairs = [
        [(path[place - past], token) for place, token in row]
        for path, row in zip(tree.paths, targets, strict=True)
    ]
    most = max(1, LOGITS // model.config.get_text_config().vocab_size)
    for start in range(0, len(tree), most):  # in pieces, so that few logits are held
        end = min(start + most, len(tree))
        piece = sorted({pair for row in pairs for pair in row if start <= pair[0] < end}) or [(start, 0)]
        nodes, tokens = torch.tensor(piece, device=model.device).T
        kept, places = (nodes - start).unique(return_inverse=True)
        logits = _logits(model, tree, kept, cache, start, end)
        values = logits[places, tokens] - finite(logits.logsumexp(-1))[places]
        logs.update(zip(piece, values.tolist(), strict=True))
    return [[logs[pair] for pair in row] for row in pairs]


@torch.inference_mode()
def prefill(
    model, prompts: Sequence[Sequence[int]], most_nodes: int
) -> tuple[list[int], DynamicCache, torch.Tensor]:
    """Read `prompts`, what they share only once.

    Returns:
        The order of the rows from here on (positions in `prompts`), their keys and values with the padding on the
        left, and the logits after each prompt, float32 of shape `(rows, vocabulary)`.
    """
    longest = max(map(len, prompts))
    order, logits, parts = [], [], []
    for batch in tree_batches(dict(enumerate(prompts)), most_nodes):
        tree, small = TokenTree(prompts[i] for i in batch), DynamicCache()
        logits.append(finite(_logits(model, tree, [path[-1] for path in tree.paths], small)))
        # Padding points at node 0; the attention mask keeps it out of sight.
        nodes = torch.tensor([[0] * (longest - len(path)) + path for path in tree.paths], device=model.device)
        # From `(1, heads, nodes, size)` to `(rows, heads, longest, size)`.
        layers = [(layer.keys, layer.values) for layer in small.layers]
        parts.append([[states[0][:, nodes].transpose(0, 1) for states in layer] for layer in layers])
        order += batch
    cache = DynamicCache(config=model.config)
    for number, layers in enumerate(zip(*parts, strict=True)):
        cache.update(*map(torch.cat, zip(*layers, strict=True)), number)
    return order, cache, torch.cat(logits)


def _forward(
    model, tree: TokenTree, cache: DynamicCache, start: int = 0, end: int | None = None, **kwargs
) -> Any:
    """The model's output for the nodes from `start` to `end`, batch size 1.

    `cache` holds the tokens before the tree and its nodes before `start`, and is extended.
    """
    past = cache.get_seq_length() - start
    seen = tree.mask(len(tree) if end is None else end)
    places = seen.sum(-1) - 1 + past
    seen = torch.cat([torch.ones(len(places), past, dtype=torch.bool), seen], dim=1)[start:]
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    mask = seen[None, None].to(model.device)
    kinds = getattr(config, "layer_types", None)
    if window and places.max() >= window and (not kinds or "sliding_attention" in kinds):
        distances = places[start:, None] - torch.cat([torch.arange(past), places])
        near = (seen & (distances < window))[None, None].to(model.device)
        # Without `layer_types`, every layer has the window.
        mask = {"full_attention": mask, "sliding_attention": near} if kinds else near
    tokens = [token for _, token in islice(tree.nodes, start, end)]
    ids, places = (torch.as_tensor(row, device=model.device)[None] for row in (tokens, places[start:]))
    return model(
        ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, **kwargs
    )


def _logits(model, tree: TokenTree, kept: Any, cache: DynamicCache, *piece: int) -> torch.Tensor:
    """float32 logits at the nodes `kept`, counted from the beginning of the piece; shape `(len(kept), vocabulary)`."""
    kept = torch.as_tensor(kept, device=model.device)
    return _forward(model, tree, cache, *piece, logits_to_keep=kept).logits[0].float()


class _Enough(Exception):
    """Ends a forward pass of which nobody needs the rest."""


@torch.inference_mode()
def hidden_features(
    model,
    rows: Sequence[Sequence[int]],
    places: Sequence[tuple[int, int]],
    prefix: DynamicCache,
    layers: Sequence[int],
) -> Any:
    """What `model` holds in mind of completions: hidden states after `layers`, pooled.

    Args:
        rows: token ids of prompt, completion and a question about it.
        places: where the completion begins in each row, and where it has ended.
        prefix: what all rows begin with, from `read_prefix`; no completion begins in it.
        layers: after how many layers, 0 for the embeddings, less than all; what comes behind them is not computed.

    Returns:
        numpy array, float32, shape `(rows, len(layers) * 3 * hidden size)`: for each layer the mean over the completion's
        tokens, its last token, and the last token of the row, where the model is about to answer the question.
    """
    past, decoder = prefix.get_seq_length(), model.get_decoder().layers
    tree = TokenTree(row[past:] for row in rows)
    states: dict[int, torch.Tensor] = {}

    def keep(number: int, module, args) -> None:
        states[number] = finite(args[0][0].float())
        if number == max(layers):
            raise _Enough

    hooks = [decoder[number].register_forward_pre_hook(partial(keep, number)) for number in set(layers)]
    try:
        _forward(model, tree, deepcopy(prefix))
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    pooled = []
    for path, (start, end) in zip(tree.paths, places, strict=True):
        inside = path[start - past : end - past]
        parts = [(s[inside].mean(0), s[inside[-1]], s[path[-1]]) for s in map(states.get, layers)]
        pooled.append(torch.cat([part for triple in parts for part in triple]))
    return torch.stack(pooled).cpu().numpy()

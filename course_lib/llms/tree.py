"""Many token sequences in one forward pass, what they share computed once.

Sequences are laid over each other as a tree; an attention mask lets each token see its own path only (the tree attention
of Miao et al. 2023, https://arxiv.org/abs/2305.09781, here for prompts and for scoring).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers import DynamicCache

from course_lib.llms.devices import finite

LEAST_PREFIX = 16  # tokens; a shorter beginning costs less to read again than to keep
LOGITS = 2**27  # held at once while scoring; each token of Gemma has a megabyte of them


@dataclass
class Prefix:
    """A beginning that many sequences share: its length, and keys and values per layer. Empty by default."""

    length: int = 0
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()

    def cache(self) -> DynamicCache:
        """A cache that goes on from here; what is added to it does not change this prefix."""
        cache = DynamicCache()
        for number, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, number)
        return cache


def shared_length(rows: Sequence[Sequence[int]], most: int) -> int:
    """How many tokens all `rows` begin with, at most `most`; 0 where keeping them is not worth it."""
    first, last = min(rows), max(rows)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return min(length, most) if len(rows) > 1 and min(length, most) >= LEAST_PREFIX else 0


@torch.inference_mode()
def read_prefix(model, tokens: Sequence[int]) -> Prefix:
    """Compute `tokens` once, for the sequences that begin with them."""
    if not tokens:
        return Prefix()
    tree, cache = TokenTree(), DynamicCache()
    ends = torch.tensor(tree.add(tokens)[-1:], device=model.device)
    _logits(model, tree, ends, cache)
    return Prefix(len(tokens), [(layer.keys, layer.values) for layer in cache.layers])


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

    def mask(self, count: int) -> torch.Tensor:
        """Which of the first `count` nodes sees which, itself and its path: bool, shape `(count, count)`."""
        seen = torch.eye(count, dtype=torch.bool)
        for node, parent in enumerate(self.parents[:count]):
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
            tree = TokenTree()
            tree.add(rows[position])
    return batches


@torch.inference_mode()
def log_probs_of(
    model, rows: Sequence[Sequence[int]], targets: Sequence[Sequence[tuple[int, int]]], prefix: Prefix
) -> list[list[float]]:
    """Log-probabilities of chosen tokens after chosen beginnings, all rows in one forward pass.

    Args:
        rows: token ids, those of `prefix` included.
        targets: for each row `(place, token)`: how likely is `token` after the row's tokens up to and with `place`?
        prefix: what all rows begin with, from `read_prefix`; no target lies in it.

    Returns:
        For each row a list of natural logarithms, one per target.
    """
    tree = TokenTree()
    paths = [tree.add(row[prefix.length :]) for row in rows]
    nodes = [
        [(path[place - prefix.length], token) for place, token in row]
        for path, row in zip(paths, targets, strict=True)
    ]
    logs = _log_probs(model, tree, {pair for row in nodes for pair in row}, prefix)
    return [[logs[pair] for pair in row] for row in nodes]


def _log_probs(
    model, tree: TokenTree, pairs: set[tuple[int, int]], prefix: Prefix
) -> dict[tuple[int, int], float]:
    """The log-probability of each `(node, next token)`; the tree is read in pieces, so that few logits are held."""
    cache, device, logs = prefix.cache(), model.device, {}
    most = max(1, LOGITS // model.config.get_text_config().vocab_size)
    for start in range(0, len(tree), most):
        end = min(start + most, len(tree))
        inside = sorted(pair for pair in pairs if start <= pair[0] < end)
        kept = sorted({node - start for node, _ in inside}) or [0]
        index = {node + start: i for i, node in enumerate(kept)}
        logits = _logits(model, tree, torch.tensor(kept, device=device), cache, prefix.length, start, end)
        cells = [(index[node], token) for node, token in inside]
        places, tokens = torch.tensor(cells, dtype=torch.long, device=device).view(-1, 2).T
        values = logits[places, tokens] - finite(logits.logsumexp(-1))[places]
        logs.update(zip(inside, values.tolist(), strict=True))
    return logs


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
        tree = TokenTree()
        paths = [tree.add(prompts[i]) for i in batch]
        small = DynamicCache()
        ends = torch.tensor([path[-1] for path in paths], device=model.device)
        logits.append(finite(_logits(model, tree, ends, small)))
        # Padding points at node 0; the attention mask keeps it out of sight.
        where = torch.tensor([[0] * (longest - len(path)) + path for path in paths], device=model.device)
        parts.append([(_spread(layer.keys, where), _spread(layer.values, where)) for layer in small.layers])
        order += batch
    cache = DynamicCache(config=model.config)
    for number, layers in enumerate(zip(*parts, strict=True)):
        cache.update(
            torch.cat([keys for keys, _ in layers]), torch.cat([values for _, values in layers]), number
        )
    return order, cache, torch.cat(logits)


def _spread(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """From the nodes of a tree, shape `(1, heads, nodes, size)`, to rows, `(rows, heads, longest, size)`."""
    return states[0][:, where].transpose(0, 1)


def _forward(
    model,
    tree: TokenTree,
    cache: DynamicCache,
    past: int = 0,
    start: int = 0,
    end: int | None = None,
    **kwargs,
):
    """The model's output for the nodes from `start` to `end`, batch size 1.

    `cache` holds the `past` tokens before the tree and its nodes before `start`, and is extended.
    """
    places = torch.tensor(tree.depths[:end]) + past
    sees = torch.cat([torch.ones(len(places), past, dtype=torch.bool), tree.mask(len(places))], dim=1)[start:]
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    mask = sees[None, None].to(model.device)
    kinds = getattr(config, "layer_types", None)
    if window and places.max() >= window and (not kinds or "sliding_attention" in kinds):
        distances = places[start:, None] - torch.cat([torch.arange(past), places])
        near = (sees & (distances < window))[None, None].to(model.device)
        # Without `layer_types`, every layer has the window.
        mask = {"full_attention": mask, "sliding_attention": near} if kinds else near
    ids = torch.tensor([tree.tokens[start:end]], device=model.device)
    where = places[None, start:].to(model.device)
    return model(
        ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True, **kwargs
    )


def _logits(model, tree: TokenTree, kept: torch.Tensor, cache: DynamicCache, *piece: int) -> torch.Tensor:
    """float32 logits at the nodes `kept`, counted from the beginning of the piece; shape `(len(kept), vocabulary)`."""
    return _forward(model, tree, cache, *piece, logits_to_keep=kept).logits[0].float()


@torch.inference_mode()
def hidden_features(
    model,
    rows: Sequence[Sequence[int]],
    places: Sequence[tuple[int, int]],
    layers: Sequence[int],
    prefix: Prefix,
) -> torch.Tensor:
    """What `model` holds in mind of completions: hidden states after `layers`, pooled.

    Args:
        rows: token ids of prompt, completion and a question about it.
        places: where the completion begins in each row, and where it has ended.
        layers: after how many layers, 0 for the embeddings, less than all; what comes behind them is not computed.
        prefix: what all rows begin with, from `read_prefix`; no completion begins in it.

    Returns:
        float32, shape `(rows, len(layers) * 3 * hidden size)`: for each layer the mean over the completion's tokens, its
        last token, and the last token of the row, where the model is about to answer the question.
    """
    tree = TokenTree()
    paths = [tree.add(row[prefix.length :]) for row in rows]
    layer_states = [finite(states[0].float()) for states in _states_after(model, tree, layers, prefix)]
    pooled = []
    for path, (start, end) in zip(paths, places, strict=True):
        inside = path[start - prefix.length : end - prefix.length]
        parts = [(states[inside].mean(0), states[inside[-1]], states[path[-1]]) for states in layer_states]
        pooled.append(torch.cat([part for triple in parts for part in triple]))
    return torch.stack(pooled).cpu()


class _Enough(Exception):
    """Ends a forward pass of which nobody needs the rest."""


def _states_after(model, tree: TokenTree, layers: Sequence[int], prefix: Prefix) -> list[torch.Tensor]:
    """The hidden states after so many `layers`, each of shape `(1, nodes, hidden size)`."""
    states: dict[int, torch.Tensor] = {}

    def keep(number: int, module, args) -> None:
        states[number] = args[0]
        if number == max(layers):
            raise _Enough

    decoder = model.get_decoder().layers
    hooks = [decoder[number].register_forward_pre_hook(partial(keep, number)) for number in set(layers)]
    try:
        _forward(model, tree, prefix.cache(), prefix.length)
    except _Enough:
        return [states[number] for number in layers]
    finally:
        for hook in hooks:
            hook.remove()

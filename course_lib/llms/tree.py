"""Many token sequences in one forward pass, what they share computed once.

Sequences are laid over each other as a tree; an attention mask lets each token see its own path only (the tree attention
of Miao et al. 2023, https://arxiv.org/abs/2305.09781, here for prompts and for scoring).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from course_lib.llms.products import OneDnnLinear, columns_of

LEAST_PREFIX = 16  # tokens; a shorter beginning costs less to read again than to keep
ROOM = 64  # tokens for which a cache that grows keeps room
# Logits held at once while scoring: on a CPU 16 MB, which memory allocators hand out again and again.
CPU_BLOCK, GPU_BLOCK = 2**22, 2**27

_adjusting: WeakSet = WeakSet()  # models that cap or scale what their output layer gives


@dataclass
class Prefix:
    """A beginning that many sequences share: its length, and its keys and values per layer. Empty by default."""

    length: int = 0
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()

    def cache(self) -> DynamicCache:
        """A cache that goes on from here; what is added to it does not change this prefix."""
        cache = DynamicCache()
        for number, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, number)
        return cache


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer with room behind them, so that a step writes one token instead of copying them all."""

    _room: list[torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        start, new = self.get_seq_length(), (key_states, value_states)
        end = start + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        # What rearranges the rows (`reorder_cache` and the like) leaves new tensors, which are not in this room.
        lies_in = self._room is not None and self._room[0].data_ptr() == self.keys.data_ptr()
        if not lies_in or self._room[0].shape[-2] < end:
            self._room = [one.new_empty(*one.shape[:-2], end + ROOM, one.shape[-1]) for one in new]
            if start:
                for room, old in zip(self._room, (self.keys, self.values), strict=True):
                    room[..., :start, :] = old
        for room, one in zip(self._room, new, strict=True):
            room[..., start:end, :] = one
        self.keys, self.values = (room[..., :end, :] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None  # gives the memory back now


def growing_cache(config) -> DynamicCache:
    """An empty cache for a batch that grows by a token per step; layers with a sliding window stay as they are."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def shared_length(rows: Sequence[Sequence[int]], most: int) -> int:
    """How many tokens all `rows` begin with, at most `most`; 0 where keeping them is not worth it."""
    first, last = min(rows), max(rows)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
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

    def mask(self) -> torch.Tensor:
        """Which node sees which, itself and those before it on its path: bool, shape `(nodes, nodes)`."""
        seen = torch.eye(len(self), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
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
    nodes = [[(path[place - prefix.length], token) for place, token in row] for path, row in zip(paths, targets, strict=True)]
    pairs = list(dict.fromkeys(pair for row in nodes for pair in row))
    kept = sorted({node for node, _ in pairs})
    index = {node: i for i, node in enumerate(kept)}
    places = torch.tensor([index[node] for node, _ in pairs], device=model.device)
    tokens = torch.tensor([token for _, token in pairs], device=model.device)
    norms, chosen = _norms_and_chosen(model, tree, torch.tensor(kept, device=model.device), places, tokens, prefix)
    found = dict(zip(pairs, (chosen - finite(norms)[places]).tolist(), strict=True))
    return [[found[pair] for pair in row] for row in nodes]


def _norms_and_chosen(model, tree: TokenTree, kept, places, tokens, prefix: Prefix) -> tuple[torch.Tensor, torch.Tensor]:
    """The logarithm of the sum of exponentials at each node of `kept`, and the logits of `tokens` at `places` in `kept`."""
    if model not in _adjusting:
        states, as_they_come = _before_output_layer(model, tree, kept, prefix)
        if as_they_come:
            return _by_blocks(model.get_output_embeddings(), states, places, tokens)
        _adjusting.add(model)
    return _in_passes(model, tree, kept, places, tokens, prefix)


def _in_passes(model, tree: TokenTree, kept, places, tokens, prefix: Prefix) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_norms_and_chosen`, from the model's own logits, in as many passes as their number asks for."""
    most = max(1, GPU_BLOCK // model.config.get_text_config().vocab_size)
    norms, chosen = [], torch.empty(len(tokens), device=kept.device)
    for start in range(0, len(kept), most):
        logits = _logits(model, tree, kept[start : start + most], prefix.cache(), prefix.length)
        inside = (places >= start) & (places < start + most)
        norms.append(logits.logsumexp(-1))
        chosen[inside] = logits[places[inside] - start, tokens[inside]]
    return torch.cat(norms), chosen


def _before_output_layer(model, tree: TokenTree, kept: torch.Tensor, prefix: Prefix) -> tuple[torch.Tensor, bool]:
    """What the output layer reads at the nodes `kept`, and whether the logits are its products and nothing is done to them."""
    layer, seen = model.get_output_embeddings(), {}

    def first_place(module, args):
        seen["states"] = args[0][0]
        return (args[0][:, :1],)

    def product(module, args, output):
        seen["product"] = output

    hooks = [layer.register_forward_pre_hook(first_place), layer.register_forward_hook(product)]
    try:
        logits = _forward(model, tree, prefix.cache(), prefix.length, logits_to_keep=kept).logits
    finally:
        for hook in hooks:
            hook.remove()
    plain = type(layer) in (nn.Linear, OneDnnLinear) and layer.weight.device == logits.device
    return seen["states"], plain and torch.equal(seen["product"].float(), logits.float())


def _by_blocks(layer: nn.Linear, states: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor):
    """As `_norms_and_chosen`, a part of the vocabulary at a time: all of it would be a megabyte for each token of Gemma."""
    size, width = len(layer.weight), max(1, (GPU_BLOCK if states.is_cuda else CPU_BLOCK) // len(states))
    norms = torch.full((len(states),), -torch.inf, device=states.device)
    chosen = torch.empty(len(tokens), device=states.device)
    for start in range(0, size, width):
        end = min(start + width, size)
        logits = columns_of(layer, states, start, end).float()
        norms = torch.logaddexp(norms, logits.logsumexp(-1))
        inside = (tokens >= start) & (tokens < end)
        chosen[inside] = logits[places[inside], tokens[inside] - start]
    return norms, chosen


@torch.inference_mode()
def prefill(model, prompts: Sequence[Sequence[int]], most_nodes: int) -> tuple[list[int], DynamicCache, torch.Tensor]:
    """Read `prompts`, what they share only once.

    Returns:
        The order of the rows from here on (positions in `prompts`), their keys and values with the padding on the
        left, and the logits after each prompt, float32 of shape `(rows, vocabulary)`.
    """
    longest = max(map(len, prompts))
    order: list[int] = []
    logits, parts = [], []
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
    cache = growing_cache(model.config)
    for number, layers in enumerate(zip(*parts, strict=True)):
        cache.update(torch.cat([keys for keys, _ in layers]), torch.cat([values for _, values in layers]), number)
    return order, cache, torch.cat(logits)


def _spread(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """From the nodes of a tree, shape `(1, heads, nodes, size)`, to rows, `(rows, heads, longest, size)`."""
    return states[0][:, where].transpose(0, 1)


def _forward(model, tree: TokenTree, cache: DynamicCache, past: int = 0, **kwargs):
    """The model's output for `tree`, batch size 1; `cache` holds `past` tokens before it and is extended."""
    places = torch.tensor(tree.depths) + past
    sees = torch.cat([torch.ones(len(tree), past, dtype=torch.bool), tree.mask()], dim=1)
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    mask = sees[None, None].to(model.device)
    kinds = getattr(config, "layer_types", None)
    if window and places.max() >= window and (not kinds or "sliding_attention" in kinds):
        near = (sees & (places[:, None] - torch.cat([torch.arange(past), places]) < window))[None, None].to(model.device)
        # Without `layer_types`, every layer has the window.
        mask = {"full_attention": mask, "sliding_attention": near} if kinds else near
    ids = torch.tensor([tree.tokens], device=model.device)
    where = places[None].to(model.device)
    return model(ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True, **kwargs)


def _logits(model, tree: TokenTree, kept: torch.Tensor, cache: DynamicCache, past: int = 0) -> torch.Tensor:
    """float32 logits at the nodes `kept`, shape `(len(kept), vocabulary)`."""
    return _forward(model, tree, cache, past, logits_to_keep=kept).logits[0].float()


@torch.inference_mode()
def hidden_features(
    model, rows: Sequence[Sequence[int]], places: Sequence[tuple[int, int]], layers: Sequence[int], prefix: Prefix
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
    states = [finite(one[0].float()) for one in _states_after(model, tree, layers, prefix)]
    pooled = []
    for path, (start, end) in zip(paths, places, strict=True):
        inside = path[start - prefix.length : end - prefix.length]
        pooled.append(torch.cat([part for one in states for part in (one[inside].mean(0), one[inside[-1]], one[path[-1]])]))
    return torch.stack(pooled).cpu()


class _Enough(Exception):
    """Ends a forward pass of which nobody needs the rest."""


def _states_after(model, tree: TokenTree, layers: Sequence[int], prefix: Prefix) -> list[torch.Tensor]:
    """The hidden states after so many `layers`, each of shape `(1, nodes, hidden size)`."""
    found: dict[int, torch.Tensor] = {}

    def keep(number: int):
        def before_layer(module, args):
            found[number] = args[0]
            if number == max(layers):
                raise _Enough

        return before_layer

    hooks = [model.get_decoder().layers[number].register_forward_pre_hook(keep(number)) for number in set(layers)]
    try:
        _forward(model, tree, prefix.cache(), prefix.length)
    except _Enough:
        return [found[number] for number in layers]
    finally:
        for hook in hooks:
            hook.remove()


def finite(scores: torch.Tensor) -> torch.Tensor:
    """`scores`, or an error if one of them is NaN."""
    if torch.isnan(scores).any():
        raise FloatingPointError(
            "The model gave NaN instead of scores; its numbers are too large for this dtype. Use dtype='float32'."
        )
    return scores

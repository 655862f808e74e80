"""Many token sequences in one forward pass, what they share computed once.

Sequences are laid over each other as a tree; an attention mask lets each token see its own path only (the tree attention
of Miao et al. 2023, https://arxiv.org/abs/2305.09781, here for prompts and for scoring).
"""

from collections.abc import Sequence

import torch
from transformers import DynamicCache


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
        logits = _forward(model, tree, part)
        norms = logits.logsumexp(-1)
        index = {node: i for i, node in enumerate(part.tolist())}
        pairs = [(node, token) for node, token in wanted if node in index]
        places = torch.tensor([index[node] for node, _ in pairs], device=logits.device)
        tokens = torch.tensor([token for _, token in pairs], device=logits.device)
        found.update(zip(pairs, (logits[places, tokens] - norms[places]).tolist(), strict=True))
    return [[found[path[place], token] for place, token in row] for path, row in zip(paths, targets, strict=True)]


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
        logits.append(_forward(model, tree, ends, small))
        # Padding points at node 0; the attention mask keeps it out of sight.
        where = torch.tensor([[0] * (longest - len(path)) + path for path in paths], device=model.device)
        parts.append([(_spread(layer.keys, where), _spread(layer.values, where)) for layer in small.layers])
        order += batch
    cache = DynamicCache(config=model.config)
    for number, layers in enumerate(zip(*parts, strict=True)):
        cache.update(torch.cat([keys for keys, _ in layers]), torch.cat([values for _, values in layers]), number)
    return order, cache, torch.cat(logits)


def _spread(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """From the nodes of a tree, shape `(1, heads, nodes, size)`, to rows, `(rows, heads, longest, size)`."""
    return states[0][:, where].transpose(0, 1)


def _forward(model, tree: TokenTree, kept: torch.Tensor, cache: DynamicCache | None = None) -> torch.Tensor:
    """float32 logits at the nodes `kept`, shape `(len(kept), vocabulary)`."""
    depths = torch.tensor(tree.depths)
    mask = tree.mask()
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window and max(tree.depths) >= window and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        near = mask & (depths[:, None] - depths[None, :] < window)
        mask = {"full_attention": mask[None, None].to(model.device), "sliding_attention": near[None, None].to(model.device)}
    else:
        mask = mask[None, None].to(model.device)
    ids, where = torch.tensor([tree.tokens], device=model.device), depths[None].to(model.device)
    remember = {"past_key_values": cache, "use_cache": cache is not None}
    out = model(ids, attention_mask=mask, position_ids=where, logits_to_keep=kept, **remember)
    return finite(out.logits[0].float())


def finite(logits: torch.Tensor) -> torch.Tensor:
    if torch.isnan(logits).any():
        raise FloatingPointError(
            "The model gave NaN instead of scores; its numbers are too large for this dtype. Use dtype='float32'."
        )
    return logits

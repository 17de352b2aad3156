"""The DVME head, for several independent members at once.

Every parameter has a leading axis, one slice a member.

Members never meet: products are batched over them, so a member's numbers are those that it has
alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

#: Elements of one block of attention weights where they are made at all (`attention`): 64 MB in
#: float32.
BLOCK = 2**24


class Linear(nn.Module):
    """A linear layer for each of R members: (R, n, inputs) -> (R, n, outputs).

    Made for one, initialised as torch's.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True):
        super().__init__()
        layer = nn.Linear(inputs, outputs, bias=bias)
        self.weight = nn.Parameter(layer.weight.detach().T[None].contiguous())
        self.bias = nn.Parameter(layer.bias.detach()[None, None]) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            torch.bmm(x, self.weight)
            if self.bias is None
            else torch.baddbmm(self.bias, x, self.weight)
        )


class SelfAttention(nn.Module):
    """timm's `vision_transformer.Attention` with one head and its defaults.

    No bias for query, key and value, one for the projection.

    forward: tokens (R, B, t, dim) -> (R, B, t, dim). The t x t weights are never stored: memory
    grows with R B t.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.scale = dim**-0.5
        self.qkv = Linear(dim, 3 * dim, bias=False)
        self.proj = Linear(dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        shape, dim = tokens.shape, tokens.shape[-1]
        qkv = self.qkv(tokens.flatten(1, 2)).view(-1, shape[2], 3 * dim)
        # Zeros change nothing, and CUDA's memory-efficient kernel takes no float32 width that is
        # not a multiple of 4.
        q, k, v = (F.pad(part, (0, -dim % 4))[:, None] for part in qkv.chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)[..., :dim]
        out: torch.Tensor = self.proj(mixed.reshape(shape[0], -1, dim)).view(shape)
        return out

    def weights(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (R, B, t, t): what each token (row) takes of each other; rows sum to 1."""
        q, k, _ = self.qkv(tokens.flatten(1, 2)).view(*tokens.shape[:3], -1).chunk(3, -1)
        weights: torch.Tensor = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return weights


class Head(nn.Module):
    """Fuse sources by attention, see `loop.head`.

    One Linear per source, concatenation, self-attention, LayerNorm, Linear, ReLU, dropout, Linear.
    It is made for one member, as the loop trains them. forward(sources): k tensors (B, d_i) -> (B,
    outputs); for R members, (R, B, d_i) -> (R, B, outputs). keep: (R, B, width), the dropout mask
    to use, already divided by the share that is kept; None: drawn by torch in training mode, no
    dropout in eval mode.
    """

    def __init__(
        self, dims: Sequence[int], n_outputs: int, tokens: str, width: int, dropout: float
    ):
        super().__init__()
        if tokens not in ("source", "scalar", "none"):
            raise ValueError(f"tokens must be 'source', 'scalar' or 'none'; got '{tokens}'")
        self.tokens, self.width, self.dropout = tokens, width, dropout
        self.project = nn.ModuleList(Linear(d, width) for d in dims)
        self.attend = (
            None if tokens == "none" else SelfAttention(width if tokens == "source" else 1)
        )
        self.gain = nn.Parameter(torch.ones(1, 1, len(dims) * width))
        self.shift = nn.Parameter(torch.zeros(1, 1, len(dims) * width))
        self.hidden = Linear(len(dims) * width, width)
        self.classify = Linear(width, n_outputs)

    def forward(
        self, sources: Sequence[torch.Tensor], keep: torch.Tensor | None = None
    ) -> torch.Tensor:
        alone = sources[0].ndim == 2
        tokens = self._tokens(sources)
        fused = (tokens if self.attend is None else self.attend(tokens)).flatten(2)
        normal = F.layer_norm(fused, (len(self.project) * self.width,)) * self.gain + self.shift
        hidden = F.relu(self.hidden(normal))
        hidden = F.dropout(hidden, self.dropout, self.training) if keep is None else hidden * keep
        out: torch.Tensor = self.classify(hidden)
        return out[0] if alone else out

    def _tokens(self, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """(R, B, k, width), or (R, B, k width, 1) for `scalar`."""
        given = [x if x.ndim == 3 else x[None] for x in sources]
        projected = [layer(x) for layer, x in zip(self.project, given, strict=True)]
        return (
            torch.cat(projected, -1)[..., None]
            if self.tokens == "scalar"
            else torch.stack(projected, 2)
        )

    @torch.no_grad()
    def attention(self, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return (B, k, k) of k tensors (B, d_i), source x source, one member.

        What a row's source takes of each column's; rows sum to 1.

        `scalar`: mean over the tokens of the row's source, sum over those of the column's. Made
        `BLOCK` elements at a time: the peak is three blocks (products, weights, their sums),
        whatever B is. Raises ValueError for a head without attention.

        How to read it. `source`: a lean, not a proof: with one informative source and two of noise
        it settled at .40 : .30 : .30, since the layers behind it can tell the sources apart without
        it. `scalar`: a token's weight follows from its value alone, the attention cannot know which
        source it came from; sources of one scale get equal shares, and one of a larger scale gets
        more, untrained too.
        """
        if self.attend is None:
            raise ValueError("a head with tokens='none' has no attention")
        k = len(sources)
        tokens = self._tokens(sources)
        side = tokens.shape[2]
        maps = []
        for part in torch.split(tokens, max(1, BLOCK // side**2), dim=1):
            weights = self.attend.weights(part)[0]
            maps.append(weights.view(-1, k, side // k, k, side // k).sum(4).mean(2))
        return torch.cat(maps)

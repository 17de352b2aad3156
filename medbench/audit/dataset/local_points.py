"""Which images share places.

Points of an image, described so that turning and mirroring it change nothing, and looked for in all
others.

A copy that was cropped, padded or written on has lost its hash and its nearest neighbours in
feature space wherever all images of a data set are taken alike; but most of its points are still
there. Points are the extremes of differences of Gaussians (Lowe 2004,
doi:10.1023/B:VISI.0000029664.99615.94); what lies around one is read on rings, and the products of
the rings' angular frequencies are the description: a turn changes the phases of all rings alike, a
mirror turns their sign, so that the real part of a product stays. Neighbours are looked for in the
leaves of a few random projection trees (Dasgupta & Freund 2008, doi:10.1145/1374376.1374452): n log
n in the number of points. A match counts by how much nearer it is than what else the leaf holds, so
that places that many images have, as a rib or the rim of an eye, count little.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medbench.audit.dataset.detail import blur, grey_of, picture_of
from medbench.system.progress_listener import report_progress

if TYPE_CHECKING:
    import torch

    from medbench.audit.dataset.pack_rows import Rows

POINTS, _TRIED = 128, 2  # an image, at most; so many times as many extremes are looked at
_BLURS = tuple(0.8 * 1.2**k for k in range(9))  # px
_RINGS, _ANGLES, _FREQUENCIES = (1.2, 2.4, 3.7, 5.2, 7.0), 16, 7  # in blurs of the point
_NOISE = 0.01  # of the grey range: contrast below it makes no point
_KEPT = 40  # principal directions of the descriptions, each with unit variance
_SAMPLE = 320  # images that these are found on
_TREES, _LEAF = 4, 128
_MATCHES = 3  # of a point in a leaf; the next one is what the leaf holds anyway
_STEP = 64  # images, or leaves, at a time
_CACHED = 2**13  # points, at a time


def by_points(
    pack: np.ndarray | Rows, groups: np.ndarray, neighbours: int
) -> list[tuple[int, int, float]]:
    """Return pairs (i, j, votes) with i < j, what stands out first.

    Each image's `neighbours` of another group that do most. pack (N, S, S, 3) uint8, groups (N,)
    int.
    """
    import torch

    with torch.inference_mode():
        points, owner = _described(pack)
        return voted_for(points, owner, torch.from_numpy(groups), neighbours)


def voted_for(
    points: torch.Tensor, owner: torch.Tensor, groups: torch.Tensor, neighbours: int
) -> list[tuple[int, int, float]]:
    """Return what `by_points` does, of described points: (M, columns) float16, each of length 1.

    owner: (M,) int32, the image that each lies in. groups: (N,) int64.
    """
    n = len(groups)
    if len(points) <= _MATCHES:
        return []
    first, second, votes = _votes(points, owner, groups)
    standing = _standing_out(first, second, votes, n)
    # each image's own: of any other pair both images have had theirs before it comes
    least = _nth(first, second, standing, n, neighbours)
    few = np.flatnonzero((standing >= least[first]) | (standing >= least[second]))
    order = few[np.argsort(-standing[few], kind="stable")]
    room = np.full(n, neighbours)
    found = []
    for i, j, value in zip(
        first[order].tolist(), second[order].tolist(), votes[order].tolist(), strict=True
    ):
        if room[i] > 0 or room[j] > 0:
            room[i], room[j] = room[i] - 1, room[j] - 1
            found.append((i, j, value))
    return found


def _standing_out(first: np.ndarray, second: np.ndarray, votes: np.ndarray, n: int) -> np.ndarray:
    """(P,): by how much a pair's votes exceed the most that one of its n images has with any other.

    More votes count for more. Of aligned images all have many votes with all, and a crop has few,
    but hardly any with others.
    """
    best, next_best = (_nth(first, second, votes, n, place) for place in (1, 2))
    other = [np.where(votes >= best[side], next_best[side], best[side]) for side in (first, second)]
    found: np.ndarray = np.sqrt(votes) * votes / (1 + np.minimum(*other))
    return found


def _nth(
    first: np.ndarray, second: np.ndarray, value: np.ndarray, n: int, place: int
) -> np.ndarray:
    """(n,) float32: the `place`-th highest value of each image's pairs, 0 where it has fewer.

    value: (P,), not negative, so that its bits as float32 have its order: one sort of integers.
    """
    bits = np.uint64(0xFFFFFFFF) - value.astype(np.float32).view(np.uint32)
    key = np.concatenate([first, second]).astype(np.uint64) << np.uint64(32)
    key[: len(bits)] |= bits
    key[len(bits) :] |= bits
    key.sort()
    owner = np.arange(n, dtype=np.uint64)
    at = np.searchsorted(key, owner << np.uint64(32)) + place - 1
    there = at < len(key)
    there[there] = key[at[there]] >> np.uint64(32) == owner[there]
    found = np.zeros(n, np.float32)
    left = (np.uint64(0xFFFFFFFF) - (key[at[there]] & np.uint64(0xFFFFFFFF))).astype(np.uint32)
    found[there] = left.view(np.float32)
    return found


def _described(pack: np.ndarray | Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all points, and the image that each lies in.

    Points are (M, _KEPT) float16, each of length 1; images (M,) int32.
    """
    import torch

    n = len(pack)
    sample = torch.cat(
        [_descriptions(pack[rows])[0] for rows in _blocks(np.arange(0, n, max(1, n // _SAMPLE)))]
    )
    if not len(sample):
        return torch.zeros(0, _KEPT, dtype=torch.float16), torch.zeros(0, dtype=torch.int32)
    mean = sample.mean(0)
    covariance = (sample - mean).T @ (sample - mean) / len(sample)
    # equal values do not converge in float32
    variance, directions = (found.float() for found in torch.linalg.eigh(covariance.double()))
    scale = (
        directions[:, -_KEPT:] / (variance[-_KEPT:] + 1e-3 * variance[-1]).clamp_min(1e-12).sqrt()
    )
    points, owner = [], []
    for rows in _blocks(np.arange(n)):
        each, own = _descriptions(pack[rows])
        points.append(torch.nn.functional.normalize((each - mean) @ scale, dim=1).half())
        owner.append((own + int(rows[0])).int())
        report_progress("describing points", int(rows[-1]) + 1, n, "images")
    return torch.cat(points), torch.cat(owner)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _STEP] for start in range(0, len(rows), _STEP)]


def _descriptions(pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptions (M, D) of the points of P images, and the image (M,) of each."""
    import torch

    grey = grey_of(pixels)
    blurred = torch.cat([blur(grey, sigma) for sigma in _BLURS], 1)
    level, y, x, there = _points(grey, blurred)
    found = _rings(blurred[:, :-1], level, y, x)
    spectrum = torch.fft.rfft(found, dim=-1)[..., :_FREQUENCIES].transpose(-1, -2)
    one, other = torch.triu_indices(len(_RINGS), len(_RINGS))
    products = (spectrum[..., one] * spectrum[..., other].conj()).real.flatten(2)
    described = torch.cat([products.sign() * products.abs().sqrt(), spectrum[..., 0, :].real], -1)
    owner = torch.arange(len(pixels))[:, None].expand_as(there)
    return described[there], owner[there]


def _points(
    grey: torch.Tensor, blurred: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return level, row and column of `POINTS` extremes of each image, and which are any.

    Strongest in their surroundings first: (P, POINTS) each.
    """
    import torch
    from torch.nn import functional

    size = grey.shape[-1]
    around = blur((grey - blur(grey, 4.0)) ** 2, 6.0).clamp_min(0).sqrt()
    strength = (blurred[:, :-1] - blurred[:, 1:]).abs() / (around + _NOISE) * picture_of(grey)
    strength = torch.where(
        strength == functional.max_pool2d(strength, 3, 1, 1), strength, torch.zeros(())
    )
    inner = torch.zeros(size, size)
    inner[2:-2, 2:-2] = 1
    value, at = (strength * inner).flatten(1).topk(min(_TRIED * POINTS, strength[0].numel()), 1)
    value, best = (value * _roundness(blurred, at)).topk(min(POINTS, at.shape[1]), 1)
    at = at.gather(1, best)
    return at // size**2, at % size**2 // size, at % size, value > 1e-3


def _roundness(blurred: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return how round each place is: (P, n) in [0, 1].

    1 for a disc, 0 along a line, as a rib or a vessel is, where one place looks like the next (the
    ratio of principal curvatures of Lowe 2004). blurred (P, levels, s, s), at (P, n): places in its
    differences, none at the border.
    """

    size = blurred.shape[-1]
    flat = (blurred[:, :-1] - blurred[:, 1:]).flatten(1)

    def beside(down: int, across: int) -> torch.Tensor:
        return flat.gather(1, (at + down * size + across).clamp(0, flat.shape[1] - 1))

    centre = 2 * beside(0, 0)
    xx, yy = beside(0, 1) + beside(0, -1) - centre, beside(1, 0) + beside(-1, 0) - centre
    xy = (beside(1, 1) + beside(-1, -1) - beside(1, -1) - beside(-1, 1)) / 4
    return (4 * (xx * yy - xy**2) / ((xx + yy) ** 2).clamp_min(1e-12)).clamp(0, 1)


def _rings(
    levels: torch.Tensor, level: torch.Tensor, y: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """(P, n, rings, angles).

    What lies on the rings about each point, in its own level, with mean 0 and length 1.
    """
    import torch
    from torch.nn import functional

    p, n = level.shape
    high, size = levels.shape[1:3]
    angle = torch.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    radius = (torch.tensor(_BLURS)[level][..., None] * torch.tensor(_RINGS))[..., None]
    across = (x[..., None, None] + radius * angle.cos()).clamp(0, size - 1)
    down = (y[..., None, None] + radius * angle.sin()).clamp(0, size - 1) + level[
        ..., None, None
    ] * size
    net = torch.stack(
        [(across + 0.5) * 2 / size - 1, (down + 0.5) * 2 / (high * size) - 1], -1
    ).view(p, n, -1, 2)
    # the levels one below the other: one lookup for all
    tall = levels.reshape(p, 1, high * size, size)
    found = functional.grid_sample(tall, net, align_corners=False, padding_mode="border")[:, 0]
    found = found - found.mean(-1, keepdim=True)
    rings: torch.Tensor = (found / found.norm(dim=-1, keepdim=True).clamp_min(1e-4)).view(
        p, n, len(_RINGS), _ANGLES
    )
    return rings


def _votes(
    points: torch.Tensor, owner: torch.Tensor, groups: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of images of two groups that share points, i < j, and how much they do: (P,) each."""
    import torch

    n, keys, votes = len(groups), [], []
    random = torch.Generator().manual_seed(0)
    for tree in range(_TREES):
        for leaves in torch.split(_tree(points, random), _STEP):
            near = points[leaves].float()
            own = owner[leaves].long()
            group = groups[own]
            like = (near @ near.mT).masked_fill_(group[:, :, None] == group[:, None], -1.0)
            value, at = like.topk(min(_MATCHES + 1, like.shape[-1]), 2)
            ahead = (value - value[..., -1:])[..., :-1]
            other = own[:, None].expand(-1, own.shape[1], -1).gather(2, at[..., :-1])
            mine = own[:, :, None].expand_as(other)
            counts = ahead > 0
            keys.append((torch.minimum(mine, other) * n + torch.maximum(mine, other))[counts])
            votes.append(ahead[counts])
        report_progress("comparing points", tree + 1, _TREES, "trees")
    key, which = torch.unique(torch.cat(keys), return_inverse=True)
    total = torch.zeros(len(key)).index_add_(0, which, torch.cat(votes))
    return (key // n).numpy(), (key % n).numpy(), total.numpy()


def _tree(points: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """(leaves, at most `_LEAF`) rows of points (M, D).

    Halved again and again at the median along random directions. Some rows stand twice.
    """
    import torch

    m, columns = points.shape
    depth = max(0, math.ceil(math.log2(m / _LEAF)))
    more = -m % 2**depth
    rows = torch.cat(
        [torch.randperm(m, generator=random), torch.randint(m, (more,), generator=random)]
    )
    along = [torch.randn(2**level, columns, generator=random) for level in range(depth)]
    # points of one part lie side by side, so that they are read one after another, and parts that
    # fit into the processor's cache are halved to their leaves there
    own = points[rows]
    top = max(0, depth - math.floor(math.log2(_CACHED / _LEAF)))
    for level in range(top):
        parts = rows.view(2**level, -1), own.view(2**level, -1, columns)
        for node, part, direction in zip(*parts, along[level], strict=True):
            values = torch.cat([some.float() @ direction for some in part.split(_CACHED)])
            order = _halved(values)
            node.copy_(node[order])
            part.copy_(part[order])
    for number, (node, part) in enumerate(
        zip(rows.view(2**top, -1), own.view(2**top, -1, columns), strict=True)
    ):
        near, order = part.float(), torch.arange(len(node))
        for level in range(top, depth):
            count = 2 ** (level - top)
            directions = along[level][number * count : (number + 1) * count, :, None]
            values = (near[order].view(count, -1, columns) @ directions)[..., 0]
            half = torch.from_numpy(np.argpartition(values.numpy(), values.shape[1] // 2, axis=1))
            order = order.view(count, -1).gather(1, half).flatten()
        node.copy_(node[order])
    return rows.view(2**depth, -1)


def _halved(values: torch.Tensor) -> torch.Tensor:
    """(M,) int64: first the places of the lower half of the values, then of the upper, in order."""
    import torch

    half = len(values) // 2
    middle = np.partition(values.numpy(), half)[half]
    lower = values < float(middle)
    equal = (values == float(middle)).nonzero()[: half - int(lower.sum()), 0]
    lower[equal] = True
    return torch.cat([lower.nonzero()[:, 0], (~lower).nonzero()[:, 0]])

"""Embeddings of the last batches, for SwAV.

For clusters of equal size where a batch is smaller than their number.
"""

from __future__ import annotations

import torch
from torch import distributed, nn

from medbench.models.pretrain.checkpointing import DistributedContext


class Queue(nn.Module):
    """For each large view, the unit embeddings (length, width) of the last images, newest first.

    The same in all processes.
    """

    def __init__(self, n_views: int, length: int, width: int):
        super().__init__()
        self.register_buffer("stored", torch.zeros(n_views, length, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.stored: torch.Tensor
        self.count: torch.Tensor
        # the count, read once where it is loaded: asked at each step, a GPU would be waited for
        self._known = 0
        self.register_load_state_dict_post_hook(_read)  # type: ignore[no-untyped-call]

    def full(self) -> bool:
        """Whether every place of it holds an embedding."""
        return 0 < self.stored.shape[1] <= self._known

    def mine(self) -> list[torch.Tensor]:
        """Return this process's share of the queue for each view, (share, D) each.

        All processes together bring the whole queue.
        """
        share = DistributedContext.here().share(self.stored.shape[1])
        return [view[share] for view in self.stored]

    def push(self, embeddings: torch.Tensor) -> None:
        """Append embeddings (n_views, B, width) of this process's images."""
        length = self.stored.shape[1]
        if not length:
            return
        world = DistributedContext.here()
        if world.size > 1:
            parts = [torch.empty_like(embeddings) for _ in range(world.size)]
            distributed.all_gather(parts, embeddings.contiguous())
            embeddings = torch.cat(parts, 1)
        self.stored = torch.cat([embeddings, self.stored], 1)[:, :length].contiguous()
        self.count += embeddings.shape[1]
        self._known += embeddings.shape[1]


def _read(queue: Queue, _: object) -> None:
    queue._known = int(queue.count)

"""Decode once -> memory-mapped uint8 pack; resize, normalise, batches on device.

    files --content_hashes--> identity --pack--> (N, S, S, 3) uint8 on disk --batches--> (B, 3, S, S) float on device

Pillow, pydicom and torch are imported where they are needed, so that importing this package costs nothing but numpy.
"""

from medbench.images.batching import batches
from medbench.images.cropping import SQUASH
from medbench.images.decoding import decode, picture
from medbench.images.hashing import ContentHash, content_hashes, rehashing
from medbench.images.packing import Pack, Pixels, pack, pack_key, packs
from medbench.images.squeezing import PackForm, pixel_ingredients
from medbench.system.cache_folder import cache_entries, cache_folder, check_space, prune, reserve
from medbench.system.progress_listener import report_progress

__all__ = [
    "SQUASH",
    "ContentHash",
    "Pack",
    "PackForm",
    "Pixels",
    "batches",
    "cache_entries",
    "cache_folder",
    "check_space",
    "content_hashes",
    "decode",
    "pack",
    "pack_key",
    "packs",
    "picture",
    "pixel_ingredients",
    "prune",
    "rehashing",
    "report_progress",
    "reserve",
]

"""Whether images were in the run that a model comes from, without telling it of any one image.

Whoever validates a model on images that it has learnt from, or that its card was measured on, learns
nothing. A list of hashes would tell that, but would also tell anybody who holds a picture of a patient
whether that picture was in the run. Here each image sets one bit of
four times as many, at a salted hash of its pixels: of images that were not there more than a fifth
match, too (1 - exp(-1/4)). A match is therefore no proof of one image, and many matches are proof
of many.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SHARE = 0.25  # of the bits that are set, at most: so many other images match
SALT = 16  # bytes
SURE = 1e-4  # so unlikely is it that so many of other images match


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Bits by which images of a run are noticed, without telling of any one image.

    bits: (m,) bool. salt: (16,) uint8.
    """

    bits: np.ndarray
    salt: np.ndarray

    def bit(self, pixels: np.ndarray) -> tuple[int, bool]:
        """Return the place of an image's bit, and whether it is set. pixels: (S, S, 3) uint8."""
        place = _place(pixels, self.salt, len(self.bits))
        return place, bool(self.bits[place])

    @property
    def share(self) -> float:
        """The share in [0, 1] of other images that match by chance."""
        return float(self.bits.mean())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that a folder keeps.

        bits: packed, uint8. n: (1,) int64, how many. salt: (16,) uint8.
        """
        n = np.array([len(self.bits)], np.int64)
        return {"bits": np.packbits(self.bits), "n": n, "salt": self.salt}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> SeenImages:
        """Read what `arrays` gave. Raises ValueError for anything else."""
        right = arrays.keys() == {"bits", "n", "salt"} and arrays["n"].shape == (1,)
        right = right and all(arrays[name].dtype == np.uint8 for name in ("bits", "salt"))
        n = int(arrays["n"][0]) if right else 0
        if not right or arrays["salt"].shape != (SALT,) or n <= 0:
            raise ValueError("its arrays are not those of seen images")
        if arrays["bits"].shape != ((n + 7) // 8,):
            raise ValueError(f"{arrays['bits'].shape} bytes do not hold {n} bits")
        return SeenImages(np.unpackbits(arrays["bits"], count=n).astype(bool), arrays["salt"])


def seen_images(images: Iterable[np.ndarray], n: int) -> SeenImages:
    """Make the bits of n images (S, S, 3) uint8, with a new salt."""
    salt = np.frombuffer(secrets.token_bytes(SALT), np.uint8)
    bits = np.zeros(max(int(np.ceil(n / SHARE)), 64), bool)
    for pixels in images:
        bits[_place(pixels, salt, len(bits))] = True
    return SeenImages(bits, salt)


def known(asked: Iterable[tuple[int, bool]], share: float) -> int:
    """Return about how many of these images were in the run; 0 where the matches can be chance.

    asked: `SeenImages.bit` of each. A bit counts once: an image that stands there several times is
    one match or none. share: of other images that match.
    """
    from scipy.stats import binom

    images = list(asked)
    bits = dict(images)
    n, matches = len(bits), sum(bits.values())
    if not matches or binom.sf(matches - 1, n, share) > SURE:
        return 0
    return round((matches - share * n) / (1 - share) / n * len(images))


def _place(pixels: np.ndarray, salt: np.ndarray, n: int) -> int:
    made = hashlib.blake2b(
        np.ascontiguousarray(pixels).tobytes(), key=salt.tobytes(), digest_size=8
    )
    return int.from_bytes(made.digest(), "big") % n

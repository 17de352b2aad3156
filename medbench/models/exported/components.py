"""Power transform and principal components as named arrays: what `svm` and `logreg` look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medbench.models.power_transform import Power

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Components:
    """varies (D,) bool: the features that are used, V of them.

    reach (V,), limit: how far an image may lie out. centre (V,) and components (K, V) of the PCA.
    """

    varies: np.ndarray
    reach: np.ndarray
    limit: float
    power: Power
    centre: np.ndarray
    components: np.ndarray

    @property
    def width(self) -> int:
        return len(self.varies)

    @property
    def out(self) -> int:
        return len(self.components)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Map features (M, D) to components (M, K) float64."""
        within = features[:, self.varies].astype(np.float64).clip(-self.reach, self.reach)
        made: np.ndarray = (
            self.power.transform(within).clip(-self.limit, self.limit) - self.centre
        ) @ self.components.T
        return made

    def arrays(self) -> Arrays:
        """Name what it holds, the power transform's parts with its name before them."""
        powers = {f"power_{name}": np.asarray(getattr(self.power, name)) for name in POWER}
        own = {name: np.asarray(getattr(self, name)) for name in ("reach", "centre", "components")}
        return {
            **own,
            "varies": self.varies.astype(np.uint8),
            "limit": np.array([self.limit]),
            **powers,
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> Components:
        """Read the components from what `arrays` gave.

        Raises ValueError for arrays that are none.
        """
        varies = arrays["varies"].astype(bool)
        wide = (int(varies.sum()),)
        expect(varies.ndim == 1 and arrays["limit"].shape == (1,), "shapes")
        expect(
            all(
                arrays[name].shape == wide
                for name in ("reach", "centre", *(f"power_{name}" for name in POWER))
            ),
            "shapes",
        )
        expect(arrays["components"].ndim == 2 and arrays["components"].shape[1:] == wide, "shapes")
        power = Power(*(arrays[f"power_{name}"] for name in POWER))
        return Components(
            varies,
            arrays["reach"],
            float(arrays["limit"][0]),
            power,
            arrays["centre"],
            arrays["components"],
        )

    @staticmethod
    def nothing(width: int) -> Components:
        """Return the components of features of which none varies."""
        empty = np.zeros(0)
        return Components(
            np.zeros(width, bool), empty, 0.0, Power(*[empty] * 4), empty, np.zeros((0, 0))
        )


POWER = ("exponents", "centre", "mean", "deviation")
NAMES = frozenset(
    ("reach", "centre", "components", "varies", "limit", *(f"power_{name}" for name in POWER))
)


def expect(right: bool, what: str) -> None:
    """Raise ValueError where something is not right."""
    if not right:
        raise ValueError(f"its {what} are not those of a head")

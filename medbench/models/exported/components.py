"""Power transform and principal components as named arrays: what `svm` and `logreg` look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medbench.models.power_transform import Power

Arrays = dict[str, np.ndarray]
BLOCK = 1024  # images scored at a time


@dataclass(frozen=True, eq=False)
class Components:
    """What `svm` and `logreg` do to features: power transform and principal components.

    varies: (D,) bool, the features that are used, V of them. reach (V,), limit: how far an image
    may lie out. centre (V,) and components (K, V) of the PCA.
    """

    varies: np.ndarray
    reach: np.ndarray
    limit: float
    power: Power
    centre: np.ndarray
    components: np.ndarray

    @property
    def width(self) -> int:
        """The number of an encoder's features, D, of which V are used."""
        return len(self.varies)

    @property
    def out(self) -> int:
        """The number of components that are kept, K."""
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


class OnComponents(ABC):
    """What `logreg` and `svm` share: softmax of decision values of the classes that were seen.

    seen (S,): these classes, of n_classes.
    """

    transform: Components
    seen: np.ndarray
    n_classes: int

    @property
    def width(self) -> int:
        """The number of an encoder's features that go into the transform."""
        return self.transform.width

    @property
    def possible(self) -> np.ndarray:
        """Which classes it can decide for, (C,) bool."""
        return np.isin(np.arange(self.n_classes), self.seen)

    @abstractmethod
    def decide(self, x: np.ndarray) -> np.ndarray:
        """Return decision values (M, S) of components x (M, K)."""

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Return what softmax takes of decision values (M, S), of the same shape."""
        return values

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score features (M, D) as `protocols.svm_logreg` does; the shapes are those of `Head`."""
        from scipy.special import softmax

        values = np.empty((len(features), len(self.seen)))
        for i in range(0, len(features), BLOCK):
            values[i : i + BLOCK] = self.decide(self.transform(features[i : i + BLOCK]))
        probabilities = np.zeros((len(features), self.n_classes), np.float32)
        probabilities[:, self.seen] = softmax(self.logits(values), axis=1)
        return probabilities, self.seen[values.argmax(1)]


POWER = ("exponents", "centre", "mean", "deviation")
NAMES = frozenset(
    ("reach", "centre", "components", "varies", "limit", *(f"power_{name}" for name in POWER))
)


def expect(right: bool, what: str) -> None:
    """Raise ValueError, which names `what`, where something is not right."""
    if not right:
        raise ValueError(f"its {what} are not those of a head")

"""How much is measured: the same things in a short look and in the whole one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from figures import Figures


@dataclass(frozen=True)
class Effort:
    """A share of the whole."""

    share: float
    """1 is everything."""

    @property
    def quick(self) -> bool:
        """Whether what takes long by itself is to be left out."""
        return self.share < 1

    def times(self, count: int) -> int:
        """Returns how often something is done that the whole does so often; at least 3 times."""
        return max(3, round(count * self.share))

    def rounds(self, figures: Figures, count: int) -> Iterator[Figures]:
        """Yields where to put the figures of each round; those of the first tenth go nowhere, to warm up."""
        count = self.times(count)
        nowhere = Figures()
        for number in range(-max(1, count // 10), count):
            yield figures if number >= 0 else nowhere

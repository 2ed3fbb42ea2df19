"""How much is measured: the same things in a short look and in the whole one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from figures import Figures

_LEAST, _QUICK_LEAST = 3, 1
"""How often something is done at least."""
_MOST_S = 8.0
"""After so many seconds the whole does it no more: a slow machine does it less often, and ends in time too."""


@dataclass(frozen=True)
class Effort:
    """A share of the whole."""

    share: float
    """1 is everything."""

    @property
    def quick(self) -> bool:
        """Whether what takes long by itself is to be left out."""
        return self.share < 1

    @property
    def _least(self) -> int:
        return _QUICK_LEAST if self.quick else _LEAST

    def times(self, count: int) -> int:
        """Returns how often something is done that the whole does so often."""
        return max(self._least, round(count * self.share))

    def rounds(self, figures: Figures, count: int) -> Iterator[Figures]:
        """Yields where to put the figures of each round; those of the first tenth go nowhere, to warm up.

        Args:
            figures: Where they go after that.
            count: How many rounds the whole has, if they don't take too long.
        """
        count = self.times(count)
        end = time.monotonic() + _MOST_S * self.share
        nowhere = Figures()
        for number in range(-max(1, count // 10), count):
            if number >= self._least and time.monotonic() > end:
                return
            yield figures if number >= 0 else nowhere

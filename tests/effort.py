"""How much the tests with drawn inputs try: enough each time, more where that is asked for."""

from __future__ import annotations

from hypothesis import settings


def examples(many: int) -> int:
    """Return how many examples to draw: a quarter, or with ``--hypothesis-profile thorough`` all.

    CI draws the same inputs each time, so that more of them find no more; whoever changes what is
    tested, runs all of them once.
    """
    return max(many * settings.default.max_examples // THOROUGH, 1)


THOROUGH = 400

"""How much longer than usual the tests that kill, race and fail at random go on: ``make soak``."""

import os
from typing import Any

from hypothesis import HealthCheck, settings

SOAK = int(os.environ.get("FMN_SOAK", "1"))

FUZZ = 1 if SOAK == 1 else 3 * SOAK
"""How many times more examples than usual: a round of kills takes longer than one of these."""


def fuzz(examples: int, **more: Any) -> settings:
    """Return settings for so many examples, the same each time, or in a soak more and others."""
    return settings(
        max_examples=examples * FUZZ,
        derandomize=SOAK == 1,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **more,
    )

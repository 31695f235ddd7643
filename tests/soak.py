"""How much longer than usual the tests that kill, race and fail at random go on: ``make soak``."""

import os

SOAK = int(os.environ.get("FMN_SOAK", "1"))

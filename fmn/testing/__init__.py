"""What fmn promises of its parts, as tests that parts from outside inherit.

A suite is a class of pytest tests; whoever has a family, a statistic, a rule or a store of their
own subclasses it in their tests and says what the part is. It needs pytest (the extra
``test-core``).
"""

from fmn.testing.families import FamilySuite
from fmn.testing.rules import RuleSuite
from fmn.testing.statistics import StatisticSuite
from fmn.testing.stores import StoreSuite

__all__ = ["FamilySuite", "RuleSuite", "StatisticSuite", "StoreSuite"]

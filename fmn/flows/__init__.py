"""The Prefect flow over a zoo: a DAG of thin tasks around fmn's steps.

Importing this package chooses where Prefect keeps its state, which has to be said before Prefect
itself is imported.
"""

from fmn.extras import require
from fmn.flows.environment import set_defaults

require("flow", "the flow")
set_defaults()

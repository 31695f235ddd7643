"""Where deployments and ``python -m flows.merge_zoo`` find the flow; it lives in ``fmn.flows``."""

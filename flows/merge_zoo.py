"""The flow by the path that prefect.yaml names, and ``python -m flows.merge_zoo [params.yaml]``."""

from fmn.flows.merge_zoo import main, merge_zoo

__all__ = ["merge_zoo"]

if __name__ == "__main__":
    main()

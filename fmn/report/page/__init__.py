"""The static page: :func:`render`, and in ``assets`` its scripts and styles."""

from fmn.report.page.render import render

__all__ = ["render"]

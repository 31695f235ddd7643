"""The static page: :func:`render`, and in ``assets`` its scripts and styles."""

from fmn.report.page.html import render

__all__ = ["render"]

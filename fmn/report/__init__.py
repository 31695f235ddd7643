"""Reports: the page of everything that a store has, and pictures of single Fishers and merges.

Where is what:

- ``data``, ``collect``: what a report shows, as plain data, and how it is read from a catalog;
- ``page``: the static page made of it, with its scripts and styles;
- ``charts``: every chart, a file each; ``theme``: the colours of all of them;
- ``inspect``: one Fisher or one merge drawn; ``terminal``: the same as text;
- ``layout``, ``files``: charts beside each other, and as .svg, .png and .pdf files;
- ``fishers``, ``groups``, ``shares``, ``rules``: Fishers as tables, and who wins which node;
- ``documents``: tables as Markdown, CSV and LaTeX.
"""

from fmn.report.collect import read_report
from fmn.report.data import FisherMap, Member, Merge, Model, Report, Run
from fmn.report.files import pictures
from fmn.report.page import render

__all__ = [
    "FisherMap",
    "Member",
    "Merge",
    "Model",
    "Report",
    "Run",
    "pictures",
    "read_report",
    "render",
]

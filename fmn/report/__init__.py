"""Reports: the page of everything that a store has, and pictures of single Fishers and merges."""

from fmn.report.collect import read_report
from fmn.report.data import FisherMap, Merge, Model, Part, Report, Run
from fmn.report.page import render
from fmn.report.pictures import pictures

__all__ = [
    "FisherMap",
    "Merge",
    "Model",
    "Part",
    "Report",
    "Run",
    "pictures",
    "read_report",
    "render",
]

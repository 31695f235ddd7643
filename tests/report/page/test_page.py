import json
from html.parser import HTMLParser
from importlib.metadata import version

import pytest

from fmn.report import render
from fmn.store import cache_directory
from tests.report.sample import hostile_report, make_report


class Scripts(HTMLParser):
    """What a parser of HTML takes for scripts, and for other elements."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.elements, self.policy = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        values = dict(attributes)
        if tag == "script":
            self.scripts.append((values.get("id"), ""))
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]

    def handle_data(self, data):
        if self.elements[-1:] == ["script"]:
            name, text = self.scripts[-1]
            self.scripts[-1] = (name, text + data)

    def handle_endtag(self, tag):
        self.elements.append(f"/{tag}")


def test_names_in_the_data_are_no_markup_and_come_back_as_they_were():
    data = hostile_report()
    page = Scripts(render(data))
    assert [name for name, _ in page.scripts] == ["data", "charts", None, None]
    assert "img" not in page.elements and page.elements.count("svg") == 0
    content = json.loads(page.scripts[0][1])
    expected = json.loads(
        data.model_dump_json().replace("\u202e", "\ufffd").replace("\u2067", "\ufffd")
    )
    assert content == expected


def test_the_policy_lets_nothing_in_and_nothing_else_run():
    policy = dict(
        part.strip().split(" ", 1)
        for part in Scripts(render(make_report(("sst2", "rte")))).policy.split(";")
    )
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in policy["script-src"] and policy["script-src"].count("sha256-") == 2
    assert not any("http" in allowed or "*" in allowed for allowed in policy.values())


def test_the_same_report_is_the_same_page():
    assert render(make_report()) == render(make_report())


def test_the_libraries_are_joined_once_and_kept_and_a_cache_that_cannot_be_written_is_done_without(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("FMN_CACHE", str(tmp_path / "cache"))
    page = render(make_report(("sst2", "rte")))
    (kept,) = cache_directory().iterdir()
    assert kept.name == f"vega-{version('vl-convert-python')}.js"
    assert kept.read_text(encoding="utf-8") in page
    kept.write_text("const kept = true;", encoding="utf-8")
    assert "const kept = true;" in render(make_report(("sst2", "rte")))
    (tmp_path / "file").touch()
    monkeypatch.setenv("FMN_CACHE", str(tmp_path / "file" / "cache"))
    assert render(make_report(("sst2", "rte"))) == page


@pytest.mark.parametrize("count", [2, 40])
def test_what_a_page_weighs(count):
    """The libraries, and for a model of BERT-base's size about as much as its Fisher."""
    data = make_report(
        [f"task{i}" for i in range(count)],
        sizes=(2,),
        methods=("average",),
        layers=12,
        heads=12,
        neurons=3072,
    )
    assert len(render(data)) < 1_100_000 + 350_000 * count

"""The report page in a real browser, opened from disk."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fmn.report import Merge, Report, pictures, render
from tests.report.conftest import Opener
from tests.report.sample import TASKS, make_report

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)</script>",
    "\u202egnp.exe\u202c 'quoted' & \"double\"",
    "{{7*7}} ${alert(4)} 🦊",
    "a-very-long-name-" * 12,
)


@pytest.fixture(scope="module")
def report() -> Report:
    return make_report()


def percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def mask_fisher(report: Report, models: int = 3) -> Merge:
    return next(merge for merge in report.merges if merge.method == "mask-fisher" and len(merge.parts) == models)


def test_it_is_one_file_that_asks_for_nothing(show: Opener, report: Report) -> None:
    opened = show(report)
    assert opened.charts() == 2 + 3 + 6 + 2  # sizes and methods, pairs by method, heads by model, runs
    opened.fine()
    text = opened.file.read_text()
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", text, flags=re.DOTALL)
    assert not re.search(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?!data:)', markup)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert "default-src 'none'" in policy[1]


def test_the_page_refuses_to_ask_for_anything(show: Opener, report: Report) -> None:
    opened = show(report)
    asked = opened.page.evaluate("fetch('https://example.org/').then(() => 'answered', () => 'refused')")
    assert asked == "refused"
    assert any("Content Security Policy" in said for said in opened.complaints)
    assert not any("example.org" in url for url in opened.requests)


def test_sorting_by_mouse_and_by_keyboard(show: Opener, report: Report) -> None:
    opened = show(report)
    means = sorted((percent(merge.mean) for merge in report.merges), reverse=True)
    assert [float(cell) for cell in opened.column("Mean %")] == means[:25]
    opened.press("Mean")
    assert [float(cell) for cell in opened.column("Mean %")] == means[::-1][:25]
    assert opened.page.get_attribute("th[aria-sort]", "aria-sort") == "ascending"
    opened.page.focus(".board thead button:has-text('Worst')")
    opened.page.keyboard.press("Enter")
    worst = sorted((percent(merge.worst) for merge in report.merges), reverse=True)
    assert [float(cell) for cell in opened.column("Worst %")] == worst[:25]
    assert opened.page.get_attribute("th[aria-sort]", "aria-sort") == "descending"
    opened.press("Method")
    assert set(opened.column("Method")) == {"average"}
    opened.fine()


def test_numbers_are_sorted_as_numbers_and_what_is_not_measured_comes_last(show: Opener, report: Report) -> None:
    means = (0.09, 1.0, None, -0.5, 0.95)
    merges = [merge.model_copy(update={"mean": mean}) for merge, mean in zip(report.merges[:5], means, strict=True)]
    opened = show(report.model_copy(update={"merges": tuple(merges)}))
    assert opened.column("Mean %") == ["100.00", "95.00", "9.00", "−50.00", "–"]
    opened.press("Mean")
    assert opened.column("Mean %") == ["−50.00", "9.00", "95.00", "100.00", "–"]


def test_filters_and_search(show: Opener, report: Report) -> None:
    opened = show(report)
    page = opened.page
    page.check("input[name=method][value=fisher]")
    assert opened.status().startswith("57 of 171 merges")
    assert set(opened.column("Method")) == {"fisher"}
    page.select_option("select[name=size]", "2")
    assert opened.status() == "15 of 171 merges"
    page.click(".choices label:has-text('qqp')")
    assert opened.status() == "5 of 171 merges"
    assert all("qqp" in cell for cell in opened.column("Models"))
    page.click("button:has-text('Clear')")
    assert opened.status().startswith("171 merges")
    page.select_option("select[name=tag]", "best-pair")
    assert opened.status() == "1 of 171 merges"
    page.click("button:has-text('Clear')")
    page.fill("input[type=search]", "RTE cola mask-fisher")
    wanted = [m for m in report.merges if m.method == "mask-fisher" and {"rte", "cola"} <= {part.name for part in m.parts}]
    assert opened.status() == f"{len(wanted)} of 171 merges"
    page.fill("input[type=search]", report.merges[7].key[:10])
    assert len(opened.rows()) == 1
    page.fill("input[type=search]", "nothing like it")
    assert (opened.status(), opened.rows()) == ("0 of 171 merges", [])
    assert page.get_attribute("[role=status]", "aria-live") == "polite"
    opened.fine()


def test_what_is_chosen_is_in_the_address_and_survives_the_way_back(show: Opener, report: Report) -> None:
    opened = show(report)
    opened.page.check("input[name=method][value=average]")
    opened.page.click(".board tbody th a >> nth=2")
    opened.page.wait_for_selector("h2:has-text('Recipe')")
    opened.page.go_back()
    opened.page.wait_for_selector(".board")
    assert opened.status().startswith("57 of 171 merges")
    assert opened.page.is_checked("input[name=method][value=average]")


def test_a_merge_is_opened_by_keyboard_and_its_lineage_leads_to_a_model_and_back(show: Opener, report: Report) -> None:
    merge = mask_fisher(report)
    opened = show(report)
    page = opened.page
    page.fill("input[type=search]", merge.key[:12])
    page.focus(".board tbody th a")
    page.keyboard.press("Enter")
    page.wait_for_selector("#lineage")
    assert " + ".join(part.name for part in merge.parts) == page.text_content("h2#title")
    for part in merge.parts:
        assert part.fisher
        assert page.is_visible(f".lineage a[aria-label='Model {part.name}']")
    said = page.text_content("main")
    for expected in ("fmn catalog get", "association", "torch 2.9.0", merge.by, "google-bert/bert-base"):
        assert expected in said
    second = merge.parts[1]
    page.focus(f".lineage a[aria-label='Model {second.name}']")
    page.keyboard.press("Enter")
    opened.until(f"document.querySelector('h2#title')?.textContent === '{second.name}'")
    assert report.models[second.model].weights[:12] in page.text_content("main")
    page.click(f"main a[href*='#/merge/{merge.key[:6]}']")
    page.wait_for_selector("#lineage")
    opened.fine()


def test_the_shares_are_those_of_the_method(show: Opener) -> None:
    for normalize in ("none", "mean", "l2"):
        report = make_report(("sst2", "rte", "mnli"), ("mask-fisher",), sizes=(3,), weights=(2.5,), normalize=normalize)
        (merge,) = report.merges
        opened = show(report)
        opened.go(f"#/merge/{merge.key}")
        opened.charts()
        expected = oracle(report, merge, normalize)
        for number in range(opened.page.locator("#winners ~ details, section:has(#winners) details").count()):
            opened.page.locator("section:has(#winners) details summary").nth(number).click()
        rows = opened.page.eval_on_selector_all(
            "table.shares.heads tbody tr", "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
        )
        found = np.array([[float(cell) for cell in row[2:]] for row in rows]) / 100
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5


def oracle(report: Report, merge: Merge, normalize: str) -> np.ndarray:
    """Shares of the heads, [layers · heads, models], straight from the formula."""
    precisions = []
    for part in merge.parts:
        fisher = next(each for each in report.fishers if each.key == part.fisher)
        heads, neurons = (values.astype(float) for values in fisher.values())
        every = np.concatenate([heads.ravel(), neurons.ravel()])
        scale = {"none": 1.0, "mean": every.mean(), "l2": np.sqrt((every**2).sum())}[normalize]
        precisions.append(part.weight * heads.ravel() / scale)
    table = np.stack(precisions, axis=1)
    return table / table.sum(axis=1, keepdims=True)


def test_a_method_without_mask_nodes_says_why_there_are_no_shares(show: Opener, report: Report) -> None:
    merge = next(merge for merge in report.merges if merge.method == "average")
    opened = show(report)
    opened.go(f"#/merge/{merge.key}")
    assert "weights no heads and neurons" in opened.page.text_content("main")
    opened.fine()


def test_hostile_names_are_shown_as_text_in_every_view(show: Opener) -> None:
    report = make_report(HOSTILE, ("mask-fisher",), sizes=(2,))
    nasty = [
        merge.model_copy(update={"tags": (HOSTILE[0],), "by": HOSTILE[1], "note": HOSTILE[2], "method": "mask-fisher"})
        for merge in report.merges
    ]
    failed = report.runs[0].model_copy(update={"failed": ({"step": HOSTILE[1], "error": HOSTILE[0]},)})
    report = report.model_copy(update={"merges": tuple(nasty), "parent": HOSTILE[2], "store": HOSTILE[0], "runs": (failed,)})
    opened = show(report)
    opened.charts()
    texts = [opened.page.text_content("main")]
    for merge in report.merges[:6]:
        opened.go(f"#/merge/{merge.key}")
        opened.charts()
        texts.append(opened.page.text_content("main"))
    for model in report.models:
        opened.go(f"#/model/{model.key}")
        opened.charts()
        texts.append(opened.page.text_content("main"))
        assert opened.page.text_content("h2#title") == model.name
    assert all(name in texts[0] for name in HOSTILE)
    assert opened.page.evaluate("document.querySelectorAll('main script, main img, main iframe').length") == 0
    opened.fine()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1440, "light"), (1440, "dark"), (800, "light")])
def test_it_can_be_read_on_any_screen(show: Opener, report: Report, width: int, scheme: str) -> None:
    merge = mask_fisher(report)
    opened = show(report, width=width, height=12000 if width < 1000 else 5000, scheme=scheme)
    for route in ("#/", f"#/merge/{merge.key}", f"#/model/{report.models[0].key}"):
        opened.go(route)
        opened.charts()
        assert opened.page.evaluate("document.scrollingElement.scrollWidth") <= width, route
        assert opened.page.evaluate(CONTRASTS) == [], route
    opened.fine()


def test_a_name_has_room_on_a_phone(show: Opener, report: Report) -> None:
    opened = show(report, width=390)
    assert opened.page.evaluate("document.querySelector('.board tbody th a').getBoundingClientRect().width") > 60


CONTRASTS = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(each).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const skipped = node.closest("svg") || node.matches("script, style, noscript, option, :disabled");
    if (!own || skipped || !node.getClientRects().length) continue;
    const [one, other] = [light(parse(getComputedStyle(node).color).slice(0, 3)), light(behind(node))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) poor.push(`${node.tagName} ${node.className} ${node.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
  }
  return poor;
})()
"""


def test_the_theme_follows_the_reader_and_the_charts_follow_the_theme(show: Opener, report: Report) -> None:
    opened = show(report, scheme="dark")
    opened.charts()
    background = "getComputedStyle(document.documentElement).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.chart svg text')).fill"
    dark = opened.page.evaluate(background), opened.page.evaluate(ink)
    opened.page.select_option("#theme", "light")
    opened.until("[...document.querySelectorAll('.chart')].every(chart => chart.dataset.theme === 'light')")
    light = opened.page.evaluate(background), opened.page.evaluate(ink)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    opened.fine()


def test_what_a_screen_reader_needs(show: Opener, report: Report) -> None:
    opened = show(report)
    opened.charts()
    page = opened.page
    assert page.get_attribute("html", "lang") == "en"
    merge = mask_fisher(report)
    for route in ("#/", f"#/merge/{merge.key}", f"#/model/{report.models[0].key}"):
        opened.go(route)
        opened.charts()
        levels = page.eval_on_selector_all("h1, h2, h3, h4", "found => found.map(each => Number(each.tagName[1]))")
        assert all(after - before <= 1 for before, after in pairwise(levels)), (route, levels)
        unlabelled = "found => found.filter(each => !each.labels?.length && !each.ariaLabel).length"
        assert page.eval_on_selector_all("input, select", unlabelled) == 0
        assert page.eval_on_selector_all("th", "found => found.filter(each => !each.scope).length") == 0
        described = (
            "found => found.filter(each => !each.querySelector('[aria-label]') && !each.getAttribute('aria-label')).length"
        )
        assert page.eval_on_selector_all(".chart", described) == 0
    assert page.locator("main").count() == 1


def test_thousands_of_merges_do_not_become_thousands_of_rows(show: Opener) -> None:
    names = [f"{task}-{number}" for number in range(2) for task in TASKS]
    report = make_report(names, sizes=(2, 3, 4), neurons=24)
    assert len(report.merges) > 2000
    opened = show(report)
    assert len(opened.rows()) == 25
    opened.page.click("button:has-text('Next')")
    assert "26 to 50 shown" in opened.status()
    opened.page.fill("input[type=search]", report.merges[-1].key)
    assert len(opened.rows()) == 1
    opened.fine()


@pytest.mark.parametrize(
    "report",
    [
        Report(store="s", at="2026-11-22T00:00:00+00:00", version="0.1.0"),
        make_report(("sst2", "rte"), ("average",), runs=0),
        make_report(("sst2", "rte"), measured=False),
        make_report(("sst2", "rte"), ("mask-fisher",), layers=1, heads=1, neurons=1, runs=1),
    ],
    ids=["nothing", "one pair, no runs", "nothing measured", "one head"],
)
def test_where_there_is_little_the_page_says_so(show: Opener, report: Report) -> None:
    opened = show(report)
    opened.charts()
    for merge in report.merges:
        opened.go(f"#/merge/{merge.key}")
        opened.charts()
        assert opened.page.text_content("h2#title")
    opened.go("#/merge/0000")
    assert "No such merge" in opened.page.text_content("main")
    opened.fine()


def test_the_heat_map_says_its_numbers(show: Opener, report: Report) -> None:
    opened = show(report)
    opened.charts()
    pairs = [merge for merge in report.merges if len(merge.parts) == 2 and merge.method == "average"]
    texts = opened.page.eval_on_selector_all(".chart svg text", "found => found.map(each => each.textContent)")
    for merge in pairs:
        assert merge.mean is not None
        assert texts.count(f"{100 * merge.mean:.1f}") >= 2  # a pair is there twice


def test_pictures_are_svg_files_with_the_same_numbers(report: Report, tmp_path: Path) -> None:
    files = {file.name for file in pictures(report, tmp_path)}
    assert {"pairs.svg", "sizes.svg", "methods.svg", "heads.svg", "curves.svg"} <= files
    for file in tmp_path.iterdir():
        assert ET.fromstring(file.read_text()).tag.endswith("svg")
    pair = next(merge for merge in report.merges if len(merge.parts) == 2)
    assert pair.mean is not None
    assert f">{100 * pair.mean:.1f}<" in (tmp_path / "pairs.svg").read_text()


def test_a_page_is_the_same_for_the_same_report(report: Report) -> None:
    assert render(report) == render(report)

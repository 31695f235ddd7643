"""The page on wide and narrow screens, in light and dark, for keyboards and screen readers, and
with names that mean harm."""

import re
from itertools import pairwise

import pytest

from fmn.report.theme import TOKENS
from tests.report.conftest import draw_charts
from tests.report.sample import HOSTILE, hostile_report, make_report, surely

DATA = surely(make_report(), parted=True)
TRIPLE = next(
    merge for merge in DATA.merges if merge.method == "mask-fisher" and len(merge.members) == 3
)
ROUTES = ("#/", f"#/merge/{TRIPLE.key}", f"#/model/{DATA.models[0].key}")
CONTRAST = """() => {
    const part = (value) =>
        (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = (rgb) =>
        0.2126 * part(rgb[0]) + 0.7152 * part(rgb[1]) + 0.0722 * part(rgb[2]);
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const colour = channels(getComputedStyle(node).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const low = [];
    const written = (node) =>
        [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const aside = "svg, script, [hidden], option, noscript";
    const all = [...document.querySelectorAll("body *")].filter(
        (node) => !node.closest(aside) && written(node));
    for (const node of all) {
        if (node.matches(":disabled")) continue;
        const one = luminance(channels(getComputedStyle(node).color));
        const other = luminance(behind(node));
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        const what = `${node.tagName}.${node.className}`;
        if (contrast < 4.5)
            low.push(`${what} ${contrast.toFixed(2)} ${node.textContent.slice(0, 20)}`);
    }
    return { low, checked: all.length };
}"""

CELLS = """() => {
    const part = (value) =>
        (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = (colour) => {
        const [red, green, blue] = getComputedStyle(colour).fill.match(/[\\d.]+/g).map(Number);
        return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
    };
    const found = [];
    for (const chart of document.querySelectorAll(".chart")) {
        const rects = [...(chart.querySelector(".mark-rect.role-mark")?.children ?? [])];
        const texts = [...(chart.querySelector(".mark-text.role-mark")?.children ?? [])];
        if (rects.length < 12 || rects.length !== texts.length) continue;
        rects.forEach((rect, index) => {
            const [one, other] = [luminance(rect), luminance(texts[index])];
            found.push((Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
        });
    }
    return found;
}"""


def go(page, route):
    page.goto(page.url.partition("#")[0] + route)
    page.wait_for_selector("main h2")


def open_all(page):
    for summary in page.locator("summary").all():
        summary.click()


def assert_fits(page):
    wide, inner = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert wide <= inner, page.url
    assert page.evaluate(
        "[...document.querySelectorAll('.chart svg')].every((each) => "
        "each.getBoundingClientRect().right <= innerWidth)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(open_report, scheme):
    page = open_report(DATA, scheme=scheme)
    for route in (*ROUTES, "#/nowhere"):
        go(page, route)
        draw_charts(page)
        open_all(page)
        contrasts = page.evaluate(CONTRAST)
        assert contrasts["checked"] > 10 and contrasts["low"] == []
        cells = page.evaluate(CELLS)
        assert min(cells, default=9) >= 4.5
        assert cells or route == "#/nowhere"


def colour(hexadecimal):
    return f"rgb({', '.join(str(int(hexadecimal[place : place + 2], 16)) for place in (1, 3, 5))})"


def test_the_theme_follows_the_system_until_somebody_chooses_and_charts_follow_it(open_report):
    page = open_report(DATA, scheme="dark")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    label = page.locator(".chart .role-axis-label text").first

    def themed(name):
        page.locator(f".chart[data-theme={name}]").first.wait_for()
        assert page.evaluate(paper) == colour(TOKENS[name]["paper"])
        assert label.get_attribute("fill").lower() == TOKENS[name]["muted"]

    draw_charts(page)
    themed("dark")
    page.get_by_label("Theme").select_option("light")
    themed("light")
    page.reload()
    page.wait_for_selector("main h2")
    draw_charts(page)
    themed("light")
    page.get_by_label("Theme").select_option("auto")
    themed("dark")
    page.emulate_media(color_scheme="light")
    themed("light")


def test_no_view_scrolls_sideways_at_any_width(open_report):
    page = open_report(DATA)
    for route in ROUTES:
        for width in (1440, 1100, 760, 390, 320):
            page.set_viewport_size({"width": width, "height": 844})
            go(page, route)
            draw_charts(page)
            page.wait_for_timeout(50)
            assert_fits(page)


def test_the_basics_for_keyboards_and_screen_readers(open_report):
    page = open_report(DATA)
    assert page.locator("html").get_attribute("lang") == "en"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.evaluate("location.hash") in ("", "#/")
    for route in ROUTES:
        go(page, route)
        draw_charts(page)
        open_all(page)
        levels = page.eval_on_selector_all(
            "h1, h2, h3, h4, h5, h6", "all => all.map((each) => Number(each.tagName[1]))"
        )
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.locator("main").count() == 1
        assert page.locator("th:not([scope])").count() == 0
        assert page.locator("table:not(:has(caption))").count() == 0
        named = (
            "all => all.every((each) => each.labels?.length || each.getAttribute('aria-label') "
            "|| each.textContent.trim())"
        )
        assert page.eval_on_selector_all("button, a, summary", named)
        assert page.eval_on_selector_all(
            "input, select", "all => all.every((each) => each.labels.length === 1)"
        )
        assert (
            page.locator(".chart[role=graphics-document][aria-label]").count()
            == page.locator(".chart").count()
            > 0
        )
        ids = page.eval_on_selector_all("[id]", "all => all.map((each) => each.id)")
        assert len(set(ids)) == len(ids)


def test_names_that_mean_harm_are_only_text(open_report):
    data = hostile_report()
    several = next(
        merge for merge in data.merges if merge.method == "mask-fisher" and len(merge.members) == 3
    )
    page = open_report(data, width=390)
    for route in ("#/", f"#/merge/{several.key}", f"#/model/{data.models[1].key}"):
        go(page, route)
        draw_charts(page)
        open_all(page)
        text = page.locator("main").text_content()
        names = (
            [part.name for part in several.members]
            if "merge" in route
            else [HOSTILE[1]]
            if "model" in route
            else HOSTILE
        )
        for name in names:
            assert re.sub("[\u202e\u2067]", "\ufffd", name) in text, route
        assert page.locator("script").count() == 4
        assert page.locator("main img, main script, main [onload], main [onerror]").count() == 0
        assert page.locator("a:not([href^='#/'])").count() == 0
        assert_fits(page)
        assert page.evaluate(CONTRAST)["low"] == []
    page.set_viewport_size({"width": 1440, "height": 900})
    go(page, "#/")
    draw_charts(page)
    assert_fits(page)
    cell = page.locator(".chart").nth(2).locator(".mark-rect.role-mark path").first
    cell.scroll_into_view_if_needed()
    page.wait_for_timeout(100)  # what scrolls away takes the box of text with it
    cell.hover()
    tip = page.locator("#tip")
    tip.wait_for()
    assert any(name in tip.text_content() for name in HOSTILE)


def test_the_page_cannot_ask_for_anything(open_report):
    page = open_report(DATA, allow="Content Security Policy")
    assert (
        page.evaluate("fetch('https://example.org/').then(() => 'answered', () => 'refused')")
        == "refused"
    )
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { textContent: "
        "'window.strange = 1' }))"
    )
    assert page.evaluate("window.strange") is None


def test_nothing_turns_the_direction_of_what_follows_a_name(open_report):
    data = hostile_report()
    page = open_report(data)
    turner = next(index for index, model in enumerate(data.models) if "\u202e" in model.name)
    merge = next(
        m
        for m in data.merges
        if m.method == "mask-fisher" and turner in [part.model for part in m.members]
    )
    for route in ("#/", f"#/merge/{merge.key}", f"#/model/{data.models[turner].key}"):
        go(page, route)
        open_all(page)
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", page.content() + page.title())
        assert "\ufffdgnp.gif \ufffdabc" in page.inner_text("main")
    name = page.locator("h2 bdi")
    assert name.get_attribute("dir") == "auto"
    assert name.evaluate("node => getComputedStyle(node).unicodeBidi") == "isolate"

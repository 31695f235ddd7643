import numpy as np
import pytest

from fmn.report.charts import BOARDS
from fmn.report.charts.chart import Board, Chart, base, channel
from fmn.report.data import NodeMap
from tests.report.conftest import draw_charts, marks
from tests.report.sample import HEADS, LAYERS, NEURONS, key, make_report, surely

DATA = make_report()
TRIPLE = next(
    merge for merge in DATA.merges if merge.method == "mask-fisher" and len(merge.members) == 3
)


def address(page):
    return page.evaluate("location.hash")


def oracle(data, merge, kind):
    """Shares of every node, [layers, nodes, models], said again with arrays."""
    by_key = {fisher.key: fisher for fisher in data.fishers}
    fishers = [by_key[member.fisher] for member in merge.members]
    values = []
    for fisher in fishers:
        nodes = {name: part.array().astype(np.float64) for name, part in fisher.nodes.items()}
        everything = np.concatenate([array.ravel() for array in nodes.values()])
        scale = {"none": 1.0, "mean": everything.mean(), "l2": np.sqrt((everything**2).sum())}[
            merge.parameters["normalize"]
        ]
        values.append((nodes[kind] / scale) ** merge.parameters.get("temper", 1.0))
    weights = np.array([one.weight for one in merge.members])
    weighted = np.stack(values, axis=-1) * weights
    total = weighted.sum(axis=-1, keepdims=True)
    return np.where(total > 0, weighted / np.where(total > 0, total, 1), weights / weights.sum())


def table(page, kind):
    rows = page.locator(f"table.shares[data-kind={kind}] tbody tr").all()
    return np.array(
        [[float(text) for text in row.locator("th, td").all_inner_texts()] for row in rows]
    )


@pytest.mark.parametrize(
    "parameters", [{"normalize": "none"}, {"normalize": "mean", "temper": 0.5}, {"normalize": "l2"}]
)
def test_shares_are_those_that_the_merge_was_made_with(open_report, parameters):
    data = make_report(
        ("sst2", "rte", "mnli"),
        ("mask-fisher",),
        weights=(2.5,),
        layers=2,
        heads=4,
        neurons=70,
    )
    merge = data.merges[-1].model_copy(update={"parameters": parameters})
    data = data.model_copy(update={"merges": (*data.merges[:-1], merge)})
    assert all((nodes.array() == 0).any() for nodes in data.fishers[0].nodes.values())
    page = open_report(data, f"#/merge/{merge.key}")
    for summary in page.get_by_text("Numbers", exact=True).all():
        summary.click()
    heads, neurons = oracle(data, merge, "attention"), oracle(data, merge, "feed_forward")
    rows = table(page, "attention")
    np.testing.assert_array_equal(rows[:, :2], [divmod(node, 4) for node in range(8)])
    np.testing.assert_allclose(rows[:, 2:], 100 * heads.reshape(8, 3), atol=6e-4)
    greatest = neurons == neurons.max(axis=-1, keepdims=True)
    won = (greatest / greatest.sum(axis=-1, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(
        table(page, "feed_forward")[:, 1:], 100 * np.hstack([neurons.mean(axis=1), won]), atol=6e-4
    )


def test_a_merge_shows_how_sure_its_scores_and_differences_are(open_report):
    data = surely(make_report(("sst2", "rte", "cola"), ("average",), layers=1, heads=2, neurons=4))
    merge = data.merges[-1]
    page = open_report(data, f"#/merge/{merge.key}")
    facts = page.locator(".facts").first.inner_text()
    assert "No better than chance alone\ncola\nMean without" in facts
    assert "From the best of these models\nbest" in facts
    rows = page.get_by_role("region", name="Scores of the merge").locator("tbody tr").all()
    for member, row in zip(merge.members, rows, strict=True):
        merged, chance, alone, apart = row.locator("td").all_inner_texts()[2:6]
        for text, value, ends in (
            (merged, member.score, member.intervals[member.metric]),
            (alone, member.individual, member.own_interval),
            (apart, member.apart.value, member.apart.interval),
        ):
            shown = text.replace("\N{MINUS SIGN}", "-")
            interval = f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"
            assert shown.removeprefix("+").split("\n")[0] == f"{100 * value:.2f}"
            assert shown.split("\n")[1].removesuffix(", inside the interval") == interval
        assert apart.endswith(", inside the interval") == member.apart.inside
        assert chance == "50.00"
    assert {m.apart.inside for each in data.merges for m in each.members} == {True, False}
    draw_charts(page)
    assert marks(page, 0, "rule") == marks(page, 0, "symbol") == len(merge.members)
    plain = make_report(("sst2", "rte"), ("average",), layers=1, heads=2, neurons=4)
    page = open_report(plain, f"#/merge/{plain.merges[0].key}")
    table = page.get_by_role("region", name="Scores of the merge")
    assert table.get_by_text("no interval").count() == 6  # of each: merged, alone, its metric
    draw_charts(page)
    assert marks(page, 0, "rule") == 0


def test_a_model_shows_how_sure_it_is_and_whether_it_beats_chance(open_report):
    data = surely(make_report(("sst2", "cola"), ("average",), layers=1, heads=2, neurons=4))
    for model, verdict in zip(data.models, (0, 1), strict=True):
        page = open_report(data, f"#/model/{model.key}")
        assert page.get_by_text("no better than chance", exact=True).count() == verdict
        (metric,) = model.metrics
        low, high = (f"{100 * end:.2f}" for end in model.intervals[metric])
        assert f"{low} to {high}; chance 50.00" in page.locator(".facts").first.inner_text()


def test_nodes_that_are_zero_in_all_models_go_by_lambda_and_ties_are_said(open_report):
    data = make_report(("sst2", "rte"), ("mask-fisher",), layers=1, heads=2, neurons=4)
    zeros = {"attention": NodeMap(layers=(0,), nodes=2, values="AAAAAAAAAAA=")}
    blank, twin = (
        fisher.model_copy(update={"nodes": {**fisher.nodes, **zeros}}) for fisher in data.fishers
    )
    page = open_report(
        data.model_copy(update={"fishers": (blank, twin)}), f"#/merge/{data.merges[0].key}"
    )
    draw_charts(page)
    texts = page.locator(".chart").nth(1).locator(".mark-text.role-mark text").all_text_contents()
    assert texts == ["= 50", "= 50"]


def test_every_kind_of_node_is_drawn_under_its_title_or_its_own_name(open_report):
    """An encoder-decoder with grouped queries, and kinds that nothing in the package names."""
    more = {
        "key_value": (range(2), 2),
        "cross_attention": ((1,), 4),
        "made_up": ((0,), 3),
        "plenty": (range(2), 100),
    }
    data = make_report(
        ("sst2", "rte"), ("mask-fisher",), layers=2, heads=4, neurons=70, more=more, runs=0
    )
    page = open_report(data, f"#/model/{data.models[0].key}")
    draw_charts(page)
    assert page.locator("section:has(#fisher) h3").all_inner_texts() == [
        "Attention heads",
        "Feed-forward neurons",
        "Key-value groups",
        "Cross-attention heads",
        "made_up",
        "plenty",
    ]
    assert [marks(page, chart, "rect") for chart in (0, 2, 3, 4)] == [2 * 4, 2 * 2, 4, 3]
    assert [marks(page, chart, "line") for chart in (1, 5)] == [2, 2]
    merge = data.merges[0]
    page.goto(page.url.partition("#")[0] + f"#/merge/{merge.key}")
    page.wait_for_selector(".lineage")
    draw_charts(page)
    for summary in page.get_by_text("Numbers", exact=True).all():
        summary.click()
    for kind, layers in (("key_value", (0, 1)), ("cross_attention", (1,)), ("made_up", (0,))):
        shares, rows = oracle(data, merge, kind), table(page, kind)
        nodes = [(layer, node) for layer in layers for node in range(shares.shape[1])]
        np.testing.assert_array_equal(rows[:, :2], nodes)
        np.testing.assert_allclose(rows[:, 2:], 100 * shares.reshape(-1, 2), atol=6e-4)
    rows = table(page, "plenty")
    np.testing.assert_allclose(
        rows[:, 1:3], 100 * oracle(data, merge, "plenty").mean(axis=1), atol=6e-4
    )
    main = page.inner_text("main")
    assert "made_up: the winner and its share, %" in main
    assert "plenty: mean share, %" in main and "plenty: won, %" in main


def test_a_merge_opens_by_click_and_by_keyboard_and_the_way_back_finds_the_link(open_report):
    page = open_report(DATA)
    link = page.locator(".board tbody a").nth(3)
    target = link.get_attribute("href")
    link.click()
    assert address(page) == target
    assert page.evaluate("document.activeElement.id") == "title"
    page.go_back()
    page.wait_for_selector(".board")
    assert page.evaluate("document.activeElement.getAttribute('href')") == target
    page.keyboard.press("Enter")
    page.wait_for_selector("h2.title")
    assert page.title().endswith("· fmn report")
    page.keyboard.press("Tab")
    page.get_by_role("link", name="Leaderboard").last.press("Enter")
    page.wait_for_selector(".board")


def test_lineage_leads_to_a_model_and_back(open_report):
    page = open_report(DATA, f"#/merge/{TRIPLE.key[:12]}")
    drawing = page.get_by_role("group", name="Lineage of the merge")
    assert (
        drawing.locator(".node").count() == 1 + 3 + 3 + 1 + 3
    )  # parent, models, Fishers, merge, scores
    assert drawing.locator("path.edge").count() == 4 * 3
    assert [
        text.split("\n")[0] for text in drawing.locator(".node title").all_text_contents()
    ].count("mask Fisher") == 3
    drawing.get_by_role("link", name="Model rte").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h2.title >> text=rte")
    rte = next(model for model in DATA.models if model.name == "rte")
    assert rte.weights in page.inner_text("main")
    within = [merge for merge in DATA.merges if any(part.name == "rte" for part in merge.members)]
    assert f"All {len(within)} merges" in page.inner_text("main")
    page.go_back()
    page.wait_for_selector(".lineage")
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"#/model/{rte.key[:8]}"


def test_a_merge_says_how_it_was_made_and_how_it_is_had(open_report):
    page = open_report(DATA, f"#/merge/{TRIPLE.key}")
    main = page.inner_text("main")
    for text in (
        "mask-fisher",
        "association",
        "paper",
        "grace",
        "torch 2.9.0",
        "evaluate 88.0 s",
        "cuda:0",
        "samples 128, seed 0",
    ):
        assert text in main
    for command in ("show", "get"):
        assert f"fmn catalog {command} {TRIPLE.key[:8]}" in main
    row = page.locator("section:has(#scores) tbody tr").first.inner_text().split()
    part = TRIPLE.members[0]
    numbers = [part.score, part.individual, part.normalized]
    assert [text for text in row if text[0].isdigit()][:3] == [
        f"{100 * value:.2f}" for value in numbers
    ]
    page.get_by_role("button", name="Copy the command that shows it").click()
    page.get_by_text("Copied").or_(page.get_by_text("Selected")).first.wait_for()


def test_the_views_draw_what_they_have(open_report):
    page = open_report(DATA)
    draw_charts(page)
    assert marks(page, 0, "symbol") == 3 * 5  # methods × sizes
    assert marks(page, 1, "symbol") == 3 * 57  # pairs of methods × combinations
    assert [marks(page, chart, "rect") for chart in (2, 3, 4)] == [6 * 5] * 3
    assert page.locator(".chart").nth(2).locator(".mark-text.role-mark text").count() == 30
    assert [
        page.locator(".chart").nth(chart).locator(".mark-rect.role-mark path").count()
        for chart in range(5, 11)
    ] == [LAYERS * HEADS] * 6
    assert page.locator("#runs").locator("xpath=..").locator("tbody tr").count() == 6
    assert "the disk is full" in page.inner_text("main")
    page.goto(page.url.partition("#")[0] + f"#/merge/{TRIPLE.key}")
    page.wait_for_selector(".lineage")
    draw_charts(page)
    assert marks(page, 0, "rect") == 3 + 3  # bars, and lines across
    assert marks(page, 1, "rect") == LAYERS * HEADS
    assert marks(page, 2, "rect") == marks(page, 3, "rect") == LAYERS * 3
    page.goto(page.url.partition("#")[0] + f"#/model/{DATA.models[1].key}")
    page.wait_for_selector("h2.title >> text=rte")
    draw_charts(page)
    assert marks(page, 0, "rect") == LAYERS * HEADS
    assert marks(page, 1, "line") == LAYERS
    assert NEURONS > 200  # so that the curves were thinned out


def test_the_navigation_leads_to_sections(open_report):
    page = open_report(DATA)
    for name, heading in (("Comparison", "compare"), ("Runs", "runs"), ("Models", "models")):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        assert page.evaluate("document.activeElement.id") == heading
        top = page.evaluate(f"document.getElementById('{heading}').getBoundingClientRect().top")
        assert -1 <= top < 900
    assert page.locator("#nav a[aria-current]").inner_text() == "Models"
    page.get_by_role("navigation").get_by_role("link", name="Leaderboard").click()
    assert page.evaluate("scrollY") == 0


def test_an_address_without_a_view_says_so(open_report):
    page = open_report(DATA, "#/merge/ffffffff")
    for route in ("#/merge/ffffffff", "#/model/", "#/nowhere"):
        page.evaluate("route => { location.hash = route; }", route)
        page.wait_for_selector("h2 >> text=No such")
        page.get_by_role("link", name="Back to the leaderboard").click()
        page.wait_for_selector(".board")


def test_a_report_of_nothing_says_what_is_not_there(open_report):
    page = open_report(make_report((), (), sizes=(), runs=0))
    main = page.inner_text("main")
    for sentence in (
        "No merges yet.",
        "No merge was measured yet.",
        "No models yet.",
        "No run of a zoo",
    ):
        assert sentence in main
    assert page.locator(".chart").count() == 0


def test_merges_that_nobody_measured_are_listed_last_and_have_no_scores(open_report):
    measured, blank = (
        make_report(("sst2", "rte"), ("average",)),
        make_report(("sst2", "rte"), ("fisher",), measured=False),
    )
    data = measured.model_copy(update={"merges": measured.merges + blank.merges})
    page = open_report(data)
    assert page.locator(".board tbody .mean").all_inner_texts()[-1] == "–"
    draw_charts(page)
    page.locator(".board tbody a").last.click()
    page.get_by_text("This merge was not measured.").wait_for()
    assert "weights no mask nodes" in page.inner_text("main")


def test_a_model_of_one_head_and_one_neuron(open_report):
    data = make_report(("sst2", "rte"), ("mask-fisher",), layers=1, heads=1, neurons=1, runs=1)
    page = open_report(data)
    for route in ("#/", f"#/merge/{data.merges[0].key}", f"#/model/{data.models[0].key}"):
        page.evaluate("route => { location.hash = route; }", route)
        page.wait_for_timeout(50)
        draw_charts(page)


def test_one_pair_of_one_method_without_fishers(open_report):
    data = make_report(("sst2", "rte"), ("mask-fisher",), runs=1).model_copy(update={"fishers": ()})
    page = open_report(data)
    draw_charts(page)
    assert page.locator(".filters fieldset").count() == 1  # one method is no choice
    assert "No two methods merged the same models." in page.inner_text("main")
    page.locator(".board tbody a").click()
    assert "does not have the mask Fisher of sst2, rte" in page.inner_text("main")


def test_negative_scores_and_ratios_above_one(open_report):
    data = make_report(("cola", "rte"), ("average", "fisher"))
    first = data.merges[0]
    members = (
        first.members[0].model_copy(update={"score": -0.12, "normalized": -0.29}),
        first.members[1].model_copy(update={"score": 0.6, "normalized": 1.06}),
    )
    merges = (
        first.model_copy(update={"members": members, "mean": 0.385, "worst": -0.29}),
        *data.merges[1:],
    )
    page = open_report(data.model_copy(update={"merges": merges}))
    page.locator(".board thead").get_by_role("button", name="Worst %", exact=True).click()
    assert page.locator(".board tbody .worst").all_inner_texts()[-1] == "−29.00"
    draw_charts(page)
    page.locator(".board tbody a").last.click()
    page.wait_for_selector("h2.title")
    draw_charts(page)
    assert "−12.00" in page.inner_text("main")


def test_models_of_one_name_are_told_apart_and_so_are_settings_of_a_method(open_report):
    data = make_report(("sst2", "rte", "sst2"), ("average", "mask-fisher"), weights=(1.0, 2.0))
    other = [
        merge.model_copy(
            update={
                "key": key("other", merge.key),
                "parameters": {**merge.parameters, "normalize": "l2"},
            }
        )
        for merge in data.merges
    ]
    page = open_report(data.model_copy(update={"merges": (*data.merges, *other)}))
    filters = page.inner_text(".filters")
    for index in (0, 2):
        assert f"sst2 ({data.models[index].key[:6]})" in filters
    assert "mask-fisher, normalize l2, λ own" in filters
    draw_charts(page)


def test_a_chart_from_one_file_and_a_line_in_the_list_is_on_the_page(open_report, monkeypatch):
    def draw(data):
        rows = [{"model": model.name, "examples": model.examples} for model in data.models]
        spec = base(
            "Bars: examples of each model",
            100,
            mark="bar",
            encoding={
                "x": channel("examples", "quantitative"),
                "y": channel("model", "nominal"),
            },
        )
        return [Chart("Examples", spec, rows, {"model": "model", "examples": "examples"})]

    board = Board("examples", "runs", draw, 300, title="Examples", note="As they were measured.")
    monkeypatch.setattr("fmn.report.page.html.BOARDS", (*BOARDS, board))
    page = open_report(make_report(("sst2", "rte"), ("average",)))
    draw_charts(page)
    section = page.locator("section:has(#runs)")
    assert section.locator("h3").all_inner_texts()[-1] == "Examples"
    assert "As they were measured." in section.inner_text()
    assert section.locator(".chart").last.locator(".mark-rect.role-mark path").count() == 2

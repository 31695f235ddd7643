from fmn.catalog import ELSEWHERE
from tests.report.conftest import draw_charts
from tests.report.sample import make_report, surely

DATA = make_report()
MEANS = [f"{100 * merge.mean:.2f}" for merge in sorted(DATA.merges, key=lambda merge: -merge.mean)]


def column(page, name):
    return page.locator(f".board tbody .{name}").all_inner_texts()


def heading(page, text):
    return page.locator(".board thead").get_by_role("button", name=text, exact=True)


def test_it_starts_with_the_best_and_shows_a_page_of_them(open_report):
    page = open_report(DATA)
    assert column(page, "mean") == MEANS[:25]
    assert column(page, "rank") == [str(rank) for rank in range(1, 26)]
    assert page.locator(".status").inner_text() == "171 merges, 1 to 25 shown"
    assert page.locator("th[aria-sort]").count() == 1
    assert page.locator("th.mean").first.get_attribute("aria-sort") == "descending"


def percents(*values):
    return " to ".join(f"{100 * value:.1f}" for value in values).replace("-", "\N{MINUS SIGN}")


def test_means_and_scores_have_their_intervals_and_say_what_may_be_as_good_as_the_best(open_report):
    data = surely(DATA)
    page = open_report(data)
    merges = sorted(data.merges, key=lambda merge: -merge.mean)[:25]
    for merge, text in zip(merges, column(page, "sure"), strict=True):
        apart = merge.from_best
        place = "best" if apart is None else f"{percents(apart.value)} from best"
        inside = ", inside" if apart and apart.inside else ""
        interval, shown = text.split("\n")
        assert interval == percents(*merge.interval)
        assert shown.removesuffix(inside).startswith(place[:-11])
        assert shown.endswith(", inside") == bool(inside)
    assert any(text.endswith("inside") for text in column(page, "sure"))
    first = page.locator(".board tbody tr").first.locator(".model").all_inner_texts()
    expected = [percents(*member.intervals[member.metric]) for member in merges[0].members]
    assert [text.split("\n")[1] for text in first if "\n" in text] == expected


def test_old_scores_have_no_interval(open_report):
    page = open_report(DATA)
    assert set(column(page, "sure")) == {"no interval"}
    assert page.get_by_text(ELSEWHERE[1:]).count() == 0


def test_where_other_rows_choose_they_rank_and_the_page_says_so(open_report):
    data = surely(DATA, parted=True)
    page = open_report(data)
    by_choice = sorted(data.merges, key=lambda merge: -merge.choice)
    assert column(page, "mean") == [f"{100 * merge.mean:.2f}" for merge in by_choice[:25]]
    assert page.get_by_text(ELSEWHERE[1:]).first.is_visible()
    heading(page, "Mean %").click()
    assert column(page, "mean") == MEANS[:25]
    heading(page, "#").click()
    assert column(page, "mean") == [f"{100 * merge.mean:.2f}" for merge in by_choice[:25]]
    for merge in by_choice[:25]:
        same = [
            other
            for other in data.merges
            if {m.model for m in other.members} == {m.model for m in merge.members}
        ]
        assert merge.is_best == (merge.choice == max(other.choice for other in same))


def test_numbers_sort_as_numbers_in_both_directions_by_mouse_and_keyboard(open_report):
    page = open_report(DATA)
    heading(page, "Mean %").click()
    assert column(page, "mean") == MEANS[::-1][:25]  # as text, 100.08 would come before 96.45
    assert page.locator("th.mean").first.get_attribute("aria-sort") == "ascending"
    worst = sorted((merge.worst for merge in DATA.merges), reverse=True)
    heading(page, "Worst %").focus()
    page.keyboard.press("Enter")
    assert column(page, "worst") == [f"{100 * value:.2f}" for value in worst[:25]]
    page.keyboard.press("Space")
    assert column(page, "worst") == [f"{100 * value:.2f}" for value in worst[::-1][:25]]
    assert page.locator("th[aria-sort]").count() == 1


def test_a_model_sorts_by_its_score_and_merges_without_it_come_last_both_ways(open_report):
    data = make_report(names=("sst2", "rte", "mnli"), methods=("average",))
    page = open_report(data)
    scores = sorted(
        f"{100 * part.score:.1f}"
        for merge in data.merges
        for part in merge.members
        if part.name == "rte"
    )
    cells = page.locator(".board tbody tr td:nth-of-type(9)")
    for expected in (scores[::-1], scores):
        heading(page, "rte").click()
        texts = [text.split()[0] if text.strip() else "" for text in cells.all_inner_texts()]
        assert texts == [*expected, ""]


def test_text_and_dates_sort_too(open_report):
    page = open_report(DATA)
    heading(page, "Method").click()
    assert set(column(page, "how")) == {"average"}
    heading(page, "Method").click()
    assert set(column(page, "how")) == {"mask-fisher"}
    heading(page, "Made").click()
    assert set(column(page, "at")) == {"2026-11-22"}


def test_filters_narrow_down_together_and_clear_takes_them_back(open_report):
    page = open_report(DATA)
    status = page.locator(".status")
    page.get_by_role("checkbox", name="mask-fisher").check()
    assert status.inner_text() == "57 of 171 merges, 1 to 25 shown"
    assert set(column(page, "how")) == {"mask-fisher"}
    page.get_by_role("checkbox", name="rte").check()
    page.get_by_role("checkbox", name="qqp").focus()
    page.keyboard.press("Space")
    assert status.inner_text() == "16 of 171 merges"
    assert all("rte" in title and "qqp" in title for title in column(page, "title"))
    page.locator("select[name=size]").select_option("3 models")
    assert status.inner_text() == "4 of 171 merges"
    page.get_by_role("button", name="Clear").click()
    assert status.inner_text() == "171 merges, 1 to 25 shown"
    assert page.locator("input:checked").count() == 0
    page.locator("select[name=tag]").select_option("nightly")
    assert column(page, "tags") == ["nightly best-pair kept"]


def test_search_finds_every_word_anywhere(open_report):
    page = open_report(DATA)
    search = page.get_by_role("searchbox", name="Search")
    search.fill("GRACE fisher cola")
    expected = [
        m
        for m in DATA.merges
        if m.by == "grace" and "fisher" in m.method and any(p.name == "cola" for p in m.members)
    ]
    assert page.locator(".status").inner_text().startswith(f"{len(expected)} of 171")
    search.fill(DATA.merges[40].key[:10])
    assert column(page, "id") == [DATA.merges[40].key[:8]]
    search.fill("nothing like it")
    assert page.locator(".status").inner_text() == "0 of 171 merges"
    assert page.locator(".status").get_attribute("aria-live") == "polite"


def test_what_is_chosen_is_in_the_address_and_survives_reload_and_the_way_back(open_report):
    page = open_report(DATA)
    page.get_by_role("checkbox", name="average").check()
    page.get_by_role("checkbox", name="cola").check()
    heading(page, "Worst %").click()
    page.get_by_role("button", name="Next").click()
    before = column(page, "id")
    assert before
    page.reload()
    page.wait_for_selector(".board tbody tr")
    assert column(page, "id") == before
    page.locator(".board tbody a").first.click()
    page.wait_for_selector("h2.title")
    page.go_back()
    page.wait_for_selector(".board tbody tr")
    assert column(page, "id") == before
    assert page.get_by_role("checkbox", name="cola").is_checked()


def test_pages_follow_each_other_to_the_end(open_report):
    page = open_report(DATA)
    seen = column(page, "mean")
    assert page.get_by_role("button", name="Previous").is_disabled()
    for _ in range(6):
        page.get_by_role("button", name="Next").click()
        seen += column(page, "mean")
    assert seen == MEANS
    assert page.get_by_role("button", name="Next").is_disabled()


def test_thousands_of_merges_are_shown_a_page_at_a_time(open_report):
    data = make_report(
        names=[f"task{i}" for i in range(20)],
        sizes=(2, 3),
        methods=("average", "mask-fisher"),
        neurons=16,
    )
    data = data.model_copy(update={"merges": data.merges[:3000]})
    assert len(data.merges) > 2600
    page = open_report(data)
    assert page.locator("tr").count() < 150
    assert page.locator("*").count() < 5000
    assert page.locator(".board .scores").first.is_visible()
    page.get_by_role("searchbox", name="Search").fill("task7 task12")
    assert page.locator(".status").inner_text().startswith("38 of ")
    draw_charts(page)


def test_what_was_not_measured_comes_last_both_ways(open_report):
    means = (0.09, 1.0, None, -0.5, 0.95)
    merges = [
        merge.model_copy(update={"mean": mean})
        for merge, mean in zip(DATA.merges, means, strict=False)
    ]
    page = open_report(DATA.model_copy(update={"merges": tuple(merges)}))
    assert column(page, "mean") == ["100.00", "95.00", "9.00", "−50.00", "–"]
    heading(page, "Mean %").click()
    assert column(page, "mean") == ["−50.00", "9.00", "95.00", "100.00", "–"]


def test_a_narrow_page_sorts_by_a_field_and_has_room_for_names(open_report):
    page = open_report(DATA, width=390)
    page.locator("select[name=sort]").select_option("Worst %, rising")
    assert column(page, "worst")[0] == f"{100 * min(merge.worst for merge in DATA.merges):.2f}"
    assert page.locator(".board tbody th a").first.bounding_box()["width"] > 60

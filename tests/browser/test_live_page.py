"""The page shows what was counted, as it is counted."""

from __future__ import annotations

import csv
import io

import pytest
from playwright.sync_api import expect

from flyback.streams.rates import Counts, Estimate, plain_rate, weighted_rate
from tests.browser.conftest import OpenPage, texts
from tests.browser.site import Site, counts

TWEETS, NYT = counts(200, 100, 17), counts(80, 40, 16, weight=5)
EARLIER = counts(300, 150, 75)


@pytest.fixture
def counted(site: Site) -> Site:
    """An hour of two segments, and one segment in the hour before it."""
    site.count(10, {"segment": "tweets", "version": "3.3.2"}, TWEETS)
    site.count(10, {"segment": "nyt", "version": "3.4.0"}, NYT)
    site.count(90, {"segment": "tweets", "version": "3.3.2"}, EARLIER)
    return site


def percent(share: float | None) -> str:
    assert share is not None
    return f"{100 * share:.{2 if 0 < share < 0.01 else 1}f}%"


def interval(estimate: Estimate) -> str:
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def test_the_first_line_says_the_numbers_that_were_counted(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    total = TWEETS.plus(NYT)
    plain, weighted = plain_rate(total), weighted_rate(total)
    expect(page.locator("#stat-predictions .figure")).to_have_text("280")
    expect(page.locator("#stat-predictions .second")).to_have_text("300 in the hour before")
    expect(page.locator("#stat-reviewed .figure")).to_have_text("140")
    expect(page.locator("#stat-failures .figure")).to_have_text("33")
    assert texts(page, "#stat-rate dd") == [percent(plain.rate), interval(plain), "33 of 140 reviewed"]
    assert texts(page, "#stat-weighted dd") == [percent(weighted.rate), interval(weighted), "from 140 reviews"]
    # Newcombe's interval of 33/140 against 75/150, computed by itself
    assert texts(page, "#stat-change dd") == ["−26.4 points", "−36.5 to −15.4", "against the hour before"]
    expect(page.locator("#verdict")).to_have_text(
        f"{percent(plain.rate)} of the reviewed predictions failed: 26.4 points less than in the hour before."
    )
    assert texts(page, "#legend .name") == ["nyt", "tweets"]
    assert texts(page, "#legend .of") == ["16 of 40 reviewed", "17 of 100 reviewed"]


def test_weighted_is_the_rate_that_everything_is_about_when_it_is_chosen(counted: Site, open_page: OpenPage) -> None:
    page = open_page(f"{counted.url}/?rate=weighted")
    weighted = percent(weighted_rate(TWEETS.plus(NYT)).rate)
    expect(page.locator("#verdict")).to_contain_text(f"An estimated {weighted} of all predictions failed")


def test_what_is_counted_now_shows_by_itself(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    expect(page.locator("#stat-failures .figure")).to_have_text("33")
    row = page.locator("#rows tr", has_text="tweets").element_handle()
    counted.count(10, {"segment": "tweets", "version": "3.3.2"}, TWEETS.plus(counts(1, 1, 1)))
    expect(page.locator("#stat-failures .figure")).to_have_text("34")
    expect(page.locator("#rows tr", has_text="tweets").locator("[data-column=failures]")).to_have_text("18")
    assert page.evaluate("row => row.isConnected", row)  # changed in place, not made again


def test_the_worst_come_first_by_what_their_rate_is_at_least(counted: Site, open_page: OpenPage) -> None:
    counted.count(5, {"segment": "three of three"}, counts(3, 3, 3))
    counted.count(5, {"segment": "nothing reviewed"}, counts(3, 0, 0))
    page = open_page(counted.url)
    expect(page.locator("#rows tr")).to_have_count(4)
    assert texts(page, "#rows th") == ["three of three", "nyt", "tweets", "nothing reviewed"]
    few = plain_rate(counts(3, 3, 3))
    expect(page.locator("#rows tr").first.locator("[data-column=low]")).to_have_text(interval(few))
    assert texts(page, "#rows tr:last-child [data-column=rate]") == ["–"]


def test_a_column_sorts_by_a_button_that_says_how(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    expect(page.locator("#rows tr")).to_have_count(2)
    expect(page.locator("th[data-column=low]")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name="Predictions", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("th[data-column=predictions]")).to_have_attribute("aria-sort", "descending")
    assert texts(page, "#rows th") == ["tweets", "nyt"]
    page.keyboard.press("Enter")
    expect(page.locator("th[data-column=predictions]")).to_have_attribute("aria-sort", "ascending")
    assert texts(page, "#rows th") == ["nyt", "tweets"]
    assert page.url.endswith("?sort=predictions.asc")
    page.reload()
    expect(page.locator("th[data-column=predictions]")).to_have_attribute("aria-sort", "ascending")


def test_many_rows_are_shown_when_somebody_asks_for_them(site: Site, open_page: OpenPage) -> None:
    for i in range(60):
        site.count(5, {"segment": f"s{i}"}, counts(10, 10, i % 10))
    page = open_page(site.url)
    expect(page.locator("#rows tr")).to_have_count(50)
    expect(page.locator("#all-rows-text")).to_have_text("50 of 60 rows.")
    expect(page.locator("#more")).to_contain_text("52 more lines")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("#rows tr")).to_have_count(60)


def test_the_query_that_is_shown_gives_the_number_it_explains(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    expect(page.locator("#stat-failures .figure")).to_have_text("33")
    page.get_by_role("button", name="Failures: how is this computed?", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("A prediction fails when")
    [row] = counted.store._db.execute(dialog.locator("pre").inner_text()).fetchall()
    assert Counts(*map(int, row)) == TWEETS.plus(NYT)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_the_table_can_be_had_as_csv(counted: Site, open_page: OpenPage) -> None:
    page = open_page(f"{counted.url}/?segment=nyt")
    expect(page.locator("#rows tr")).to_have_count(1)
    link = page.get_by_role("link", name="CSV").get_attribute("href")
    assert link is not None
    [row] = csv.DictReader(io.StringIO(page.request.get(link).text()))
    assert (row["segment"], row["version"], row["failures"]) == ("nyt", "3.4.0", "16")


def test_the_chart_is_also_a_table_and_its_marks_a_list(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    expect(page.locator("#plot canvas")).to_be_visible()
    assert "2 lines; the worst is nyt, 40.0%" in (page.locator("#plot").get_attribute("aria-label") or "")
    expect(page.locator("#marks")).to_contain_text("New version: vader 3.4.0")
    page.get_by_text("The chart as a table").click()
    expect(page.locator("#chart-table thead th")).to_have_text(["From", "nyt", "tweets"])
    nyt = plain_rate(NYT)
    expect(page.locator("#chart-table td", has_text="40.0%")).to_have_text(f"40.0% ({interval(nyt)}; 40)")


def test_points_are_as_far_apart_as_it_takes_and_the_page_says_how_far(site: Site, open_page: OpenPage) -> None:
    for back in range(1, 61):
        site.count(back, {"segment": "tweets"}, counts(6, 6, back % 3))
    page = open_page(site.url)
    expect(page.locator("#step")).to_have_text("each point: 5 minutes; a ring: not over yet")
    page.get_by_role("button", name="Failure rate over time: how is this computed?").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Each point is of 5 minutes now.")
    expect(dialog.locator("pre")).to_contain_text("INTERVAL 5 MINUTE")


def test_health_says_what_is_behind(site: Site, open_page: OpenPage) -> None:
    site.health |= {
        "verdict": "behind",
        "problems": ["worker-1 has not committed for 2 min"],
        "lags": [{"process": "worker", "topic": "flyback.predictions.v1", "events": 1234, "seconds": 90}],
        "restoring": [{"partition": 2, "restored": 400, "to_restore": 1000}],
    }
    page = open_page(site.url)
    expect(page.locator("#health-badge")).to_have_text("Pipeline: behind")
    expect(page.locator("#health-problems li")).to_have_text(["worker-1 has not committed for 2 min"])
    expect(page.locator("#health-tables")).to_contain_text("1,234")
    expect(page.locator("#health-tables")).to_contain_text("400 of 1,000")

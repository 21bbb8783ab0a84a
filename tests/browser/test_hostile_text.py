"""What people and models write is text, whatever it looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.site import Site, counts
from tests.sinks.events import correction, prediction

MARKUP = "</pre></td><script>window.owned = 1</script><img src=x onerror='window.owned = 1'><svg onload=window.owned=1>"
CORPUS = {
    "markup": MARKUP,
    "attribute": "\" onmouseover=\"window.owned = 1\" autofocus onfocus='window.owned = 1' x='",
    "address": "javascript:window.owned=1",
    "template": "{{constructor.constructor('window.owned=1')()}} ${window.owned=1} <%= 1 %>",
    "right to left": "\u202egnp.exe \u2066\u202d abc \u061c\u200f",
    "zalgo": "z" + "\u0335\u0321\u0489\u034f\u0353" * 60 + "algo",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 ﷽ \ufeff\u200b",
    "controls": "a\x01b\x1b[31mred\x1b[0m\x7f\u2028\u2029\x85",
    "entities": "&lt;script&gt; &amp;#60; &#x3c;",
    "long": "A" * 90_000,
    "words": "word " * 15_000,
}
CHAT = "application/vnd.flyback.chat+json"


def add(site: Site, name: str, text: str, content_type: str = "text/plain") -> None:
    """One failure of now whose texts, and whose task, are this one."""
    at = int(site.now.timestamp() * 1_000_000) - 60_000_000
    content = {"content_type": content_type, "body": text}
    task = f"{name}/{text[:300]}"
    who = {"kind": "MODEL", "name": text[:200], "version": text[:100]}
    made: dict[str, Any] = {"input": content, "output": content, "context": [content], "segment": text[:200]}
    site.lake.add("predictions", prediction(task, actor=who, occurred_at=at, attributes={text[:50]: text}, **made))
    said = {
        "reason": text,
        "error_category": text[:200],
        "author": {"kind": "HUMAN", "name": text[:200], "version": ""},
    }
    site.lake.add("corrections", correction(task, output=content, occurred_at=at, **said))
    labels = {"segment": text[:200], "actor": text[:200], "version": text[:100]}
    site.count(1, labels, counts(2, 2, 1))


def check(page: Page) -> None:
    """Nothing of it has run, and there is no element that was not ours."""
    assert page.evaluate("window.owned") is None
    assert page.locator("main script, main img, main iframe, main object, main style").count() == 0
    assert (
        page.evaluate(
            """() => [...document.querySelectorAll("*")].flatMap(node => [...node.attributes])
            .filter(a => a.name.startsWith("on") || /^\\s*javascript:/i.test(a.value)).length"""
        )
        == 0
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_text_is_shown_as_what_it_is(site: Site, open_page: OpenPage, name: str) -> None:
    text = CORPUS[name]
    add(site, name, text)
    page = open_page(f"{site.url}/?by=segment,version,actor")
    failure = page.locator(".failure")
    expect(failure).to_have_count(1)
    shown = failure.locator("pre").first
    assert shown.evaluate("node => node.textContent") == text[:2000]
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#legend li")).to_have_count(1)
    check(page)
    failure.get_by_role("link", name="Episode").click()
    expect(page.locator(".event")).to_have_count(2)
    check(page)
    shown = page.locator(".event pre").first
    assert shown.evaluate("node => node.textContent") == text[:20_000]
    if len(text) > 20_000:
        page.get_by_role("button", name=f"Show all {len(text):,} characters").first.click()
        assert shown.evaluate("node => node.textContent") == text
    assert page.title().startswith("Episode ")


def test_surrogates_and_nulls_in_json_and_chats_are_harmless(site: Site, open_page: OpenPage) -> None:
    add(
        site,
        "json",
        '{"a": "\\ud800 \\u0000 <b>", "n": 12345678901234567890, "f": 1.10, "e": [], "o": {}}',
        "application/json",
    )
    page = open_page(site.url)
    shown = page.locator(".failure pre").first
    assert shown.evaluate("node => node.textContent") == (
        '{\n  "a": "\\ud800 \\u0000 <b>",\n  "n": 12345678901234567890,\n  "f": 1.10,\n  "e": [],\n  "o": {}\n}'
    )
    check(page)


def test_a_chat_is_shown_by_its_roles_and_its_images_are_not_fetched(site: Site, open_page: OpenPage) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": MARKUP},
                {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": "\ud800"}'}}],
        },
        {"role": "<b>odd</b>", "content": 7},
        None,
        "\ud800 alone",
    ]
    add(site, "chat", json.dumps(messages)[:1_990] if len(json.dumps(messages)) > 1_990 else json.dumps(messages), CHAT)
    page = open_page(site.url)
    chat = page.locator(".failure .chat").first
    expect(chat.locator("> li")).to_have_count(6)
    expect(chat.locator(".role").first).to_have_text("system")
    expect(chat).to_contain_text(MARKUP)
    expect(chat).to_contain_text("https://example.org/x.png")
    check(page)


def test_what_only_says_that_it_is_json_is_text(site: Site, open_page: OpenPage) -> None:
    add(site, "broken", '{"a": ', "application/json")
    expect(open_page(site.url).locator(".failure pre").first).to_have_text('{"a": ')

"""No block of a page is left out in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, blocks, complaints

PAGE = ROOT / "docs" / "a-page.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_executed_or_says_which_test_does(page: Path) -> None:
    assert complaints(page) == []


def test_only_pages_that_are_followed_have_blocks_to_execute() -> None:
    having = {
        str(page.relative_to(ROOT))
        for page in PAGES
        if any(block.is_executed for block in blocks(page))
    }
    followed = {
        f"docs/tutorials/{name}.md" for name in ("one-person", "team", "gpu-nodes", "extending")
    } | {"README.md", "docs/catalog.md", "docs/zoo.md"}
    assert having == followed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Run it:\n\n    make demo\n", "an indented block, which nobody executes"),
        ("- a list\n\n  ```shell\n  make demo\n  ```\n", "an indented block"),
        ("```bash\nmake demo\n```\n", "language 'bash'"),
        ("```\nmake demo\n```\n", "language ''"),
        ("<!-- test: skip -->\n```shell\nmake demo\n```\n", "nobody knows what 'skip' means"),
        (
            "<!-- test: terminal two -->\n\n```shell\nmake demo\n```\n",
            "has to be on the line before it",
        ),
        ("<!-- test: terminal two -->\n```yaml\na: 1\n```\n", "is not executed anyway"),
        (
            "<!-- test: covered by tests/docs/test_blocks.py::gone -->\n```shell\ndemo\n```\n",
            "there is no gone",
        ),
        (
            "<!-- test: covered by tests/gone.py::test_x -->\n```shell\ndemo\n```\n",
            "there is no test_x",
        ),
        ("```shell\nmake demo\n", "a block without an end"),
    ],
)
def test_what_would_not_be_executed_is_told(text: str, complaint: str) -> None:
    (only,) = complaints(PAGE, text)
    assert complaint in only


def test_a_test_that_covers_a_block_has_its_commands() -> None:
    note = (
        "<!-- test: covered by tests/docs/test_readme.py::test_make_knows_what_is_asked_of_it -->\n"
    )
    assert complaints(PAGE, f"{note}```shell\nmake demo     # everything\nmake test\n```\n") == []
    (only,) = complaints(PAGE, f"{note}```shell\nmake demo\nmake tea\n```\n")
    assert "does not have 'make tea' in it" in only

"""The terminal that tables and bars are drawn on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from fmn.console.output import SIMPLER, shown
from fmn.visible import visible


class Console(rich.console.Console):
    """Rich's console; controls in what it is given are seen, its own styles stay."""

    def render_str(self, text: str, **settings: Any) -> Text:
        """Make a text fit, before it is measured."""
        return super().render_str(shown(text), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Make fit what did not come as a text, such as the name of a bar."""
        is_simple = (options or self.options).ascii_only
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                text = visible(segment.text)
                yield Segment(text.translate(SIMPLER) if is_simple else text, segment.style)

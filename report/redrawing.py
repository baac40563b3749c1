"""A picture on a terminal that is drawn over itself whenever it is asked to."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live


class Redrawing(Live):
    """rich's live display, drawn on request alone, cut at the terminal's height.

    A terminal that changes its width breaks the lines of the last picture anew, so that nobody knows how many there
    are to draw over: then the screen is cleared first.
    """

    def __init__(self, picture: Callable[[], RenderableType], console: Console) -> None:
        super().__init__(
            get_renderable=picture, console=console, auto_refresh=False, vertical_overflow="crop"
        )
        self._width = console.width

    def resized(self) -> bool:
        """Whether the terminal has another width than at the last drawing."""
        return self.console.width != self._width

    def refresh(self) -> None:
        """Draw the picture as it is now."""
        if self.resized():
            self._width = self.console.width
            self.console.clear()
        super().refresh()

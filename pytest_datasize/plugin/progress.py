"""Show progress while a gate trains: a live line on a terminal, a line now and then in a log."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

EVERY_SECONDS = 5.0
LIVE_SECONDS = 0.1


class Progress:
    """Called by a study with (stage, done, total); silent with ``-q`` and in a worker."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        if self._reporter is not None and self._reporter.verbosity < 0:
            self._reporter = None
        self._stage = ""
        self._start = self._last = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show the progress, if enough time has passed since the last line."""
        if self._reporter is None:
            return
        if not total:
            self._show(f"datasize: {stage}", live=False)
            return
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._start, self._last = stage, now, now
        live = self._reporter.isatty
        finished = done >= total
        if not (live and finished) and now - self._last < (LIVE_SECONDS if live else EVERY_SECONDS):
            return
        self._last = now
        rate = done / max(now - self._start, 1e-9)
        line = f"datasize: {stage} {done:,} of {total:,}, {rate:,.0f}/s"
        if not finished:
            line += f", {(total - done) / rate:,.0f} s left" if rate else ""
        self._show("" if finished and live else line, live)

    def _show(self, line: str, live: bool) -> None:
        assert self._reporter is not None
        try:
            with self._uncaptured():
                self._reporter.ensure_newline()
                if live:
                    self._reporter.rewrite(line, erase=True)
                else:
                    self._reporter.write_line(line)
        except Exception:  # a closed terminal must not end the training
            self._reporter = None

    def _uncaptured(self) -> AbstractContextManager[None]:
        """Suspend pytest's output capture, so that a line reaches the terminal."""
        if self._capture is None:
            return nullcontext()
        manager: AbstractContextManager[None] = self._capture.global_and_fixture_disabled()
        return manager

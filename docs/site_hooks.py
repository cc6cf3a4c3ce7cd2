"""Hooks of the documentation site: pages that lie beside the folder of the documentation."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_BESIDE = re.compile(r"\]\(\.\./benchmarks/README\.md")
_SOURCE = re.compile(r"\[([^\]]*)\]\(\.\./pytest_datasize/[^)]*\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the figures of the benchmarks as a page."""
    root = Path(config.config_file_path).parent
    text = (root / "benchmarks" / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\(\.\./docs/", "](", text)
    files.append(File.generated(config, "benchmarks.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links to the benchmarks to their page; links to source files become plain text."""
    return _SOURCE.sub(r"\1", _BESIDE.sub("](benchmarks.md", markdown))

"""Register the reports and publishers, one line each."""

REPORTS = {
    "json": ("pytest_datasize.reports.records.result_file", "write the results as JSON"),
    "html": (
        "pytest_datasize.reports.formats.html_page",
        "write a self-contained page with learning curves",
    ),
    "markdown": ("pytest_datasize.reports.formats.markdown", "write the results as Markdown"),
    "justification": (
        "pytest_datasize.reports.formats.justification",
        "write a justification of the sample size for auditors (PATH ends with .md or .html)",
    ),
    "metrics": (
        "pytest_datasize.reports.formats.openmetrics",
        "write the numbers as OpenMetrics text",
    ),
    "codequality": (
        "pytest_datasize.reports.formats.code_quality",
        "write what failed as GitLab's Code Quality JSON",
    ),
}
"""Option ``--datasize-NAME=PATH`` → module with ``write(path, run)`` and maybe ``check(path)``."""

PUBLISHERS = {
    "github": "pytest_datasize.reports.publishers.github",
    "mlflow": "pytest_datasize.reports.publishers.mlflow",
    "wandb": "pytest_datasize.reports.publishers.wandb",
}
"""Name → module with ``configured()`` and ``publish(run, root, say)``; used if configured."""

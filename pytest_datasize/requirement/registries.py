"""Register the names that a gate may use: metrics, strategies, engines, data set formats.

Pure Python: imported at every pytest start.
"""

METRICS: dict[str, str] = {
    "accuracy": "pytest_datasize.curve.metrics:accuracy",
    "balanced_accuracy": "pytest_datasize.curve.metrics:balanced_accuracy",
    "f1_micro": "pytest_datasize.curve.metrics:f1_micro",
    "f1_macro": "pytest_datasize.curve.metrics:f1_macro",
    "auc": "pytest_datasize.curve.metrics:auc",
    "recall_per_class": "pytest_datasize.curve.metrics:recall_per_class",
}
"""Metric name → ``module:function``; each scores in [0, 1], higher is better."""

WORST_CLASS = "recall_per_class"
"""The metric that is judged for each class separately."""

RATIOS = ("f1_macro",)
"""Metrics that are ratios of means, and therefore biased on few test images."""

AUTO = "auto"
"""The strategy of a gate that tries several, the cheapest first."""

DEFAULT_STRATEGY = "feature_extraction"
"""The strategy of a study by itself, which has no target to stop at."""

STRATEGIES: dict[str, str] = {
    "feature_extraction": "pytest_datasize.trials.strategies.feature_extraction:run",
    "fine_tuning": "pytest_datasize.trials.strategies.fine_tuning:run",
    "from_scratch": "pytest_datasize.trials.strategies.from_scratch:run",
    "own_training": "pytest_datasize.trials.strategies.own_training:run",
}
"""Strategy name → ``module:function`` that trains and scores all trials of a plan."""

EMBEDDING_STRATEGIES = ("feature_extraction",)
"""Strategies that embed every image with a frozen backbone, which also computes content hashes."""

TORCH, OPENVINO = "torch", "openvino"
"""Runtimes of a frozen backbone on the CPU; the names are those of their packages."""

LOCAL = "local"
"""The engine that runs everything in this process."""

ENGINES: dict[str, str] = {
    LOCAL: "",
    "processes": "pytest_datasize.study.engines.processes:Processes",
    "ray": "pytest_datasize.study.engines.ray_cluster:RayCluster",
}
"""Engine name → ``module:class`` that runs tasks on workers; local has none."""

SOURCES_BY_NAME = ("folder", "manifest", "coco", "yolo", "webdataset", "huggingface", "torchvision")
"""Prefixes of a path that select its reader, as in ``coco:data/train``."""

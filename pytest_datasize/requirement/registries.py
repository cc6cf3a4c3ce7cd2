"""The names that a gate may use: metrics, strategies, forms of a data set.

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
"""The metric that is judged for every class by itself."""

RATIOS = ("f1_macro",)
"""Metrics that are ratios of means, and so biased on few test images."""

STRATEGIES: dict[str, str] = {
    "feature_extraction": "pytest_datasize.trials.strategies.feature_extraction:run",
    "fine_tuning": "pytest_datasize.trials.strategies.fine_tuning:run",
    "from_scratch": "pytest_datasize.trials.strategies.from_scratch:run",
    "own_training": "pytest_datasize.trials.strategies.own_training:run",
}
"""Strategy name → ``module:function`` that trains and scores all trials of a plan."""

EMBEDDING_STRATEGIES = ("feature_extraction",)
"""Those that push every image through a frozen backbone, which tells its content, too."""

LOCAL = "local"
"""The engine that hands out nothing."""

ENGINES: dict[str, str] = {
    LOCAL: "",
    "processes": "pytest_datasize.study.engines.processes:Processes",
    "ray": "pytest_datasize.study.engines.ray_cluster:RayCluster",
}
"""Engine name → ``module:class`` that hands work out; local hands out nothing."""

SOURCES_BY_NAME = ("folder", "manifest", "coco", "yolo", "webdataset", "huggingface", "torchvision")
"""What may stand before a path, as in ``coco:data/train``, to say how it is to be read."""

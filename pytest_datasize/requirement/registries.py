"""Register the names that a gate may use: strategies, engines, data set formats.

Pure Python: imported at every pytest start.
"""

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

SOURCES_BY_NAME = (
    "folder",
    "manifest",
    "coco",
    "yolo",
    "voc",
    "masks",
    "webdataset",
    "huggingface",
    "torchvision",
)
"""Prefixes of a path that select its reader, as in ``coco:data/train``."""

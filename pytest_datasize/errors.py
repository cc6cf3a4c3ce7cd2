"""Define the errors of pytest-datasize as one class tree.

::

    DatasizeError
    ├── RequirementError   a marker, option, ini value or YAML entry is wrong (collection error)
    ├── DatasetError       the images or labels cannot be judged (ERROR in set-up)
    ├── BackboneError      the backbone or its weights cannot be loaded (ERROR in set-up)
    ├── TrainingError      a trial could not be trained or scored (ERROR in set-up)
    ├── EngineError        workers cannot be started, or keep dying (ERROR in set-up)
    ├── ReportError        a report cannot be drawn, or an earlier result cannot be read
    └── StoreError         a store cannot be read, merged, pruned or verified (commands only)

Every message says what is wrong, what was expected and what to do; none needs a traceback.
"""

__all__ = [
    "BackboneError",
    "DatasetError",
    "DatasizeError",
    "DatasizeWarning",
    "EngineError",
    "ReportError",
    "RequirementError",
    "StoreError",
    "TrainingError",
]


class DatasizeWarning(UserWarning):
    """A gate is not met and its level is ``warning``, or it is undecided and that only warns."""


class DatasizeError(Exception):
    """Base class of all errors that pytest-datasize raises on purpose."""


class RequirementError(DatasizeError, ValueError):
    """A requirement or an option is wrong; raised before anything is trained."""


class DatasetError(DatasizeError):
    """Images or labels are missing, unreadable or too few to be judged."""


class BackboneError(DatasizeError):
    """The backbone is unknown, or its weights cannot be found, fetched or loaded."""


class TrainingError(DatasizeError):
    """A trial could not be trained or scored."""


class EngineError(DatasizeError):
    """Workers of an engine cannot be started, cannot receive their tasks, or keep dying."""


class ReportError(DatasizeError):
    """A report cannot be drawn or written, or an earlier result cannot be read."""


class StoreError(DatasizeError):
    """A store command fails: the folder is no store, damaged, of another version, or disk full."""

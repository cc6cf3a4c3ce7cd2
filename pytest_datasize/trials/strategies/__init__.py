"""One module for each strategy, with ``run(work, span)``."""

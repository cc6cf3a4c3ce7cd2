"""Networks that train (part of) the backbone."""

"""Preference datasets made with language models on one's own machine.

Importing this package loads neither torch nor transformers nor matplotlib; each part loads what it needs when used.
"""

__version__ = "0.1.0"

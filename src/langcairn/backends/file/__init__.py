"""Checkpoints in plain files."""

from langcairn.backends.file.backend import FileBackend

__all__ = ["FileBackend"]

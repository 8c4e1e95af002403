"""Object storage below a database: old and large content in packs, the rest where it was."""

from langcairn.objects.moving import Moved
from langcairn.objects.settings import ObjectStorage
from langcairn.objects.tiered import TieredBackend

__all__ = ["Moved", "ObjectStorage", "TieredBackend"]

"""What a frozen network said of a view of an image, kept: rows of numbers by (image, view), in memory or in a file."""

from distill.cache.journal import Journal
from distill.cache.key import open_journal
from distill.cache.size import Need, need
from distill.cache.store import ViewStore

__all__ = ["Journal", "Need", "ViewStore", "need", "open_journal"]

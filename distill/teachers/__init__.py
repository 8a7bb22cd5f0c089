"""Teachers: the frozen network, and the cache of its outputs by image and view, in memory or in shared files."""

from distill.teachers.cache import CacheSize, MapKey, TeacherCache, TeacherOutputs, estimate_size
from distill.teachers.evaluation_cache import CachedOutput, EvaluationCache
from distill.teachers.frozen import FrozenTeacher
from distill.teachers.frozen_maps import FrozenMaps
from distill.teachers.journal import Journal, open_journal
from distill.teachers.store import ViewStore

__all__ = [
    "CacheSize",
    "CachedOutput",
    "EvaluationCache",
    "FrozenMaps",
    "FrozenTeacher",
    "Journal",
    "MapKey",
    "TeacherCache",
    "TeacherOutputs",
    "ViewStore",
    "estimate_size",
    "open_journal",
]

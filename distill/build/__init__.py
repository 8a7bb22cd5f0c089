"""Build: configuration -> objects. The only room that sees both sides."""

from distill.build.networks import build_student, build_teacher, load_teacher, teacher_hash
from distill.build.objective import build_module
from distill.build.teacher_cache import add_cache, cache_folder, open_evaluation_cache
from distill.build.training_run import (
    BuiltRun,
    Objects,
    build,
    build_views,
    check_trainer_keys,
    load_config,
    load_images,
    run_identity,
)

__all__ = [
    "BuiltRun",
    "Objects",
    "add_cache",
    "build",
    "build_module",
    "build_student",
    "build_teacher",
    "build_views",
    "cache_folder",
    "check_trainer_keys",
    "load_config",
    "load_images",
    "load_teacher",
    "open_evaluation_cache",
    "run_identity",
    "teacher_hash",
]

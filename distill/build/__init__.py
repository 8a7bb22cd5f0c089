"""Build the objects of a run (data, networks, objective) from its configuration."""

from distill.build.map_methods import resolve_methods
from distill.build.networks import build_student, build_teacher, load_teacher, teacher_hash
from distill.build.objective import build_module
from distill.build.ready_terms import split_terms, term_record
from distill.build.student_weights import starting_weights_hash, starting_weights_record
from distill.build.teacher_cache import add_cache, cache_folder, open_evaluation_cache
from distill.build.terms import resolve_terms, term_options
from distill.build.training_run import (
    BuiltRun,
    Objects,
    build,
    build_views,
    check_config,
    check_trainer_keys,
    load_config,
    load_images,
    load_recorded_config,
    run_identity,
)
from distill.build.trust import trust_in

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
    "check_config",
    "check_trainer_keys",
    "load_config",
    "load_images",
    "load_recorded_config",
    "load_teacher",
    "open_evaluation_cache",
    "resolve_methods",
    "resolve_terms",
    "run_identity",
    "split_terms",
    "starting_weights_hash",
    "starting_weights_record",
    "teacher_hash",
    "term_options",
    "term_record",
    "trust_in",
]

"""Configuration: YAML -> typed records. Knows no torch; networks and data sets are looked up when they are built."""

from distill.config.identity import identity
from distill.config.loading import (
    format_mistakes,
    load,
    merge,
    validate,
)
from distill.config.schema import (
    AugmentSection,
    CheckpointSection,
    Config,
    DataSection,
    LoggersSection,
    MonitorSection,
    Normalisation,
    OptimizerSection,
    ScheduleSection,
    StudentSection,
    TeacherSection,
)
from distill.config.terms import (
    AnyTerm,
    AttentionTransferTerm,
    CrossEntropyTerm,
    ExplanationTerm,
    LayeredTerm,
    SoftTargetsTerm,
)

__all__ = [
    "AnyTerm",
    "AttentionTransferTerm",
    "AugmentSection",
    "CheckpointSection",
    "Config",
    "CrossEntropyTerm",
    "DataSection",
    "ExplanationTerm",
    "LayeredTerm",
    "LoggersSection",
    "MonitorSection",
    "Normalisation",
    "OptimizerSection",
    "ScheduleSection",
    "SoftTargetsTerm",
    "StudentSection",
    "TeacherSection",
    "format_mistakes",
    "identity",
    "load",
    "merge",
    "validate",
]

"""Names of Python objects that a user's configuration names, and that may therefore be imported for its run."""

from __future__ import annotations

from distill.config import Config
from distill.untrusted import Trust


def trust_in(*configs: Config | None, also: Trust | bool = False) -> Trust:
    """Return the trust in the networks, data sets and terms that configurations of the user name.

    Args:
        configs: Configurations that the user wrote, not ones that were found in a run directory.
        also: Further trust, or whether all files are trusted.

    Example:
        >>> from distill.config import load
        >>> sorted(trust_in(load([], ["student.name=mynets:tiny"])).names)
        ['mynets:tiny']
    """
    trust = Trust(everything=also) if isinstance(also, bool) else also
    for config in configs:
        if config is not None:
            teacher = None if config.teacher is None else config.teacher.name
            terms = (term.term for term in config.objective.values())
            trust = trust.adding([config.data.name, config.student.name, teacher, *terms])
    return trust

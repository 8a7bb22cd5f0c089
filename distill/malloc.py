"""Keep freed memory in the process, so that large tensors do not need new pages at every allocation (glibc only).

glibc takes blocks above its mmap threshold (32 MiB at most by default) from the kernel and unmaps them when they are
freed. It also returns the top of the heap when more than its trim threshold is free there. At batch 256 and 32 x 32
pixels an activation of a WRN has 32 MiB, so nearly every layer would map and clear new pages. Results do not depend on
the setting.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

#: Environment variable; `off` leaves the allocator unchanged.
SWITCH = "DISTILL_MALLOC"
#: glibc's own settings; if the environment has one of them, the allocator is left unchanged too.
_GLIBC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_GLIBC_TUNABLES = ("glibc.malloc.mmap_threshold", "glibc.malloc.trim_threshold")
#: Numbers of the parameters, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Bytes. glibc before 2.35 refuses an mmap threshold above 32 MiB.
THRESHOLD, THRESHOLD_OF_OLD_GLIBC = 1 << 30, 1 << 25


@cache
def keep_freed_memory() -> bool:
    """Raise glibc's thresholds for mmap and for trimming to 1 GiB, once per process.

    Convention:
        - Both are set, or neither. The trim threshold alone would fix the mmap threshold at 128 KiB.
        - Does nothing without glibc (musl, macOS, Windows), with ``DISTILL_MALLOC=off``, or if the environment sets
          one of glibc's own thresholds. Never raises.

    Returns:
        Whether the thresholds are set.
    """
    if os.environ.get(SWITCH, "").strip().lower() == "off" or _set_in_environment():
        return False
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError, ValueError):  # systems without confstr, the name, or the function
        return False
    accepted = mallopt(M_MMAP_THRESHOLD, THRESHOLD) or mallopt(M_MMAP_THRESHOLD, THRESHOLD_OF_OLD_GLIBC)
    return bool(accepted and mallopt(M_TRIM_THRESHOLD, THRESHOLD))


def _set_in_environment() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(name in os.environ for name in _GLIBC_VARIABLES) or any(name in tunables for name in _GLIBC_TUNABLES)

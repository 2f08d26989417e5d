"""What tests see of the host's own state: eyes_linux or eyes_darwin, whichever is of this system."""

from __future__ import annotations

import sys

LINUX = sys.platform != "darwin"

if LINUX:
    from eyes_linux import (
        alive,
        children,
        identity,
        is_standby,
        open_fds,
        reap_orphans,
        see_orphans,
        stat_fields,
        status_field,
        thread_count,
        zygote_of,
    )
else:
    from eyes_darwin import (
        alive,
        children,
        identity,
        is_standby,
        open_fds,
        reap_orphans,
        see_orphans,
        stat_fields,
        status_field,
        thread_count,
        zygote_of,
    )

__all__ = [
    "LINUX",
    "alive",
    "children",
    "identity",
    "is_standby",
    "open_fds",
    "reap_orphans",
    "see_orphans",
    "stat_fields",
    "status_field",
    "thread_count",
    "zygote_of",
]

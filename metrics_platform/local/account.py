"""An ordinary user to run PostgreSQL as, since it refuses to run as root; and places that it can reach."""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from metrics_platform.errors import StackError

# Survives a reboot, is there on every Linux, and everybody may pass through it.
SHELTERS = Path("/var/tmp")  # noqa: S108 - a shelter's owner is checked before it is used


@dataclass(frozen=True)
class Account:
    """A user without rights, by numbers."""

    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account to drop to, or None when this process is not root and can stay what it is.

    Raises StackError on a machine that has no user beside root.
    """
    if os.geteuid() != 0:
        return None
    users = [user for user in pwd.getpwall() if user.pw_uid > 0]
    if not users:
        raise StackError("PostgreSQL refuses to run as root and there is no other user; add one")
    chosen = next((user for user in users if user.pw_name == "nobody"), users[-1])
    return Account(chosen.pw_uid, chosen.pw_gid)


def reaches(account: Account | None, path: Path) -> bool:
    """Whether the account may read `path` and, if it is a directory or program, enter or run it."""
    if account is None:
        return True
    test = subprocess.run(
        ["/bin/sh", "-c", 'test -r "$0" && test -x "$0"', str(path)],
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        check=False,
    )
    return test.returncode == 0


def shelter(path: Path) -> Path:
    """A directory that every user can enter, the same one each time for the same `path`; made when missing.

    Raises StackError when somebody else owns the place.
    """
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    place = SHELTERS / f"metrics-platform-{digest}"
    place.mkdir(mode=0o755, exist_ok=True)
    found = place.lstat()
    if place.is_symlink() or found.st_uid != os.geteuid():
        raise StackError(f"{place} belongs to another user; remove it, or choose another --data-dir")
    place.chmod(0o755)  # whatever the umask said
    return place

"""Where the code of a build lies: the commit, and its address where the repository is on GitHub."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Repository:
    """A repository on GitHub: ``address`` such as "https://github.com/owner/name", and the commit checked out.

    It is ``clean`` where the files are those of the commit, so that a line of one is the same line there.
    """

    address: str
    commit: str
    clean: bool = True

    def link(self, path: Path | str, line: int | None = None) -> str:
        """Return the address of a file at this commit.

        >>> Repository("https://github.com/owner/name", "abc123").link("ehrbook/errors.py", 7)
        'https://github.com/owner/name/blob/abc123/ehrbook/errors.py#L7'
        """
        return f"{self.address}/blob/{self.commit}/{path}" + (f"#L{line}" if line else "")


def find_repository(root: Path) -> Repository | None:
    """Return the repository that ``root`` was cloned from, None where that is not on GitHub or there is no git."""
    remote, commit = _git(root, "remote", "get-url", "origin"), _git(root, "rev-parse", "HEAD")
    address = github_address(remote or "")
    clean = _git(root, "status", "--porcelain", "--untracked-files=no") == ""
    return Repository(address, commit, clean) if address and commit else None


def github_address(remote: str) -> str | None:
    """Turn a remote of GitHub, by https or ssh, into the address that a browser opens; never with a password in it.

    >>> github_address("git@github.com:owner/name.git")
    'https://github.com/owner/name'
    >>> github_address("https://token@github.com/owner/name")
    'https://github.com/owner/name'
    >>> github_address("/home/me/book") is None
    True
    """
    found = re.fullmatch(
        r"(?:https://(?:[^@/]+@)?github\.com/|(?:ssh://)?git@github\.com[:/])([\w.-]+/[\w.-]+?)(?:\.git)?/?", remote
    )
    return f"https://github.com/{found[1]}" if found else None


def say_commit(root: Path) -> str:
    """Name the commit of the working tree, or say that there is none."""
    said = _git(root, "describe", "--always", "--dirty")
    return f"commit `{said}`" if said else "an unknown commit"


def _git(root: Path, *arguments: str) -> str | None:
    # A book that lies inside another repository, such as a student edition in its course's, is no part of that.
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None

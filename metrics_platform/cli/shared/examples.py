"""What stands below a command's help."""

from __future__ import annotations


def examples(*commands: str) -> str:
    """Typer's epilog: the commands as a person would type them, one a line."""
    return "\n\n".join(("Examples:", *(f"metrics-platform {each}" for each in commands)))

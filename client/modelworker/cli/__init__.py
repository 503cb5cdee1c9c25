"""`kubectl modelworker`: look at workers, call them, and find out why they are not ready.

Its libraries come with the extra `cli`; nothing here is imported by the client.
"""

import sys
from importlib.util import find_spec

_EXTRA = ("rich", "typer", "yaml")


def main() -> int:
    """Run the command line; the exit code is returned."""
    if not _installed():
        return 1
    try:
        from modelworker.cli._app import run  # noqa: PLC0415 - not without the extra

        return run(sys.argv[1:])
    except KeyboardInterrupt:  # while libraries are loaded
        return 130


def complete() -> int:
    """Print completions of the words given, as kubectl asks a plugin for them."""
    if not _installed():
        return 1
    from modelworker.cli._complete import run  # noqa: PLC0415 - not without the extra

    return run(sys.argv[1:])


def _installed() -> bool:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"error: {', '.join(missing)} is missing: pip install 'modelworker[cli]'\n"
        )
    return not missing

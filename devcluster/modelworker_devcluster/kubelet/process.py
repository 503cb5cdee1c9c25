"""Processes of containers, each with its descendants under a shim (see `shim.py`)."""

import asyncio
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_SHIM = Path(__file__).with_name("shim.py")
_OUTPUT_LIMIT = 10 * 1024


class StartError(Exception):
    """The command cannot be started; the message is for the container's status."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and in which surroundings.

    Attributes:
        argv: the program, looked up in the PATH of `env`, and its arguments.
        env: its whole environment.
        folder: its working directory.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    folder: Path


class Process:
    """A running command. It and all it started die with this program."""

    def __init__(self, shim: asyncio.subprocess.Process) -> None:
        self._shim = shim

    @classmethod
    async def start(cls, command: Command, *, log: Path, pid_file: Path) -> Self:
        """Start a command whose output is appended to `log`.

        Raises:
            StartError: there is no such program or working directory.
        """
        with log.open("ab") as output:
            return cls(await _spawn(command, pid_file, output.fileno()))

    async def wait(self) -> int:
        """The exit code, 128 + n after signal n, when the command and all it started are gone."""
        return await self._shim.wait()

    def terminate(self) -> None:
        """Send the command SIGTERM; what it started is its own to end, as in a container."""
        self._order(b"T")

    def kill(self) -> None:
        """Kill the command and everything that it started."""
        self._order(b"K")

    def _order(self, order: bytes) -> None:
        if self._shim.stdin is not None and self._shim.returncode is None:
            self._shim.stdin.write(order)


async def run(command: Command, *, pid_file: Path, timeout: float) -> tuple[int, str]:
    """Run a command to its end.

    Returns:
        Its exit code and the first 10 KiB of what it wrote.

    Raises:
        StartError: there is no such program or working directory.
        TimeoutError: it was killed after `timeout` seconds.
    """
    shim = await _spawn(command, pid_file, asyncio.subprocess.PIPE)
    process = Process(shim)
    kept = b""
    try:
        async with asyncio.timeout(timeout):
            while shim.stdout is not None and (read := await shim.stdout.read(_OUTPUT_LIMIT)):
                kept += read[: _OUTPUT_LIMIT - len(kept)]
            code = await process.wait()
    finally:
        process.kill()
        await process.wait()
    return code, kept.decode(errors="replace").strip()


async def _spawn(command: Command, pid_file: Path, output: int) -> asyncio.subprocess.Process:
    program = command.argv[0]
    if not command.folder.is_dir():
        raise StartError(f"working directory {command.folder} is not a directory")
    if "/" in program:
        # As after a chdir: relative to the working directory.
        found = shutil.which(str(command.folder / program))
    else:
        found = shutil.which(program, path=command.env.get("PATH", ""))
    if found is None:
        raise StartError(f'exec: "{program}": executable file not found in $PATH')
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(_SHIM),
        str(pid_file),
        *command.argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        env=command.env,
        cwd=command.folder,
        start_new_session=True,
    )

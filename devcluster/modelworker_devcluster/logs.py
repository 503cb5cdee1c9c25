"""The log files of components and pods."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.layout import Layout

_PREVIOUS = ".previous.log"
_POLL_S = 0.2


def component_logs(layout: Layout) -> dict[str, Path]:
    """The log file of each component that wrote one, by the component's name."""
    return {file.stem: file for file in sorted(layout.log("").parent.glob("*.log"))}


def pod_folders(layout: Layout) -> dict[tuple[str, str], Path]:
    """The folder of each pod, the newest if there were several, by namespace and name."""
    folders = sorted((layout.kubelet / "pods").glob("*_*_*"), key=lambda f: f.stat().st_mtime)
    return {(f.name.split("_")[0], f.name.split("_")[1]): f for f in folders}


def find(
    layout: Layout,
    what: str,
    *,
    namespace: str = "default",
    container: str | None = None,
    previous: bool = False,
) -> Path:
    """The log file of a component, or of a container of a pod.

    Args:
        layout: the files of the cluster.
        what: the component's or the pod's name.
        namespace: the pod's namespace.
        container: the container's name; may be left out when there is one.
        previous: the run before the last restart.

    Raises:
        DevClusterError: there is none, or more than one; the message lists what there is.
    """
    components = component_logs(layout)
    if what in components:
        return components[what]
    pods = pod_folders(layout)
    folder = pods.get((namespace, what))
    if folder is None:
        known = ", ".join((*components, *(f"{name} (-n {ns})" for ns, name in pods)))
        raise DevClusterError(f"no component or pod {what} in {namespace}; there are: {known}")
    suffix = _PREVIOUS if previous else ".log"
    files = {
        file.name.removesuffix(suffix): file
        for file in sorted(folder.glob(f"*{suffix}"))
        if previous or not file.name.endswith(_PREVIOUS)
    }
    wanted = [container] if container else list(files)
    if len(wanted) == 1 and wanted[0] in files:
        return files[wanted[0]]
    kind = "previous log" if previous else "log"
    shown = ", ".join(files) or "none"
    raise DevClusterError(
        f"pod {what}: containers with a {kind}: {shown}"
        + ("; choose one with -c" if len(files) > 1 else "")
    )


def read(file: Path, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
    """The lines of a log file, with their line ends.

    Args:
        file: the log file.
        tail: only this many of the last lines.
        follow: go on with what is written later, also after the file was replaced; until
            the file is removed.
    """
    opened = file.open(errors="replace")
    try:
        lines = opened.readlines()
        yield from lines if tail is None else lines[max(0, len(lines) - tail) :]
        while follow:
            if line := opened.readline():
                yield line
                continue
            try:
                now = file.stat()
            except FileNotFoundError:
                return
            if now.st_ino != os.fstat(opened.fileno()).st_ino:
                opened.close()
                opened = file.open(errors="replace")
            else:
                time.sleep(_POLL_S)
    finally:
        opened.close()

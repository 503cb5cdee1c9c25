"""Which pod has which GPU."""

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.api import Object


class NoFreeGpu(Exception):
    """More GPUs were asked for than are free."""


class Gpus:
    """The GPUs of the node, given out by index."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._holders: dict[int, str] = {}

    def allocate(self, pod: Object) -> dict[str, tuple[int, ...]]:
        """Give a pod the GPUs that its containers ask for.

        Returns:
            The indexes by container. An init container uses some of those that the
            pod's containers get after it.

        Raises:
            NoFreeGpu: too few are free; nothing was given.
        """
        early = _wanted(pod["spec"].get("initContainers", []))
        late = _wanted(pod["spec"]["containers"])
        needed = max(sum(late.values()), *early.values(), 0)
        free = [index for index in range(self._count) if index not in self._holders]
        if needed > len(free):
            raise NoFreeGpu(
                "Allocate failed due to requested number of devices unavailable for "
                f"{names.GPU_RESOURCE}. Requested: {needed}, Available: {len(free)}"
            )
        mine = tuple(free[:needed])
        self._holders |= dict.fromkeys(mine, pod["metadata"]["uid"])
        given = {container: mine[:number] for container, number in early.items()}
        for container, number in late.items():
            given[container], mine = mine[:number], mine[number:]
        return given

    def release(self, uid: str) -> None:
        """Take back every GPU of the pod with this uid; no error when it has none."""
        self._holders = {gpu: holder for gpu, holder in self._holders.items() if holder != uid}


def _wanted(containers: list[Object]) -> dict[str, int]:
    return {
        container["name"]: int(container.get("resources", {}).get("limits", {}).get(key, 0))
        for container in containers
        for key in (names.GPU_RESOURCE,)
    }

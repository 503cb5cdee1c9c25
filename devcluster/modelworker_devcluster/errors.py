"""What can go wrong with a devcluster."""


class DevClusterError(Exception):
    """Base of every error of this package; the message says the next step."""


class BinariesNotFound(DevClusterError):
    """No usable set of Kubernetes binaries could be found, fetched or built."""


class SourceFailed(DevClusterError):
    """One way to come by the binaries does not work here."""


class StartFailed(DevClusterError):
    """A process of the cluster ended, or was not ready in time."""


class KubectlFailed(DevClusterError):
    """kubectl ended with an exit code other than 0.

    Attributes:
        returncode: the exit code.
        stderr: what kubectl wrote to its standard error.
    """

    def __init__(self, command: str, returncode: int, stderr: str) -> None:
        super().__init__(f"`{command}` ended with exit code {returncode}: {stderr.strip()}")
        self.returncode = returncode
        self.stderr = stderr

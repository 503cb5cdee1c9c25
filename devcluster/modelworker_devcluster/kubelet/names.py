"""Names that pods, volumes and tests meet: reasons, condition types, resources."""

from typing import Final

PREFIX: Final = "devcluster.modelworker.dev"
STORAGE_CLASS: Final = "devcluster"
PROVISIONER: Final = f"{PREFIX}/folder"
CONDITION_ISOLATION: Final = f"{PREFIX}/IsolationEnforced"
REASON_NOT_SUPPORTED: Final = "NotSupportedByDevcluster"
GPU_RESOURCE: Final = "nvidia.com/gpu"
USER_AGENT: Final = "modelworker-devcluster-kubelet"
NODE_IP: Final = "127.0.0.1"
DEFAULT_IMAGE: Final = "local/*"
"""Images that exist unless the command line says otherwise."""

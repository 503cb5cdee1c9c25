"""The command line of the kubelet: `python -m modelworker_devcluster.kubelet`."""

import argparse
import asyncio
import logging
import re
import signal
import sys
from pathlib import Path

from kubernetes.aio.config import ConfigException

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.addresses import NoFreeAddress
from modelworker_devcluster.kubelet.api import Api
from modelworker_devcluster.kubelet.context import Settings
from modelworker_devcluster.kubelet.kubelet import Kubelet
from modelworker_devcluster.kubelet.node import capacity

_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?")


def main() -> None:
    """Run a kubelet until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m modelworker_devcluster.kubelet",
        description="Runs the pods of one Kubernetes node as local processes.",
    )
    parser.add_argument("--kubeconfig", type=Path, required=True, help="an administrator's")
    parser.add_argument("--directory", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--node-name", default="devcluster", help="default: %(default)s")
    parser.add_argument(
        "--capacity",
        action="append",
        default=[],
        type=_amount,
        metavar="RESOURCE=QUANTITY",
        help="capacity of the node beside or instead of this machine's; may be repeated",
    )
    parser.add_argument(
        "--image",
        action="append",
        metavar="PATTERN",
        help=f"images that exist; may be repeated (default: {names.DEFAULT_IMAGE})",
    )
    parser.add_argument(
        "--backoff-seconds",
        type=float,
        default=10.0,
        help="first delay between restarts of a container that crashes (default: %(default)s)",
    )
    options = parser.parse_args()
    settings = Settings(
        node_name=options.node_name,
        directory=options.directory.resolve(),
        capacity=capacity(dict(options.capacity)),
        images=tuple(options.image or [names.DEFAULT_IMAGE]),
        backoff_seconds=options.backoff_seconds,
    )
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        asyncio.run(_run(options.kubeconfig, settings))
    except ConfigException as error:
        sys.exit(f"cannot use the kubeconfig {options.kubeconfig}: {error}")
    except NoFreeAddress as error:
        sys.exit(str(error))


def _amount(text: str) -> tuple[str, str]:
    resource, _, quantity = text.partition("=")
    if not resource or not _QUANTITY.fullmatch(quantity):
        raise argparse.ArgumentTypeError(f"{text!r} is not RESOURCE=QUANTITY, such as memory=8Gi")
    if "/" in resource and not quantity.isdecimal():
        raise argparse.ArgumentTypeError(f"{resource} is counted in whole numbers, not {quantity}")
    return resource, quantity


async def _run(kubeconfig: Path, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = await Api.connect(kubeconfig)
    try:
        await Kubelet(api, settings).run(stop)
    finally:
        await api.close()


if __name__ == "__main__":
    main()

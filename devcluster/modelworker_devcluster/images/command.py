"""`python -m modelworker_devcluster images`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from modelworker_devcluster.images.builder import build
from modelworker_devcluster.images.engines import ENGINES
from modelworker_devcluster.images.options import AUTO, Backend, Component, Options, Variant


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command to its parser."""
    parser.add_argument(
        "--only", choices=tuple(Component), help="one of the two images (default: both)"
    )
    parser.add_argument(
        "--backend",
        choices=tuple(Backend),
        default=Backend.TRANSFORMERS,
        help="what runs the worker's model (default: %(default)s)",
    )
    parser.add_argument(
        "--variant",
        choices=tuple(Variant),
        default=Variant.CPU,
        help="the hardware of the worker (default: %(default)s)",
    )
    parser.add_argument(
        "--tag",
        help="the images' tag (default: the project's version, and the worker's backend and "
        "variant behind it where they are not transformers and cpu)",
    )
    parser.add_argument(
        "--engine",
        choices=(AUTO, *(engine.name for engine in ENGINES)),
        default=AUTO,
        help="what builds them (default: the first that works)",
    )
    parser.add_argument(
        "--base",
        default=AUTO,
        metavar="IMAGE",
        help="what to build on (default: the pinned Python image; where it cannot be pulled, "
        "as root on Debian and its like, a base bootstrapped here)",
    )
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FOLDER",
        help="write an archive of each image there too, for `ctr images import`",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Build the images and print their names, or their archives if asked for.

    Args:
        options: the parsed flags.
        say: is told each step in a few words.
    """
    built = build(
        Options(
            components=(Component(options.only),) if options.only else tuple(Component),
            backend=Backend(options.backend),
            variant=Variant(options.variant),
            tag=options.tag,
            engine=options.engine,
            base=options.base,
            archives=options.archive and options.archive.expanduser().absolute(),
        ),
        say,
    )
    for component, reference in built.references.items():
        print(built.archives.get(component, reference))
    return 0

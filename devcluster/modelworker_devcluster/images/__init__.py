"""Builds the container images of the operator and the worker, with the engine at hand."""

from modelworker_devcluster.images.builder import build
from modelworker_devcluster.images.options import (
    Backend,
    Built,
    Component,
    ImagesFailed,
    Options,
    Variant,
)

__all__ = ["Backend", "Built", "Component", "ImagesFailed", "Options", "Variant", "build"]

"""Where Python packages come from during a build: as this machine's environment says."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")

_FORWARDED = re.compile(
    r"(PIP|UV)_(\w*INDEX\w*|TRUSTED_HOST|INSECURE_HOST|\w*TIMEOUT|\w*RETRIES|EXCLUDE_NEWER)"
)
_UV_DEFAULT = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
_UV_MORE = ("UV_INDEX", "UV_EXTRA_INDEX_URL")


def certificates(environment: Mapping[str, str]) -> Path | None:
    """The bundle of certificate authorities to trust, None for the image's own."""
    named = (Path(environment[name]) for name in CERTIFICATES if environment.get(name))
    return next((file for file in named if file.is_file()), None)


def index_lines(environment: Mapping[str, str]) -> str:
    """The shell lines that tell pip and uv of the package index, empty for the public one.

    Both are told what the environment says to one of them.

    Args:
        environment: this machine's.
    """
    found = {
        name: value
        for name, value in sorted(environment.items())
        if _FORWARDED.fullmatch(name) and value
    }
    if not any(name in found for name in _UV_DEFAULT) and "PIP_INDEX_URL" in found:
        found["UV_DEFAULT_INDEX"] = found["PIP_INDEX_URL"]
    if not any(name in found for name in _UV_MORE) and "PIP_EXTRA_INDEX_URL" in found:
        found["UV_INDEX"] = found["PIP_EXTRA_INDEX_URL"]
    default = next((found[name] for name in _UV_DEFAULT if name in found), None)
    if default and "PIP_INDEX_URL" not in found:
        # uv takes NAME=URL too.
        found["PIP_INDEX_URL"] = re.sub(r"^[\w.-]+=(?=\w+://)", "", default)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())


def torch_wheels(environment: Mapping[str, str]) -> Path | None:
    """The first folder of UV_FIND_LINKS and PIP_FIND_LINKS that has a wheel of torch."""
    links = [
        *environment.get("UV_FIND_LINKS", "").split(","),
        *environment.get("PIP_FIND_LINKS", "").split(),
    ]
    folders = (Path(link.removeprefix("file://")) for link in links if link)
    return next((folder.absolute() for folder in folders if any(folder.glob("torch-*.whl"))), None)

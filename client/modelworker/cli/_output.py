"""Results as data, and tables as lines: `-o json|yaml|name`, columns as kubectl has them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from modelworker_api import kube

if TYPE_CHECKING:
    from rich.text import Text

GOOD: Final = "green"
BUSY: Final = "yellow"
BAD: Final = "red"
DIM: Final = "dim"
_GAP: Final = "   "


@dataclass(frozen=True, slots=True)
class Cell:
    """A text of a table, with its colour."""

    text: str
    style: str = ""


Row = Sequence[str | Cell]


def emit(data: object, form: str) -> None:
    """Print data as JSON or YAML."""
    if form == "json":
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    typer.echo(as_yaml(data), nl=False)


def as_yaml(data: object) -> str:
    """The data as YAML, in its own order."""
    import yaml  # noqa: PLC0415 - not for those who want none

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))


def emit_names(refs: Iterable[tuple[kube.Kind, str]]) -> None:
    """Print objects as `kubectl get -o name` does."""
    for kind, name in refs:
        typer.echo(f"{kind.kind.lower()}.{kube.GROUP}/{name}")


def table(header: Sequence[str], rows: Sequence[Row], indent: str = "") -> "list[Text]":
    """Lines with aligned columns; without a header they are words, which may be wrapped."""
    from rich.text import Text  # noqa: PLC0415 - a tenth of a second

    cells = [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in rows]
    lines = [[Cell(title, "bold") for title in header], *cells] if header else cells
    widths = [max(map(len, column)) for column in zip(*_texts(lines), strict=True)]
    made = []
    for line in lines:
        text = Text(indent, no_wrap=bool(header), overflow="ellipsis")
        for place, (cell, width) in enumerate(zip(line, widths, strict=True)):
            text.append(cell.text, cell.style or None)
            if place < len(widths) - 1:
                text.append(" " * (width - len(cell.text)) + _GAP)
        text.rstrip()
        made.append(text)
    return made


def plain(header: Sequence[str], rows: Sequence[Row]) -> str:
    """The same without colours."""
    return "\n".join(line.plain for line in table(header, rows))


def _texts(lines: Iterable[Sequence[Cell]]) -> Iterable[list[str]]:
    return ([cell.text for cell in line] for line in lines)


def compact(data: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without what is None."""
    return {key: value for key, value in data.items() if value is not None}

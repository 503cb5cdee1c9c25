"""Names of objects as people type them: `policy`, `mw/policy`, `rewardmodel/prm`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelworker.cli._failures import Code, Failure
from modelworker_api import kube

KIND_WORDS: Final = {
    word: kind
    for kind in kube.KINDS
    for word in (
        kind.short,
        kind.kind.lower(),
        kind.plural,
        f"{kind.plural}.{kube.GROUP}",
        f"{kind.kind.lower()}.{kube.GROUP}",
    )
}
"""The kinds by what may stand before the slash."""


@dataclass(frozen=True, slots=True)
class Ref:
    """An object as it was named; `kind` is None where none was said."""

    name: str
    kind: kube.Kind | None = None

    @property
    def kinds(self) -> tuple[kube.Kind, ...]:
        """The kinds it may be of."""
        return kube.KINDS if self.kind is None else (self.kind,)

    def __str__(self) -> str:
        return self.name if self.kind is None else f"{self.kind.short}/{self.name}"


def ref_of(word: str) -> Ref:
    """The object that a word names.

    Raises:
        Failure: if the word before the slash is no kind, or there is no name.
    """
    before, slash, name = word.rpartition("/")
    if not name:
        raise Failure(f"{word!r} is no name; write it as NAME, mw/NAME or rwm/NAME", Code.USAGE)
    if not slash:
        return Ref(name)
    kind = KIND_WORDS.get(before.lower())
    if kind is None:
        raise Failure(
            f"{before!r} is no kind of this group; write mw/{name} for a ModelWorker or "
            f"rwm/{name} for a RewardModel",
            Code.USAGE,
        )
    return Ref(name, kind)


def of_kind(word: str, kind: kube.Kind, use: str) -> str:
    """The name, where only one kind can be meant.

    Raises:
        Failure: if it names another kind; `use` says what that one is for.
    """
    ref = ref_of(word)
    if ref.kind not in (None, kind):
        raise Failure(f"{word} is no {kind.kind}; {use}", Code.USAGE)
    return ref.name


def kind_of(body: Mapping[str, Any]) -> kube.Kind:
    """The kind of an object."""
    return kube.REWARDMODEL if body.get("kind") == kube.REWARDMODEL.kind else kube.MODELWORKER


def chosen(
    bodies: Sequence[Mapping[str, Any]], refs: Iterable[Ref], namespace: str | None
) -> list[Mapping[str, Any]]:
    """The objects that are named, in the order of the names; all of them where none is.

    Raises:
        Failure: for a name that no object has, with those that there are.
    """
    wanted = list(refs)
    if not wanted:
        return list(bodies)
    found: list[Mapping[str, Any]] = []
    for ref in wanted:
        matching = [
            body
            for body in bodies
            if body["metadata"]["name"] == ref.name and kind_of(body) in ref.kinds
        ]
        if not matching:
            raise missing(ref, bodies, namespace)
        found += [body for body in matching if body not in found]
    return found


def missing(ref: Ref, bodies: Iterable[Mapping[str, Any]], namespace: str | None) -> Failure:
    """What to say of a name that no object has."""
    what = " or ".join(kind.kind for kind in ref.kinds)
    where = "any namespace" if namespace is None else f"namespace {namespace}"
    known = [f"{kind_of(body).short}/{body['metadata']['name']}" for body in bodies]
    there = f"there are: {', '.join(known[:20])}" if known else "there are none"
    hint = "" if namespace is None else "; -A looks in every namespace"
    return Failure(f"no {what} {ref.name!r} in {where}; {there}{hint}")

"""The rights that the client and these commands need, and what for. Pure."""

from dataclasses import dataclass
from typing import Any, Final

from modelworker.cli._findings import Finding, Level
from modelworker_api import kube

REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_REVIEW: Final = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource; without `needed` there is another way, or a command less."""

    verb: str
    resource: str
    purpose: str
    subresource: str = ""
    group: str = ""
    needed: bool = False

    def __str__(self) -> str:
        slash = "/" if self.subresource else ""
        dot = "." if self.group else ""
        return f"{self.verb} {self.resource}{slash}{self.subresource}{dot}{self.group}"

    def review(self, namespace: str) -> dict[str, Any]:
        """The question to the API server whether we have it."""
        attributes = {
            "namespace": namespace,
            "verb": self.verb,
            "group": self.group,
            "resource": self.resource,
            "subresource": self.subresource,
        }
        return {**_REVIEW, "spec": {"resourceAttributes": attributes}}


RIGHTS: Final = (
    *(
        Right(
            verb,
            kind.plural,
            f"LM and RMCall find the workers of a {kind.kind}",
            group=kube.GROUP,
            needed=True,
        )
        for kind in kube.KINDS
        for verb in ("list", "watch")
    ),
    Right("create", "serviceaccounts", "calls get a token to show workers", "token"),
    Right("get", "pods", "calls from outside the cluster reach workers", "proxy"),
    Right("create", "pods", "calls from outside the cluster reach workers", "proxy"),
    Right("list", "pods", "status, logs and top find the pods of workers"),
    Right("get", "pods", "logs shows what workers say", "log"),
    Right("list", "events", "status shows what happened", group="events.k8s.io"),
)


def judged(right: Right, namespace: str, *, allowed: bool) -> Finding:
    """What to say of a right that we have or not."""
    what = f"{right} in {namespace}"
    if allowed:
        return Finding("rights", Level.OK, f"{what}: {right.purpose}")
    slash = "/" if right.subresource else ""
    dot = "." if right.group else ""
    resource = f"{right.resource}{dot}{right.group}{slash}{right.subresource}"
    return Finding(
        "rights",
        Level.FAIL if right.needed else Level.WARN,
        f"no right to {what}, by which {right.purpose}",
        f"ask for it: kubectl create role modelworker-user -n {namespace} "
        f"--verb={right.verb} --resource={resource}, then bind it",
    )

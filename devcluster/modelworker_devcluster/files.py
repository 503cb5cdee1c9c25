"""The files that the processes of a cluster read."""

import datetime
from collections.abc import Sequence

from modelworker_devcluster import components, pki
from modelworker_devcluster.layout import Layout

_ADMINISTRATORS = ("system:masters",)


def write_files(
    layout: Layout, *, now: datetime.datetime, hosts: Sequence[str] = ()
) -> pki.Authority:
    """Make the folders, keys and certificates and the audit policy.

    Args:
        layout: where.
        now: when the certificates begin.
        hosts: names and addresses of the API server, besides those it always has.

    Returns:
        The authority that signed them.
    """
    layout.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in (layout.pki(""), layout.log("").parent, layout.kubelet, layout.temporary):
        folder.mkdir(exist_ok=True, mode=0o700)
    authority = pki.Authority(now=now)
    layout.pki("ca.crt").write_bytes(authority.certificate)
    for file, identity in {
        "serving": authority.issue("kube-apiserver", hosts=(*components.SERVING_HOSTS, *hosts)),
        "admin": authority.issue("admin", groups=_ADMINISTRATORS),
    }.items():
        layout.pki(f"{file}.crt").write_bytes(identity.certificate)
        pki.write_private(layout.pki(f"{file}.key"), identity.key)
    private, public = pki.service_account_key()
    pki.write_private(layout.pki("service-account.key"), private)
    layout.pki("service-account.pub").write_bytes(public)
    layout.audit_policy.write_text(components.AUDIT_POLICY)
    return authority


def write_kubeconfigs(
    layout: Layout, authority: pki.Authority, *, context: str, server: str
) -> None:
    """Make the kubeconfigs of the administrator, the controller-manager and the scheduler."""
    for file, user in (
        (layout.kubeconfig, "admin"),
        (layout.pki("controller-manager.kubeconfig"), "system:kube-controller-manager"),
        (layout.pki("scheduler.kubeconfig"), "system:kube-scheduler"),
    ):
        config = pki.kubeconfig(
            name=context,
            server=server,
            authority=authority.certificate,
            user=user,
            # All of them administrators: a controller-manager that is not would need an
            # identity for each of its controllers first, and a developer gains nothing.
            identity=authority.issue(user, groups=_ADMINISTRATORS),
        )
        pki.write_private(file, config)

"""The files that the programs of a node read."""

import datetime
import json
from pathlib import Path

from modelworker_devcluster import files, pki, versions
from modelworker_devcluster.node import checks, configs, pause
from modelworker_devcluster.node.places import NODE_ADDRESS, NODE_NAME, PORTS, Places

_ADMINISTRATORS = ("system:masters",)
_CONTEXT = "node"


def write_files(places: Places, *, now: datetime.datetime, plugins: Path) -> None:
    """Make the folders, keys, kubeconfigs and configurations of the cluster and its node.

    Args:
        places: the node's files.
        now: when the certificates begin.
        plugins: the folder with the CNI plugins.
    """
    layout = places.layout
    authority = files.write_files(layout, now=now, hosts=(NODE_ADDRESS,))
    files.write_kubeconfigs(layout, authority, context=_CONTEXT, server=PORTS.server)
    places.file("cni").mkdir(parents=True)
    for name, identity in {
        "kubelet": authority.issue(f"system:node:{NODE_NAME}", hosts=(NODE_ADDRESS, NODE_NAME)),
        "kubelet-client": authority.issue("kube-apiserver", groups=_ADMINISTRATORS),
    }.items():
        layout.pki(f"{name}.crt").write_bytes(identity.certificate)
        pki.write_private(layout.pki(f"{name}.key"), identity.key)
    for name, user, groups in (
        ("kubelet", f"system:node:{NODE_NAME}", ("system:nodes",)),
        ("kube-proxy", "system:kube-proxy", ()),
        ("coredns", "coredns", ()),
    ):
        config = pki.kubeconfig(
            name=_CONTEXT,
            server=PORTS.server,
            authority=authority.certificate,
            user=user,
            identity=authority.issue(user, groups=groups),
        )
        pki.write_private(layout.pki(f"{name}.kubeconfig"), config)
    for name, content in {
        "containerd.toml": configs.containerd(places, plugins),
        "cni/pods.conflist": json.dumps(configs.network()),
        "kubelet.json": json.dumps(configs.kubelet(places)),
        "kube-proxy.json": json.dumps(configs.kube_proxy(places)),
        "Corefile": configs.coredns(places),
        "resolv.conf": "",
    }.items():
        places.file(name).write_text(content)
    pause.write_archive(
        places.file("pause.tar"),
        busybox=checks.BUSYBOX,
        image=configs.PAUSE_IMAGE,
        architecture=versions.platform_name().partition("-")[2],
    )

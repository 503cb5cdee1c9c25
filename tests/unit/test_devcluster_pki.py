"""Keys, certificates and kubeconfigs."""

import datetime
import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelworker_devcluster import components, files, pki
from modelworker_devcluster.layout import Layout

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def certificate(identity: pki.Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate)


def test_an_issued_certificate_is_signed_by_the_authority() -> None:
    authority = pki.Authority(now=NOW)
    root = x509.load_pem_x509_certificate(authority.certificate)
    issued = certificate(authority.issue("admin", groups=("system:masters",)))
    issued.verify_directly_issued_by(root)
    assert issued.not_valid_before_utc < NOW < issued.not_valid_after_utc
    assert [a.value for a in issued.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [
        "admin"
    ]
    groups = issued.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [group.value for group in groups] == ["system:masters"]


@pytest.mark.parametrize(
    ("hosts", "usages"),
    [
        pytest.param((), [CLIENT], id="client"),
        pytest.param(components.SERVING_HOSTS, [CLIENT, SERVER], id="serving"),
    ],
)
def test_only_a_certificate_with_hosts_can_serve(
    hosts: tuple[str, ...], usages: list[x509.ObjectIdentifier]
) -> None:
    issued = certificate(pki.Authority(now=NOW).issue("x", hosts=hosts))
    extended = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == usages


def test_the_api_server_is_known_by_all_its_names() -> None:
    issued = certificate(pki.Authority(now=NOW).issue("x", hosts=components.SERVING_HOSTS))
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.96.0.1"]


def test_no_key_can_be_read_by_others(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cluster")
    authority = files.write_files(layout, now=NOW)
    files.write_kubeconfigs(layout, authority, context="c", server="https://127.0.0.1:1")
    private = [
        file
        for file in layout.directory.rglob("*")
        if file.is_file() and ("PRIVATE KEY" in file.read_text() or "key-data" in file.read_text())
    ]
    assert {file.name for file in private} == {
        "admin.key",
        "controller-manager.kubeconfig",
        "kubeconfig",
        "scheduler.kubeconfig",
        "service-account.key",
        "serving.key",
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in private} == {0o600}
    assert stat.S_IMODE(layout.directory.stat().st_mode) == 0o700


def test_a_private_file_is_private_even_where_a_public_one_was(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    file.chmod(0o644)
    pki.write_private(file, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)


def test_a_kubeconfig_has_everything_inside() -> None:
    authority = pki.Authority(now=NOW)
    config = json.loads(
        pki.kubeconfig(
            name="devcluster-a",
            server="https://127.0.0.1:1",
            authority=authority.certificate,
            user="admin",
            identity=authority.issue("admin"),
        )
    )
    assert config["current-context"] == "devcluster-a"
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}

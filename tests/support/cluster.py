"""Session fixture `cluster`: a real etcd and kube-apiserver on loopback, with Wasmbed's CRDs installed."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.pki import Authority, private_key, write_key
from tests.support.processes import ROOT, Service, bundle_file, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

Completed = subprocess.CompletedProcess[str]
CRDS = ROOT / "roles/crds/files"


class Cluster:
    """The control plane of the tests. RBAC is on; `kubeconfig` is that of an administrator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = {name: bundle_file(f"bin/{name}") for name in ("etcd", "kube-apiserver", "kubectl")}
        etcd_port, peer_port, self.port = free_ports(3)
        self.etcd_url = f"http://127.0.0.1:{etcd_port}"
        self._peer_url = f"http://127.0.0.1:{peer_port}"
        self.url = f"https://127.0.0.1:{self.port}"
        self.authority = Authority(folder, "kubernetes-ca")
        self._serving = self.authority.issue("apiserver", "kube-apiserver")
        write_key(folder / "service-account.key", private_key())
        self._tls = ssl.create_default_context(cafile=str(self.authority.ca_file))
        self.kubeconfig = self.user("kubernetes-admin", "system:masters")
        self._tls.load_cert_chain(folder / "kubernetes-admin.crt", folder / "kubernetes-admin.key")
        self._etcd: Service | None = None
        self._apiserver: Service | None = None

    def user(self, name: str, *groups: str, url: str | None = None) -> Path:
        """Kubeconfig (0600) of a user with a client certificate of its own; `url` is for a way through a proxy."""
        file_name = name.replace(":", "-") + ("-proxied" if url else "")
        certificate, key = self.authority.issue(file_name, name, groups)
        path = self.folder / f"{file_name}.kubeconfig"
        path.touch(mode=0o600)
        cluster = {"server": url or self.url, "certificate-authority": str(self.authority.ca_file)}
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def start(self) -> None:
        """Start etcd and the API server and install the CRDs."""
        self._etcd = Service(
            "etcd",
            [
                str(self._programs["etcd"]),
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={self.etcd_url}",
                f"--advertise-client-urls={self.etcd_url}",
                f"--listen-peer-urls={self._peer_url}",
                f"--initial-advertise-peer-urls={self._peer_url}",
                f"--initial-cluster=default={self._peer_url}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            self.folder / "etcd.log",
        )
        self.start_apiserver()
        self.kubectl("apply", "--server-side", "-f", str(CRDS))
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))

    def start_apiserver(self) -> None:
        """Start the API server and wait until it is ready."""
        certificate, key = self._serving
        account_key = self.folder / "service-account.key"
        self._apiserver = Service(
            "kube-apiserver",
            [
                str(self._programs["kube-apiserver"]),
                f"--etcd-servers={self.etcd_url}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.port}",
                f"--cert-dir={self.folder / 'certs'}",
                f"--tls-cert-file={certificate}",
                f"--tls-private-key-file={key}",
                f"--client-ca-file={self.authority.ca_file}",
                "--authorization-mode=RBAC",
                "--anonymous-auth=false",
                "--enable-bootstrap-token-auth=true",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={account_key}",
                f"--service-account-signing-key-file={account_key}",
                "--service-cluster-ip-range=10.96.0.0/16",
                # There is no controller for service accounts, and no node whose address services could have.
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--shutdown-delay-duration=0s",
            ],
            self.folder / "kube-apiserver.log",
        )
        self._apiserver.wait_ready(self._ready)

    def stop_apiserver(self) -> None:
        """End the API server at once, as a crash would; etcd goes on."""
        if self._apiserver is not None:
            self._apiserver.kill()

    def stop(self) -> None:
        """End both."""
        for service in (self._apiserver, self._etcd):
            if service is not None:
                service.kill()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", context=self._tls, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def compact(self) -> None:
        """Forget all revisions but the present one, so that watches cannot begin at earlier ones (etcd's gateway)."""
        revision = int(self._etcd_call("kv/range", {"key": "AA=="})["header"]["revision"])
        self._etcd_call("kv/compaction", {"revision": revision, "physical": True})

    def _etcd_call(self, method: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(f"{self.etcd_url}/v3/{method}", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; with `check` a failure raises with kubectl's own words."""
        command = [str(self._programs["kubectl"]), f"--kubeconfig={self.kubeconfig}", *arguments]
        # A discovery cache of another test run would hide the CRDs.
        environment = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A real control plane in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="wasmbed-cluster-"))
    control_plane: Cluster | None = None
    try:
        control_plane = Cluster(folder)
        control_plane.start()
        yield control_plane
    finally:
        if control_plane is not None:
            control_plane.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real control plane for all tests of this process (with pytest-xdist: one for each worker)."""
    with running_cluster() as running:
        yield running

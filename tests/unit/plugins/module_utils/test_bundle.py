# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Making, checking and sending a bundle."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import bundle


@pytest.fixture
def made(tmp_path):
    """Return a folder with a bundle of two files, and its manifest."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o755)
    (source / "sub/data").write_text("data")
    path = str(tmp_path / "bundle")
    wanted, difference, manifest = bundle.plan(
        path, [{"src": str(source), "dest": "bin"}], {"kubernetes_version": "v1"}
    )
    bundle.write(path, wanted, difference, manifest)
    return tmp_path / "bundle", manifest


def test_bundle_has_the_files_their_modes_and_a_manifest_that_verifies(made):
    folder, manifest = made
    assert sorted(manifest["files"]) == ["bin/sub/data", "bin/tool"]
    assert os.access(folder / "bin/tool", os.X_OK)
    assert not bundle.verify(str(folder))
    assert json.loads((folder / "manifest.json").read_text()) == manifest


def test_changed_missing_and_unlisted_files_are_named(made):
    folder, _manifest = made
    (folder / "bin/tool").write_text("#!/bin/rm\n")
    (folder / "bin/sub/data").unlink()
    (folder / "bin/extra").write_text("")
    sentences = bundle.verify(str(folder)).sentences()
    assert sentences == [
        "bin/tool: its sha256 is not the manifest's",
        "bin/sub/data: missing",
        "bin/extra: not in the manifest",
    ]


def test_second_plan_finds_nothing_to_do(made, tmp_path):
    folder, manifest = made
    _wanted, difference, again = bundle.plan(
        str(folder), [{"src": str(tmp_path / "source"), "dest": "bin"}], {"kubernetes_version": "v1"}
    )
    assert not difference
    assert again == manifest


@pytest.mark.parametrize("dest", ["../outside", "/etc/passwd"])
def test_file_outside_the_bundle_is_refused(tmp_path, dest):
    (tmp_path / "file").write_text("x")
    with pytest.raises(bundle.BundleError, match="outside the bundle"):
        bundle.sources([{"src": str(tmp_path / "file"), "dest": dest}])


@pytest.mark.parametrize("text", [None, "{", "[]", '{"version": 2, "files": {}}', '{"version": 1}'])
def test_folder_without_a_manifest_is_no_bundle(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(bundle.BundleError, match=r"bundle\.yml"):
        bundle.read_manifest(str(tmp_path))


def test_host_takes_files_that_arrived_and_drops_those_of_an_older_bundle(made, tmp_path):
    folder, manifest = made
    host = tmp_path / "host"
    folder.rename(host)
    (host / "manifest.json").unlink()
    (host / "bin/older").write_text("")
    assert bundle.receive(str(host), manifest, bundle.Stamp(None)) is True
    assert not (host / "bin/older").exists()
    assert bundle.read_manifest(str(host)) == manifest
    assert bundle.receive(str(host), manifest, bundle.Stamp(None)) is False


def test_host_refuses_files_that_did_not_arrive_whole_and_writes_no_manifest(made):
    folder, manifest = made
    (folder / "manifest.json").unlink()
    (folder / "bin/tool").write_text("#!/bin")
    with pytest.raises(bundle.BundleError, match="bin/tool"):
        bundle.receive(str(folder), manifest, bundle.Stamp(None))
    assert not (folder / "manifest.json").exists()


def test_stamp_saves_reading_files_that_nobody_touched(made, tmp_path, monkeypatch):
    folder, manifest = made
    path = str(tmp_path / "stamp")
    stamp = bundle.Stamp(path)
    bundle.compare(str(folder), manifest["files"], stamp)
    stamp.save()
    assert (tmp_path / "stamp").stat().st_mode & 0o777 == 0o600
    read = []
    monkeypatch.setattr(bundle, "sha256", lambda file: read.append(file) or "")
    assert not bundle.compare(str(folder), manifest["files"], bundle.Stamp(path))
    assert read == []


def test_stamp_notices_a_file_whose_time_was_set_back(made, tmp_path):
    folder, manifest = made
    path = str(tmp_path / "stamp")
    stamp = bundle.Stamp(path)
    bundle.compare(str(folder), manifest["files"], stamp)
    stamp.save()
    tool = folder / "bin/tool"
    times = (tool.stat().st_atime_ns, tool.stat().st_mtime_ns)
    tool.write_text("#!/bin/rm\n")
    os.utime(tool, ns=times)
    assert bundle.compare(str(folder), manifest["files"], bundle.Stamp(path)).changed == ["bin/tool"]


def test_broken_stamp_is_as_none(made, tmp_path):
    folder, manifest = made
    (tmp_path / "stamp").write_text("{")
    assert not bundle.compare(str(folder), manifest["files"], bundle.Stamp(str(tmp_path / "stamp")))

"""Reading saved responses, in every shape in which people save them."""

from __future__ import annotations

import gzip
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from pages import cluster_set, page, tenant_set

import obanalytics as ob
from obanalytics.errors import DataError, DataWarning

if TYPE_CHECKING:
    from pathlib import Path


def rows(*days: int) -> list[dict[str, Any]]:
    made = []
    for day in days:
        times = {
            "startTime": f"2025-12-{day:02}T01:00:00Z",
            "checkpoint": f"2025-12-{day:02}T02:00:00Z",
            "endTime": f"2025-12-{day:02}T03:00:00Z",
        }
        tenant = tenant_set(backupSetId=f"c{day}-1002", **times)
        made.append(cluster_set(tenant, backupSetId=f"c{day}", **times))
    return made


def ids(sets: ob.BackupSets) -> list[str]:
    return list(sets.clusters["backup_set_id"])


def test_one_response_as_saved_by_curl(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(page(*rows(1, 2)))
    sets = ob.read(tmp_path / "r.json", instance_id="ob1")
    assert ids(sets) == ["c1", "c2"]
    assert set(sets.tenants["instance_id"]) == {"ob1"}
    assert sets.as_of == pd.Timestamp("2025-12-02T03:00Z")
    assert sets.window is None
    assert sets.source.instances == ("ob1",)


def test_as_of_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(page(*rows(1)))
    sets = ob.read(tmp_path / "r.json", as_of="2026-01-01")
    assert sets.as_of == pd.Timestamp("2026-01-01T00:00Z")
    sets.save(tmp_path / "saved")
    assert ob.read(tmp_path / "saved").as_of == sets.as_of
    assert ob.read(tmp_path / "saved", as_of="2027-01-01").as_of.year == 2027  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(rows(1, 2)).encode(),
        json.dumps({"dataList": rows(1, 2), "total": 2}).encode(),
        b"\n".join(json.dumps(row).encode() for row in rows(1, 2)),
        b"\r\n".join(page(row, total=2) for row in rows(1, 2)) + b"\r\n",
        b"\xef\xbb\xbf" + page(*rows(1, 2)),
        page(*rows(1, 2)).decode().encode("utf-16"),
        gzip.compress(page(*rows(1, 2))),
        json.dumps(json.loads(page(*rows(1, 2))), indent=2).encode(),
    ],
    ids=["list", "payload", "lines", "lines of pages", "bom", "utf-16", "gzip", "indented"],
)
def test_every_shape_of_a_file(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "r.json").write_bytes(body)
    assert ids(ob.read(tmp_path / "r.json", instance_id="ob1")) == ["c1", "c2"]


def test_single_set(tmp_path: Path) -> None:
    body = {"data": rows(3)[0], "success": True}
    (tmp_path / "one.json").write_text(json.dumps(body))
    assert ids(ob.read(tmp_path / "one.json")) == ["c3"]


def test_folder_and_zip_with_a_subfolder_per_instance(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    for instance, days in (("obA", (1, 2)), ("obB", (3,))):
        (folder / instance).mkdir(parents=True)
        for day in days:
            body = page(*rows(day), total=len(days))
            (folder / instance / f"page-{day}.json.gz").write_bytes(gzip.compress(body))
    (folder / "README.md").write_text("not data")
    (folder / ".hidden.json").write_text("{")
    with zipfile.ZipFile(tmp_path / "saved.zip", "w") as archive:
        for path in sorted(folder.rglob("*.gz")):
            archive.write(path, path.relative_to(folder))
    for source in (folder, tmp_path / "saved.zip"):
        sets = ob.read(source)
        assert sets.clusters.groupby("instance_id", observed=True).size().to_dict() == {
            "obA": 2,
            "obB": 1,
        }
        assert any("no instance_id was given" in note for note in sets.source.notes)
    assert set(ob.read(folder, instance_id="one").clusters["instance_id"]) == {"one"}


def test_missing_pages_are_said(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(page(*rows(1, 2), total=5))
    with pytest.warns(DataWarning, match="said 5 sets, the files hold 2: pages are missing"):
        sets = ob.read(tmp_path / "r.json", instance_id="ob1")
    assert any("pages are missing" in note for note in sets.source.notes)


def test_instances_without_tenants_stand_in_as_sys(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(page(*(row | {"tenantBackupSetList": []} for row in rows(1))))
    with pytest.warns(DataWarning, match="stand in as tenant sys: ob1"):
        sets = ob.read(tmp_path / "r.json", instance_id="ob1")
    assert sets.tenants[
        ["tenant_id", "backup_set_id", "cluster_backup_set_id"]
    ].to_numpy().tolist() == [["sys", "c1", "c1"]]
    with_tenants = (tmp_path / "t.json", tmp_path / "t.json")[0]
    with_tenants.write_bytes(page(*rows(1, 2)))
    merged = sets + ob.read(with_tenants, instance_id="ob1")
    assert set(merged.tenants["tenant_id"]) == {"t7amdemq4iu9s"}


def test_empty_list_is_empty_frames(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(page())
    sets = ob.read(tmp_path / "r.json", instance_id="ob1")
    assert len(sets) == 0
    assert sets.as_of is None
    assert sets.source.instances == ("ob1",)


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        (
            "r.json",
            b'{"success":false,"errorCode":"E1","errorMessage":"no"}',
            "error response: E1 no",
        ),
        ("r.json", b'{"a":1}', "no backup sets"),
        ("r.json", b"<html>", "not JSON"),
        ("r.json", page(*rows(1))[:-30], "not JSON"),
        ("r.json.gz", gzip.compress(page(*rows(1)))[:-30], "damaged gzip"),
        ("r.json", b"\xff\xfeabc", "not utf-16"),
        ("r.json", page(cluster_set(tenant_set(status=3))), "field status"),
        ("r.txt/readme.txt", b"x", "holds no .json"),
    ],
)
def test_faults_name_the_file(tmp_path: Path, name: str, body: bytes, words: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    target = tmp_path / name.split("/", maxsplit=1)[0]
    with pytest.raises(DataError, match=words) as caught:
        ob.read(target)
    assert target.name in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ob.read(tmp_path / "nowhere")

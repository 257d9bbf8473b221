"""Reading saved responses, in every shape in which people save them."""

from __future__ import annotations

import dataclasses
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pages import cluster_set, page, tenant_set

import obanalytics as ob
from obanalytics.errors import ArchiveError, DataError, DataWarning


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
        json.dumps([json.loads(page(row, total=2)) for row in rows(1, 2)], indent=2).encode(),
    ],
    ids=[
        "list",
        "payload",
        "lines",
        "lines of pages",
        "bom",
        "utf-16",
        "gzip",
        "indented",
        "slurped",
    ],
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


def test_folders_on_the_way_name_the_instance(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number, where in enumerate(("2026-05/ob1abc", "ob2abc/2026-05", "plain"), 1):
        (tree / where).mkdir(parents=True)
        (tree / where / "p.json").write_bytes(page(*rows(number)))
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for path in sorted(tree.rglob("*.json")):
            archive.write(path, path.relative_to(tree))
    for source in (tree, tmp_path / "tree.zip"):
        found = ob.read(source).clusters
        named = dict(zip(found["backup_set_id"], found["instance_id"], strict=True))
        assert named == {"c1": "ob1abc", "c2": "ob2abc", "c3": "plain"}


def test_damaged_zip_and_the_folder_around_a_save(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p.json", page(*rows(1, 2, 3)))
    whole = (tmp_path / "z.zip").read_bytes()
    (tmp_path / "z.zip").write_bytes(whole[:60] + b"\0" * 40 + whole[100:])
    with pytest.raises(DataError, match=r"z\.zip: damaged"):
        ob.read(tmp_path / "z.zip")
    ob.sample().save(tmp_path / "outer" / "sets")
    with pytest.raises(DataError, match="sets was saved by obanalytics: read it by itself"):
        ob.read(tmp_path / "outer")


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    body = page(*rows(1)).replace(b"gyh", "gÿh".encode("latin-1"))
    (tmp_path / "r.json").write_bytes(body)
    with pytest.raises(DataError, match=r"file r\.json: not JSON: 'utf-8' codec"):
        ob.read(tmp_path / "r.json", instance_id="ob1")


def test_a_save_through_a_link_goes_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for _ in range(2):
        ob.sample().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(ob.read(tmp_path / "there")) == len(ob.sample())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_what_could_not_be_read_back_is_not_saved(tmp_path: Path) -> None:
    sets = ob.sample()
    twice = pd.concat([sets.tenants, sets.tenants], ignore_index=True)
    with pytest.raises(DataError, match="repeat a key"):
        dataclasses.replace(sets, tenants=twice).save(tmp_path / "s")
    odd = sets.tenants.assign(mine=[object()] * len(sets.tenants))
    with pytest.raises(ArchiveError, match="cannot write"):
        dataclasses.replace(sets, tenants=odd).save(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_tenants_that_share_a_set_id_are_two(tmp_path: Path) -> None:
    shared = [tenant_set(backupSetId="1", tenantId=t, tenantName=t) for t in ("t1", "t2")]
    (tmp_path / "r.json").write_bytes(page(cluster_set(*shared)))
    sets = ob.read(tmp_path / "r.json", instance_id="ob1")
    assert sets.tenants["tenant_id"].tolist() == ["t1", "t2"]
    assert len((sets + sets).tenants) == 2
    sets.save(tmp_path / "s")
    assert len(ob.read(tmp_path / "s").tenants) == 2


def test_the_documented_response_as_it_stands() -> None:
    """The vendor's own example, read by hand; its newest time is the cluster set's end."""
    path = Path(__file__).parent.parent / "data" / "example-response.json"
    sets = ob.read(path, instance_id="ob5")
    (tenant,), (cluster,) = sets.tenants.to_dict("records"), sets.clusters.to_dict("records")
    assert sets.as_of == pd.Timestamp("2025-12-03T12:58:07Z")
    assert cluster["state"] == tenant["state"] == "done"
    assert tenant["duration"] == pd.Timedelta(minutes=1, seconds=55)
    assert (tenant["full"], tenant["size_gib"], tenant["validity"]) == (True, 0.04, "VALID")
    assert (cluster["tenant_id"], cluster["tenant_name"], cluster["tenant_sets"]) == ("sys", "*", 1)
    assert pd.isna(tenant["download_task_id"])
    assert ob.restore_points(sets)["restorable"].tolist() == [True]
    assert sets.source.notes == ()

"""The real service, as far as one key can see it; run with `pytest -m live` and keys at hand."""

from __future__ import annotations

import os

import pytest

import obanalytics as ob
from obanalytics.errors import AuthenticationError
from obanalytics.schema import check

KEYS = ("OCEANBASE_ACCESS_KEY_ID", "OCEANBASE_ACCESS_KEY_SECRET")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not all(os.environ.get(name) for name in KEYS),
        reason=f"the real service needs {' and '.join(KEYS)} in the environment",
    ),
    # What the service really sends may well be worth a warning; no test here is about that.
    pytest.mark.filterwarnings("default"),
]


def first_instance(client: ob.Client) -> str:
    rows = client.instances()
    if not rows:
        pytest.skip("this key's project has no instance")
    return str(rows[0]["instanceId"])


def test_instances_are_listed() -> None:
    with ob.Client() as client:
        rows = client.instances()
    assert all(row["instanceId"] for row in rows)
    assert len({row["instanceId"] for row in rows}) == len(rows)


def test_what_is_loaded_is_what_the_schema_says() -> None:
    with ob.Client() as client:
        instance_id = first_instance(client)
        sets = ob.load(instance_id, client=client, restorable=True, inventory=True)
        by_pages = sum(len(page) for page in client.backup_sets(instance_id))
    check(sets.clusters, "clusters")
    check(sets.tenants, "tenants")
    assert sets.restorable is not None
    assert sets.inventory is not None
    check(sets.restorable, "restorable")
    check(sets.inventory, "inventory")
    assert sets.source.instances == (instance_id,)
    assert sets.as_of is not None
    # Sets of tenants may stand at the top by themselves; a backup may have begun in between.
    assert abs(len(sets) + sets.tenants["cluster_backup_set_id"].isna().sum() - by_pages) <= 1


def test_a_small_page_size_brings_the_same() -> None:
    with ob.Client() as client, ob.Client(page_size=7) as other:
        instance_id = first_instance(client)
        one, two = (ob.load(instance_id, client=each) for each in (client, other))
    new = set(one.clusters["backup_set_id"]) ^ set(two.clusters["backup_set_id"])
    assert len(new) <= 1, "a backup may have begun in between, no more"


def test_a_wrong_secret_is_refused() -> None:
    wrong = {"access_key_secret": "not the secret"}
    with ob.Client(**wrong) as client, pytest.raises(AuthenticationError) as caught:
        client.instances()
    assert caught.value.status == 401

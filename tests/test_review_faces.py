"""A review by a policy; its JSON against the schema; its PDF read back by another reader."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
import pandas as pd
import pytest
from test_coverage import at, daily, frame
from test_report import HOSTILE, NOW, expected, renamed, simulated

import obanalytics as ob
from obanalytics import report, simulator
from obanalytics.outputs import OUTPUTS, Beside
from obanalytics.policy import Acknowledged, Exclude, Override
from obanalytics.schema import BackupSets, Source, empty

if TYPE_CHECKING:
    from pathlib import Path

DAY = pd.Timedelta("1D")


@pytest.fixture(scope="module")
def sample() -> ob.Review:
    return ob.review(ob.sample(), rpo="27h")


# --- by a policy ---------------------------------------------------------------------------------


def test_a_policy_says_what_is_owed() -> None:
    sets = ob.sample()
    policy = ob.Policy(rpo="25h", grace="3h", retention_days=30)
    found = ob.review(sets, policy=policy)
    assert (found.rpo, found.grace, found.rpo_origin) == (
        *(pd.Timedelta("25h"), pd.Timedelta("3h")),
        "policy",
    )
    pd.testing.assert_frame_equal(found.findings, ob.findings(sets, policy))
    gaps = ob.coverage_gaps(sets, "25h", grace="3h")
    pd.testing.assert_frame_equal(found.tables["gaps"], gaps)
    coverage = ob.rpo_compliance(sets, "25h", grace="3h", total=True)
    pd.testing.assert_frame_equal(found.tables["coverage"].drop(columns="rpo_state"), coverage)
    assert "RPO 25 h, grace 3 h." in found.to_text()
    assert "G14" not in set(found.tables["not_judged"]["kind"])
    # An RPO that is given counts more; all else is the policy's.
    other = ob.review(sets, rpo="30h", policy=policy)
    assert (other.rpo, other.rpo_origin) == (pd.Timedelta("30h"), "given")
    expected_findings = ob.findings(sets, replace(policy, rpo="30h"))
    pd.testing.assert_frame_equal(other.findings, expected_findings)
    assert other.policy.retention_days == 30


def test_limits_by_tenant_are_the_same_for_findings_and_gaps() -> None:
    rows = frame(daily(range(9)), daily(range(9)), daily(range(9)))
    limits = {"t0": "12h", ("ob1", "t1"): "26h", "t2": "23h"}
    policy = ob.Policy(
        rpo="26h",
        grace="1h",
        override=(Override(tenant="t0", rpo="12h"), Override(tenant="t2", grace="5h")),
    )
    given, held = ob.review(rows, rpo=limits), ob.review(rows, policy=policy)
    for found, short in ((given, {"t0", "t2"}), (held, {"t0"})):
        assert set(found.tables["gaps"]["tenant_id"]) == short
    # Its findings let two hours of grace pass: a distance of 24 hours is 1 over 23.
    named = given.findings.loc[given.findings["kind"].isin(["G4", "G5", "G6"]), "tenant_id"]
    assert set(named) == {"t0"}
    assert held.grace == {
        ("ob1", "t0"): pd.Timedelta("1h"),
        ("ob1", "t1"): pd.Timedelta("1h"),
        ("ob1", "t2"): pd.Timedelta("5h"),
    }
    assert held.rpo[("ob1", "t0")] == pd.Timedelta("12h")
    assert held.to_json()["rpo"] == {"ob1/t0": 43_200.0, "ob1/t1": 93_600.0, "ob1/t2": 93_600.0}
    assert "RPO by tenant, grace by tenant." in " ".join(held.to_text().split())


def test_who_is_left_out_is_in_no_number() -> None:
    sets = ob.sample()
    policy = ob.Policy(exclude=(Exclude(name="identity", reason="they have their own"),))
    found, whole = ob.review(sets, policy=policy), ob.review(sets, policy=ob.Policy())
    for name, table in {**found.tables, "findings": found.findings}.items():
        if "tenant_name" in table:
            assert "identity" not in set(table["tenant_name"].dropna()), name
    rest = sets.tenants[sets.tenants["tenant_name"] != "identity"]
    alone = ob.review(replace(sets, tenants=rest), policy=ob.Policy())
    pd.testing.assert_frame_equal(found.tables["coverage"], alone.tables["coverage"])
    assert found.summary["tenants"] == whole.summary["tenants"] - 3
    assert found.summary["excluded"] == 3
    assert "3 tenants are left out, as the policy says" in " ".join(found.to_text().split())


def test_what_is_acknowledged_fails_nothing() -> None:
    sets = ob.sample()
    whole = ob.review(sets, policy=ob.Policy())
    kinds = sorted(set(whole.findings["kind"]))
    known = tuple(Acknowledged(kind=kind, until="2027-01-01", reason="we know") for kind in kinds)
    found = ob.review(sets, policy=ob.Policy(acknowledge=known))
    assert whole.is_found("critical")
    assert not found.is_found("critical")
    assert not found.is_found("any")
    assert found.summary["acknowledged"] == len(found.findings) == len(whole.findings)
    assert "Nothing found; " in found.to_text()
    nothing = ob.review(BackupSets(empty("clusters"), empty("tenants")))
    assert nothing.is_found("critical")  # nothing to judge is no good news


def test_a_policy_must_be_one() -> None:
    for wrong in ("policy.toml", {"rpo": "26h"}, 26):
        with pytest.raises(TypeError, match=r"policy is a Policy \(Policy\.load reads a file\)"):
            ob.review(ob.sample(), policy=wrong)  # type: ignore[arg-type]


# --- JSON ----------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    text = files("obanalytics").joinpath("schemas/review.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def reviews(folder: Path) -> list[ob.Review]:
    scenario = simulator.Scenario(NOW, 3, 20, instances=1, tenants=8)
    hostile = renamed(simulated(folder, scenario), HOSTILE)
    inventory = ob.sample().tenants[["instance_id", "tenant_id", "tenant_name"]].drop_duplicates()
    sets, failed = ob.sample(), Source(failed={"ob9": "refused"})
    return [
        ob.review(sets, policy=ob.Policy(retention_days=30, max_chain=6, rto="4h")),
        ob.review(sets.tenants, rpo=dict.fromkeys(sets.tenants["tenant_id"].unique(), "30h")),
        ob.review(hostile),
        ob.review(frame(daily(range(1))), as_of=at(31)),
        ob.review(BackupSets(empty("clusters"), empty("tenants"), source=failed)),
        ob.review(replace(sets, inventory=ob.schema.conform(inventory, "inventory"))),
    ]


def test_json_is_as_its_schema_says(tmp_path: Path) -> None:
    judge = jsonschema.Draft202012Validator(schema())
    judge.check_schema(schema())
    for review in reviews(tmp_path):
        data = json.loads(json.dumps(review.to_json(), allow_nan=False))
        assert [error.message for error in judge.iter_errors(data)] == []
        review.write_json(tmp_path / "r.json")
        assert json.loads((tmp_path / "r.json").read_text("utf-8")) == data


def test_the_schema_names_everything_and_refuses_what_is_wrong(sample: ob.Review) -> None:
    told, data = schema()["properties"], sample.to_json()
    assert set(told) == {*data, "compared"}
    assert list(told["summary"]["properties"]) == list(sample.summary)
    assert list(told["tables"]["properties"]) == list(sample.tables)
    for name, table in sample.tables.items():
        rows = told["tables"]["properties"][name]["items"]
        assert list(rows["properties"]) == rows["required"] == list(table.columns), name
    judge = jsonschema.Draft202012Validator(schema())

    def broken(*path: Any, value: Any) -> bool:
        spoilt = json.loads(json.dumps(data))
        inner = spoilt
        for each in path[:-1]:
            inner = inner[each]
        inner[path[-1]] = value
        return not judge.is_valid(spoilt)

    assert broken("format", value=1)
    assert broken("as_of", value="2026-11-01 06:00")
    assert broken("summary", "tenants", value="12")
    assert broken("summary", "time_in_rpo", value=97.4)
    assert broken("findings", 0, "severity", value="grave")
    assert broken("tables", "gaps", 0, "gap", value="1 day")
    assert broken("tables", "coverage", 0, "rpo_state", value=None)
    assert broken("tables", "gaps", value=None)


def test_half_a_character_is_written(tmp_path: Path) -> None:
    sets = BackupSets(empty("clusters"), empty("tenants"), source=Source(path="a\udcff.json"))
    review = ob.review(sets)  # the name of a file that is no UTF-8
    review.write_json(tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_bytes())["provenance"]["path"]
    assert told == "a\udcff.json"
    for name in ("r.html", "r.md", "r.pdf", "r.xlsx", "r.csv", "r.prom"):
        OUTPUTS[f".{name[2:]}"].write(review, tmp_path / name, Beside(None, pd.Timestamp(NOW)))
        assert (tmp_path / name).exists()


# --- PDF -----------------------------------------------------------------------------------------


def text_of(path: Path) -> str:
    """Return what somebody else's reader finds in a PDF."""
    reader = shutil.which("pdftotext")
    if reader is None:
        if os.environ.get("CI"):
            pytest.fail("pdftotext is not here: dev.py installs it (poppler-utils)")
        pytest.skip("pdftotext is not here (Debian package poppler-utils)")
    done = subprocess.run(
        [reader, "-raw", str(path), "-"], check=True, capture_output=True, timeout=60
    )
    return done.stdout.decode("utf-8")


def squeezed(text: str) -> str:
    """Return a text without its spaces: a PDF breaks lines where it will."""
    return re.sub(r"[\s\u00ad\u200b\u00a0\u2011-]+", "", text)


@pytest.fixture(scope="module")
def printed(sample: ob.Review, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pdf") / "r.pdf"
    sample.to_pdf(path)
    return path


def test_every_number_is_in_the_pdf(sample: ob.Review, printed: Path) -> None:
    text = squeezed(text_of(printed))
    for name, rows in expected(sample).items():
        for row in rows[: 1 + report.PRINTED]:
            for cell in row:
                assert squeezed(cell) in text, (name, cell)
    assert squeezed("Backup review of 3 instances, 12 tenants") in text


def test_a_pdf_has_its_structure(printed: Path) -> None:
    reader = shutil.which("pdfinfo")
    if reader is None:
        text_of(printed)  # it says what is missing
        return
    done = subprocess.run([reader, str(printed)], check=True, capture_output=True)
    assert re.search(r"Tagged:\s+yes", done.stdout.decode())


def test_hostile_names_are_text_in_a_pdf(tmp_path: Path) -> None:
    scenario = simulator.Scenario(NOW, 3, 10, instances=1, tenants=16)
    sets = renamed(simulated(tmp_path / "pages", scenario), HOSTILE)
    ob.review(sets).to_pdf(tmp_path / "r.pdf")
    text = squeezed(text_of(tmp_path / "r.pdf"))
    for name in ("<script>alert(1)</script>", '=HYPERLINK("http', "{{7*7}}{%raw%}", "中文中文"):
        assert squeezed(name) in text
    content = (tmp_path / "r.pdf").read_bytes()
    assert b"/JavaScript" not in content
    assert b"/URI" not in content


def test_a_pdf_of_nothing(tmp_path: Path) -> None:
    ob.review(BackupSets(empty("clusters"), empty("tenants"))).to_pdf(tmp_path / "r.pdf")
    assert "there is nothing to judge" in " ".join(text_of(tmp_path / "r.pdf").split())


# --- what a stranger tripped over ----------------------------------------------------------------


def test_a_frame_says_what_it_takes_for_now() -> None:
    sets = ob.sample()
    one = sets.tenants[sets.tenants["tenant_name"] == "identity"]
    note = "it is not known when these facts were true: their newest time"
    assert note in " ".join(ob.review(one).to_text().split())
    assert note not in " ".join(ob.review(one, as_of=sets.as_of).to_text().split())
    assert note not in " ".join(ob.review(sets).to_text().split())


def test_a_past_window_is_not_now() -> None:
    review = ob.review(ob.sample().between("2026-05-01", "2026-06-01"), rpo="26h")
    text = " ".join(review.to_text().split())
    assert "Outside RPO at 2026-06-01 00:00 UTC" in text
    assert "In store now" not in text
    assert "outside the RPO at 2026-06-01 00:00 UTC; 2 gaps" in text
    assert "none is expected" not in text  # of what comes after the window nothing is known


def test_what_is_mostly_unknown_does_not_look_well() -> None:
    review = ob.review(ob.sample().between("2025-01-01", "2025-12-01"), rpo="26h")
    text = " ".join(review.to_text().split())
    assert "of the time that is known; at worst 8.72 %" in text
    assert "of 11 a part is not known" in text
    assert review.summary["time_in_rpo_worst"] == pytest.approx(0.0872, abs=1e-4)


def test_nothing_to_judge_is_not_called_well() -> None:
    everybody = ob.Policy(exclude=(Exclude(name="*", reason="none"),))
    for review in (
        ob.review(ob.sample(), policy=everybody),
        ob.review(ob.sample(), as_of="2020-01-01"),
    ):
        text = review.to_text()
        assert "No tenant was outside" not in text
        assert "No change of pace" not in text
        assert "no gap" not in text
        assert text.count("There is nothing to judge") >= 4
        assert review.is_found("critical")
    assert ob.review(ob.sample(), policy=everybody).summary["excluded"] == 12


def test_the_worst_tenant_comes_first_among_the_equally_grave() -> None:
    review = ob.review(ob.sample(), rpo="1h")
    sections = {each.key: each for each in report.sections(review)}
    found = sections["findings"].frame
    assert set(found["severity"].head(1)) == {"critical"}
    worst = sections["coverage"].frame.iloc[0]
    grave = found[found["severity"] == "critical"]
    assert grave["tenant_id"].iloc[0] == worst["tenant_id"]
    assert len(found) == len(review.findings)


def test_the_notes_of_a_comparison_are_on_the_page_and_in_the_file(tmp_path: Path) -> None:
    sets = ob.sample()
    earlier = ob.review(sets, rpo="26h", as_of="2026-10-01")
    now = ob.review(sets, policy=ob.Policy(rpo="26h", full_every="8D"))
    compared = now.compare(earlier)
    assert compared.notes
    now.to_html(tmp_path / "r.html", compared=compared)
    now.to_markdown(tmp_path / "r.md", compared=compared)
    now.write_json(tmp_path / "r.json", compared=compared)
    for name in ("r.html", "r.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert "Since the earlier review: policy, full" in text.replace("\\", "")
        assert "(no name)" not in text
    data = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert data["compared"] == json.loads(json.dumps(compared.to_json()))
    rows = compared.summary.set_index("name")["change"]
    assert rows["gaps"] == "unknown"  # they were held to something else

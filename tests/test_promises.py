"""What is written down holds: names, signatures, the README, the shape of the house."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import operator
import os
import re
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import obanalytics as ob
from obanalytics import cli, dashboard, errors, outputs, schema, simulator

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "obanalytics"
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = {
    *("Archive", "BackupSets", "Client", "Review", "load", "read", "review", "sample"),
    *("coverage_calendar", "coverage_gaps", "duration_trends", "explore", "exposure"),
    *("restore_options", "restore_points", "rpo_compliance", "size_growth"),
    *("plot_what_if", "what_if"),
    *("Policy", "findings", "tenant_parity", "schedule", "missed_runs", "schedule_compliance"),
    *("anomalies", "duration_changes", "forecast_size", "stored_size"),
    *("plot_forecast", "plot_stored_size", "plot_throughput"),
    *("retention", "coverage_after_expiry", "blast_radius", "plot_parity", "plot_schedule"),
    *("plot_coverage", "plot_coverage_calendar", "plot_durations", "plot_exposure", "plot_growth"),
}
SIGNATURES = {
    "load": "instance_ids start end *client *lookback *check_download *on_error *restorable "
    "*inventory *deadline *progress",
    "read": "path instance_id as_of",
    "sample": "",
    "review": "sets *rpo *policy *as_of",
    "explore": "sets *rpo *policy",
    "exposure": "sets *start *end *as_of",
    "coverage_gaps": "sets rpo *start *end *as_of *grace *trust_unknown",
    "rpo_compliance": "sets rpo *start *end *as_of *grace *trust_unknown *total",
    "coverage_calendar": "sets rpo *start *end *as_of *grace *trust_unknown *tz",
    "restore_points": "sets *as_of *trust_unknown",
    "restore_options": "sets tenant_id when *as_of *instance_id",
    "plot_exposure": "steps ax *rpo",
    "plot_coverage": "gaps ax *compliance *points *steps *window",
    "plot_coverage_calendar": "calendar ax",
    "size_growth": "sets *by *window *as_of",
    "duration_trends": "sets *by *freq *as_of",
    "duration_changes": "sets *min_size *alpha *min_effect *as_of",
    "anomalies": "sets *window *min_n *threshold *as_of *fdr",
    "stored_size": "sets *freq *retention_days *price_per_gib_month *free_gib *by *as_of",
    "forecast_size": "sets horizon *level *threshold *retention_days *by *candidates *as_of",
    "plot_growth": "growth ax",
    "plot_durations": "durations ax *changes",
    "plot_throughput": "durations ax *changes",
    "plot_forecast": "forecast ax",
    "plot_stored_size": "stored ax",
    "plot_what_if": "replayed ax",
    "what_if": "sets *rpo *full_every *incremental_every *retention_days *price_per_gib_month "
    "*as_of",
    "Archive": "path",
    "Archive.sync": "self client instance_ids since *check_download *inventory *keep_responses "
    "*deadline *resume *wait *now *new_endpoint *progress",
    "Archive.load": "self as_of *start *end *instance_ids *lookback *stale",
    "Archive.changes": "self since until *instance_ids",
    "Archive.fetches": "self",
    "Archive.check": "self",
    "Archive.compact": "self parts *wait",
    "Archive.rebuild": "self *wait",
    "Client": "access_key_id access_key_secret *endpoint *project_id *page_size *workers *timeout "
    "*max_attempts *profile *proxies *ca_bundle",
}
TENANTS = [
    "instance_id",
    "cluster_backup_set_id",
    "backup_set_id",
    "tenant_id",
    "tenant_name",
    "data_backup_mode",
    "full",
    "status",
    "state",
    "validity",
    "start_time",
    "end_time",
    "checkpoint",
    "duration",
    "size_gib",
    "backup_mode",
    "backup_object_type",
    "trigger_mode",
    "storage_class",
    "data_version",
    "download_enabled",
    "download_task_id",
    "in_window",
    "extra",
]


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no git checkout here")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_public_names_are_these_and_each_is_there() -> None:
    assert set(ob.__all__) == NAMES
    assert all(getattr(ob, name).__name__ == name for name in NAMES)
    assert set(dir(ob)) >= NAMES
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ob.nothing  # noqa: B018


def test_the_analyses_over_an_archive_are_there_when_they_are_asked_for() -> None:
    code = (
        "import sys, obanalytics as ob; assert 'obanalytics.distributed' not in sys.modules; "
        "assert callable(ob.distributed.coverage); assert 'distributed' in dir(ob)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_function_whose_module_has_its_name_is_the_function() -> None:
    code = "import obanalytics.review, obanalytics as ob; assert callable(ob.review), ob.review"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_pinned(name: str) -> None:
    parameters = inspect.signature(operator.attrgetter(name)(ob)).parameters.values()
    found = ["*" * (each.kind == each.KEYWORD_ONLY) + each.name for each in parameters]
    assert " ".join(found) == SIGNATURES[name]


def test_columns_are_pinned_in_their_order() -> None:
    assert [column.name for column in schema.COLUMNS["tenants"]] == TENANTS
    clusters = [column.name for column in schema.COLUMNS["clusters"]]
    expected = [name for name in TENANTS if name != "cluster_backup_set_id"]
    assert [name for name in clusters if name != "tenant_sets"] == expected
    sets = ob.sample()
    assert list(sets.tenants.columns) == TENANTS
    assert list(sets.clusters.columns) == clusters
    for level in ("clusters", "tenants"):
        schema.check(getattr(sets, level), level)  # type: ignore[arg-type]


def test_errors_are_few_and_all_tell_the_same() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type)]
    ours = [each for each in found if issubclass(each, errors.ObanalyticsError)]
    assert len(ours) <= 8
    for each in ours:
        error = each("text")
        assert (error.instance_id, error.request_id, error.status, error.code) == (None,) * 4
        assert error.retryable is False


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_example_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,), (shown,) = blocks("python"), blocks("text")
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own page
    assert out.getvalue().strip() == shown.strip()
    assert (tmp_path / "review.html").stat().st_size > 10_000


def test_readme_names_every_command_and_only_files_that_are_there() -> None:
    commands = set(re.findall(r"obanalytics (\w+)", README))
    action = next(each for each in cli.parser()._actions if each.choices)
    assert set(action.choices or ()) <= commands
    for name in re.findall(r"`((?:obanalytics|docs|notebooks)/[\w/.-]+)`", README):
        assert (ROOT / name).exists(), name


def test_every_extra_brings_what_its_message_promises() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    brought = {
        name: {re.split(r"[<>=]", each)[0].replace("-", "_") for each in packages}
        for name, packages in extras["optional-dependencies"].items()
    }
    for output in outputs.OUTPUTS.values():
        if output.needs:
            assert output.needs in brought[output.extra]
    assert set(dashboard.NEEDED) == brought["dashboard"]


def test_contributing_lists_the_rows_of_the_house() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = {
        name
        for row in re.findall(r"^\| \d+ \| (.*) \|$", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert listed == modules


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_modules_and_functions_stay_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 600
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            begins = (
                node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            )
            assert (node.end_lineno or 0) - begins.lineno < 40, f"{path.name}: {node.name}"


def test_nothing_is_left_open_in_the_package() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", path.read_text()), path


def test_no_file_names_a_package_index_or_this_machine() -> None:
    pattern = re.compile(rb"://[^ \"']*/simple(/|\"|$)|://[^ \"]*/packages/[0-9a-f]{2}/")
    for path in tracked_files():
        content = path.read_bytes()
        assert not pattern.search(content), path
        assert str(ROOT).encode() + b"/" not in content, path


def test_constraints_pin_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.+-]+( ; .*)?", line) for line in lines), lines


def test_importing_loads_nothing_that_is_not_used() -> None:
    heavy = (
        "requests msgspec pyarrow matplotlib ipywidgets scipy jinja2 deltalake pandas numpy tqdm"
    )
    code = f"import sys, obanalytics; print([n for n in {heavy.split()} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_reading_files_loads_no_network_and_no_drawing() -> None:
    code = (
        "import sys, obanalytics as ob; s = ob.sample(); ob.coverage_gaps(s, '26h')\n"
        "print([n for n in ('requests', 'matplotlib', 'ipywidgets', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def files_visited(run: Callable[[], Any]) -> set[str]:
    """Return the package's files in which a call runs a function, in any thread."""
    seen: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        ours = event == "call" and name.startswith(str(PACKAGE)) and "simulator" not in name
        if ours and frame.f_code.co_name != "reveal":  # the secret's one door
            seen.add(Path(name).stem)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return seen - {"__init__"}


def test_the_way_of_a_call_is_short() -> None:
    history = simulator.simulate(simulator.Scenario(ob.sample().as_of.to_pydatetime(), days=20))  # type: ignore[union-attr]
    instance = history.instances[0].instance_id
    sets = ob.sample()
    server = simulator.SimulatorServer(history)
    clients = [ob.Client(*simulator.KEY, endpoint=server.url, project_id="p") for _ in range(2)]
    with server, clients[0] as first, clients[1] as second:
        ob.load(instance, client=first)  # everything is imported
        visited = files_visited(lambda: ob.load(instance, client=second, progress=False))
    net = {"client", "paging", "transport", "wire"}
    assert visited == {"dataset", "flatten", "packing", "schema", *net}
    tenant = sets.tenants["tenant_id"].iloc[0]
    # Those of coverage share a file more, those of trends several: see docs/decisions.md.
    analyses: dict[Callable[[], Any], int] = {
        lambda: ob.exposure(sets): 4,
        lambda: ob.coverage_gaps(sets, "26h"): 4,
        lambda: ob.coverage_calendar(sets, "26h"): 4,
        lambda: ob.rpo_compliance(sets, "26h"): 4,
        lambda: ob.restore_points(sets): 3,
        lambda: ob.restore_options(sets, tenant, "2026-10-01"): 3,
        lambda: ob.size_growth(sets): 10,
        lambda: ob.duration_trends(sets): 10,
    }
    for run, most in analyses.items():
        run()
        assert len(files_visited(run)) <= most
    growth = ob.size_growth(sets)
    ob.plot_growth(growth)  # everything is imported
    assert files_visited(lambda: ob.plot_growth(growth)) == {
        *("canvas", "carry", "dots", "lanes", "letters", "strips", "ticks", "wording"),
    }


def test_wheel_holds_data_and_templates_and_runs_without_the_checkout(tmp_path: Path) -> None:
    if not os.environ.get("CI"):
        pytest.skip("builds a wheel and an environment: half a minute, only with CI=true")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "obanalytics/templates/report.html" in names
    assert "obanalytics/data/example-response.json" in names
    assert sum(name.startswith("obanalytics/data/sample/") for name in names) == 12
    assert wheel.stat().st_size < 1_000_000
    place = tmp_path / "alone"
    subprocess.run([*pip, "install", "--no-deps", "--target", place, wheel], check=True)
    code = (
        "import obanalytics as ob; from pathlib import Path; "
        f"assert Path(ob.__file__).is_relative_to({str(place)!r}); "
        "r = ob.review(ob.sample(), rpo='27h'); r.to_html('r.html'); print(len(r.tables['gaps']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.stdout.strip() == "9"

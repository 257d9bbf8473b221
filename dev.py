"""Run the project from a bare Python: ``python3 dev.py demo | test | lint | bench | …``.

Needs only the standard library: makes ``.venv`` beside this file, installs the project and its test
tools there once, and starts the command asked for inside it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "obanalytics-stamp"
# What the tests run that pip cannot install: Debian package -> a command or file of it.
SYSTEM_TOOLS = {
    "apache2": "apache2",
    "chromium": "chromium",
    "curl": "curl",
    "default-jre-headless": "java",
    "fonts-noto-cjk": "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "libreoffice-calc": "soffice",
    "npm": "npm",
    "poppler-utils": "pdftotext",
    "prometheus": "promtool",
}
# WeasyPrint, which makes PDFs, loads these when it is imported.
LIBRARIES = ("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0")
NODE_TOOLS = ("axe-core@4.14.1", "vnu-jar@26.9.27")  # they judge pages; nothing else runs them
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)
PROGRAMS = {
    "demo": ("obanalytics", "demo"),
    "bench": ("pytest", "-m", "benchmark", "-s", "-q", "tests/benchmarks"),
    "accuracy": ("python", "tests/accuracy.py", "--write"),
    "notebooks": ("python", "tests/notebooks_tool.py"),
}
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
USAGE = (
    "usage: python3 dev.py demo | test [pytest options] | lint | bench | accuracy | notebooks | env"
)


def run(*command: str, **options: object) -> int:
    """Run one command from the project's root and return its exit code."""
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, cwd=ROOT, check=False, **options).returncode  # type: ignore[call-overload, no-any-return]


def must(*command: str) -> None:
    """Run one command and stop here with its exit code when it fails."""
    code = run(*command)
    if code:
        sys.exit(code)


def inside(*command: str) -> tuple[str, ...]:
    """Return a command with its program taken from the project's environment."""
    return (str(BIN / command[0]), *command[1:])


def fingerprint() -> str:
    """Return a hash of everything that decides what is installed."""
    digest = hashlib.sha256(sys.version.encode() + str(ROOT).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def environment() -> None:
    """Make ``.venv`` and install the project with its test tools, unless that is done already."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python is what this line is for
        sys.exit(f"obanalytics needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    if run(sys.executable, "-m", "venv", "--clear", str(VENV)):
        sys.exit(
            "could not make .venv: this Python lacks venv or ensurepip "
            "(on Debian and Ubuntu: apt install python3-venv)"
        )
    # Dependency groups need pip 25.1 or newer; older Pythons bring an older pip.
    must(*inside("python", "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1"))
    must(
        *inside("python", "-m", "pip", "install", "--quiet", "--editable", "."),
        *("--group", "test", "--constraint", "constraints.txt"),
    )
    STAMP.write_text(wanted)


def missing_packages() -> list[str]:
    """Return the Debian packages whose commands, files or libraries are not here."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    packages = [
        package
        for package, name in SYSTEM_TOOLS.items()
        if not (Path(name).exists() if "/" in name else shutil.which(name, path=path))
    ]
    loads = inside("python", "-W", "ignore", "-c", "import weasyprint")
    if subprocess.run(loads, cwd=ROOT, check=False, capture_output=True).returncode:
        packages += LIBRARIES
    return packages


def system_tools() -> None:
    """Install what the tests need from the operating system, or say what is missing."""
    packages = missing_packages()
    if not packages:
        return
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root and shutil.which("apt-get"):
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        run("apt-get", "-qq", "update", **quiet)
        install = ("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages)
        if run(*install, **quiet) == 0:
            return
    print(f"missing on this machine (Debian packages): {' '.join(packages)}")
    print("the tests that need them say so when they are skipped")


def node_tools() -> None:
    """Install the judges of pages beside the environment; they run no script while they do."""
    folder = VENV / "node_modules"
    if all((folder / name.split("@", maxsplit=1)[0]).is_dir() for name in NODE_TOOLS):
        return
    npm = shutil.which("npm")
    quiet = ("--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--loglevel=error")
    if npm is None or run(npm, "install", *quiet, "--prefix", str(VENV), *NODE_TOOLS):
        print(f"not installed: {' '.join(NODE_TOOLS)}; the tests that need them say so")


def lint() -> int:
    """Run the style, type, import and docstring checks; return the worst exit code."""
    codes = [run(*inside(*check)) for check in CHECKS]
    sources = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "obanalytics").rglob("*.py"))
    numpydoc = inside("python", "-m", "numpydoc.hooks.validate_docstrings", *sources)
    codes.append(run(*numpydoc))
    return max(codes)


def main(arguments: list[str]) -> int:
    """Do what the first argument names."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command not in {*PROGRAMS, "test", "lint", "env"}:
        print(USAGE)
        return 2
    environment()
    if command in PROGRAMS:
        return run(*inside(*PROGRAMS[command], *rest))
    if command == "lint":
        return lint()
    if command == "test":
        system_tools()
        node_tools()
        checked = lint()
        # Many tests start the package anew: without its bytecode each would compile it.
        keep = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
        # A process per core: the tests are independent, and most of their time is arithmetic.
        tests = inside("pytest", "-n", "auto", "--dist", "worksteal", *rest)
        return run(*tests, env=keep) or checked
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

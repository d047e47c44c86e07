#!/usr/bin/env python3
"""Every command of this repository, with nothing needed but Python 3.11 or newer.

    python tasks.py help

The Makefile's targets are the same names. Work happens in a virtual environment, .venv, which the first
command makes and later ones update when the requirements change.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
BUILD = ROOT / "_build"
HTML = BUILD / "html"


# --- commands --------------------------------------------------------------------------------------


def book(*_):
    """build the website: make the environment, run the notebooks, write _build/html"""
    environment()
    if run(PYTHON, "-m", "tools.sync", check=False):
        sys.exit(1)
    build_book()
    print(
        f"\nThe book is in {HTML / 'index.html'}\nNext: make serve   (live figures need a server, not a file)"
    )


def serve(*args):
    """serve the built website on this machine only: http://127.0.0.1:8000"""
    if not HTML.exists():
        sys.exit("There is no book yet. Run `make book` first.")
    port = args[0] if args else "8000"
    print(f"Open http://127.0.0.1:{port}   (stop with Ctrl-C)")
    run(
        sys.executable,
        "-m",
        "http.server",
        port,
        "--bind",
        "127.0.0.1",
        "-d",
        HTML,
        check=False,
    )


def test(*args):
    """run every quality gate, or those named: make test GATES="lint unit" (make fast = lint unit)"""
    unknown = [a for a in args if a not in GATES]
    if unknown:
        sys.exit(
            f"Unknown gate: {', '.join(unknown)}. The gates are: {', '.join(GATES)}."
        )
    environment()
    chosen = args or tuple(GATES)
    if "browser" in chosen or "book" in chosen:
        chromium()
    results = []
    for i, name in enumerate(chosen, 1):
        print(f"\n=== [{i}/{len(chosen)}] {name}: {GATES[name].__doc__}", flush=True)
        began = time.time()
        failed = [c for c in GATES[name]() if c]
        results.append((name, not failed, time.time() - began))
    print("\n=== gates")
    for name, ok, seconds in results:
        print(f"  {'passed' if ok else 'FAILED'}  {name:10} {seconds:6.1f} s")
    bad = [name for name, ok, _ in results if not ok]
    print(f"\ngates: {len(results) - len(bad)} passed, {len(bad)} failed")
    if bad:
        sys.exit(
            f'Next: mend what failed above, then run it alone: make test GATES="{" ".join(bad)}"'
        )
    print("Next: commit, or look at the book with `make serve`.")


def sync(*args):
    """write what is derived: launch links, setup cells, exercises from solutions (--check only looks)"""
    environment()
    sys.exit(run(PYTHON, "-m", "tools.sync", *args, check=False))


def figures(*_):
    """bundle the live figures' JavaScript into the package (needs Node and npm)"""
    if not shutil.which("npm"):
        sys.exit(
            "Bundling needs npm (Node 20 or newer); only who edits figures/ needs it. Install Node and try again."
        )
    run("npm", "install", "--silent", cwd=ROOT / "figures")
    run("node", "build.mjs", cwd=ROOT / "figures")


def record(*chapters):
    """run every chapter and record its row and minutes; only some: make record CHAPTERS="09 10\""""
    environment()
    run(PYTHON, "-m", "tools.sync")
    run(PYTHON, "-m", "tools.record", *chapters, env=quiet_threads())
    run(PYTHON, "-m", "tools.sync")


def clean(*_):
    """remove what was built (_build); the environment stays"""
    shutil.rmtree(BUILD, ignore_errors=True)


def help(*_):
    """this list"""
    for name, command in COMMANDS.items():
        print(f"  make {name:8} {command.__doc__}")
    print("\nGates of `make test`:")
    for name, gate in GATES.items():
        print(f"  {name:13} {gate.__doc__}")


# --- gates: each yields exit codes -----------------------------------------------------------------


def gate_lint():
    """formatting, types, spelling, stripped notebooks, prose without typed results, derived files in step"""
    yield run(PYTHON, "-m", "ruff", "check", ".", check=False)
    yield run(PYTHON, "-m", "ruff", "format", "--check", ".", check=False)
    yield run(PYTHON, "-m", "mypy", check=False)
    yield run(
        PYTHON,
        "-m",
        "codespell_lib",
        *tracked("*.md", "*.py", "*.ipynb", "*.mjs", "*.toml"),
        check=False,
    )
    yield run(
        BIN / "nbstripout", "--keep-id", "--verify", *tracked("*.ipynb"), check=False
    )
    yield run(PYTHON, "-m", "tools.prose", check=False)
    yield run(PYTHON, "-m", "tools.sync", "--check", check=False)


def gate_unit():
    """the package, the graders' proof, the figures' arithmetic"""
    yield pytest("tests", "-m", "not slow and not browser and not book", "-n", "2")


def gate_slow():
    """tests that take longer: clean environments, wheels, rebuilds"""
    yield pytest("tests", "-m", "slow and not browser and not book", "-rs")


def gate_notebooks():
    """every notebook runs from top to bottom, without a network, into the cache of the book"""
    fresh_cache()
    yield run(PYTHON, "-m", "tools.execute", check=False, env=building())
    yield pytest(  # untouched exercises are not run for the book: they have nothing to show
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout=300",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "exercises",
    )


def gate_book():
    """the book builds with warnings as errors; links, alternative texts and page contents hold"""
    build_book()
    pages = [p for p in sorted(HTML.rglob("*.html")) if "_static" not in p.parts]
    lychee = [BIN / "lychee", "--offline", "--include-fragments", "--no-progress"]
    yield run(*lychee, "--root-dir", HTML, *pages, check=False)
    yield pytest("tests", "-m", "book and not browser", "-rs")


def gate_browser():
    """pages and figures in Chromium: no outside request, keyboard, phone, dark, axe"""
    if not HTML.exists():
        build_book()
    yield pytest("tests", "-m", "browser", "-rs", "-n", "2", "--dist", "loadgroup")


GATES = {
    "lint": gate_lint,
    "unit": gate_unit,
    "notebooks": gate_notebooks,
    "book": gate_book,
    "browser": gate_browser,
    "slow": gate_slow,
}
COMMANDS = {
    f.__name__: f for f in (book, serve, test, sync, figures, record, clean, help)
}


# --- how -------------------------------------------------------------------------------------------


def run(*command, check=True, env=None, cwd=ROOT) -> int:
    code = subprocess.call([str(c) for c in command], cwd=cwd, env=env)
    if check and code:
        sys.exit(
            f"This failed with exit code {code}: {' '.join(str(c) for c in command)}"
        )
    return code


def pytest(*args) -> int:
    return run(PYTHON, "-m", "pytest", *args, check=False, env=quiet_threads())


def tracked(*patterns) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True
    )
    return [
        name for name in listed.stdout.split("\n") if name and (ROOT / name).exists()
    ]


def quiet_threads() -> dict:
    """One thread per process: two torch threads on a busy two-core machine can be many times slower."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    env["BABYGPT_COURSE_PROGRESS"] = "off"  # running the notebooks is nobody's progress
    beside = (
        ROOT.parent / "shared" / "data"
    )  # a folder of downloads beside the checkout stands in for the network
    if "BABYGPT_COURSE_DATA" not in env and beside.is_dir():
        env["BABYGPT_COURSE_DATA"] = str(beside)
    return env


def fingerprint(*paths) -> str:
    """A hash of files and folders, by name and content."""
    digest = hashlib.sha256(sys.version.encode())
    for path in paths:
        files = (
            [path]
            if path.is_file()
            else sorted(p for p in path.rglob("*") if p.is_file())
        )
        for file in files:
            if "__pycache__" in file.parts or ".egg-info" in str(file):
                continue
            digest.update(
                str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0"
            )
    return digest.hexdigest()


def environment() -> None:
    """Make or update .venv when what it must hold has changed."""
    if sys.version_info < (3, 11):
        sys.exit(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Try: python3.11 tasks.py ..."
        )
    stamp = VENV / ".fingerprint"
    import tomllib  # of pyproject.toml only the dependencies matter, not the settings of tools

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = fingerprint(ROOT / "requirements.txt", ROOT / "constraints.txt")
    wanted = hashlib.sha256(f"{pins} {project}".encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(
        "Making the environment in .venv (the first time this takes a minute or more) ...",
        flush=True,
    )
    try:
        import venv

        venv.create(VENV, with_pip=True, clear=True)
    except (ImportError, subprocess.CalledProcessError):
        sys.exit(
            "Python cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv"
        )
    run(PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    run(
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--progress-bar",
        "on",
        "-r",
        ROOT / "requirements.txt",
    )
    stamp.write_text(wanted)


def fresh_cache() -> None:
    """Outputs are cached by notebook; a changed package drops them all."""
    stamp = BUILD / ".package"
    wanted = fingerprint(
        ROOT / "src", ROOT / "constraints.txt", ROOT / "pyproject.toml"
    )
    if BUILD.exists() and not (stamp.exists() and stamp.read_text() == wanted):
        print(
            "The package changed since the last build: every notebook is run again.",
            flush=True,
        )
        shutil.rmtree(BUILD)
    live = BUILD / "live"  # the numbers of the live figures; the build copies them
    live.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)


def building() -> dict:
    """The environment in which the notebooks of the book run."""
    return quiet_threads() | {
        "BABYGPT_COURSE_STATIC": str(BUILD / "live"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }


def build_book() -> None:
    """Run the notebooks that are not in the cache, then build with warnings as errors."""
    fresh_cache()
    if run(PYTHON, "-m", "tools.execute", check=False, env=building()):
        sys.exit(
            "A notebook failed: the text above names it and the cell. Mend it and run again."
        )
    code = run(
        BIN / "jupyter-book",
        "build",
        "-W",
        "-n",
        "--keep-going",
        "-q",
        ".",
        env=building(),
        check=False,
    )
    if code:
        sys.exit(
            "The book did not build: each WARNING or ERROR above names a file and a line. Mend it and run again."
        )


def chromium() -> None:
    """Make sure there is a Chromium for the browser tests, or say how to get one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if os.environ.get("BABYGPT_COURSE_CHROMIUM") or any(shutil.which(n) for n in names):
        return
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        print("Installing Debian's Chromium for the browser tests ...", flush=True)
        run("apt-get", "update", "-qq", check=False)
        if (
            run(
                "apt-get",
                "install",
                "-y",
                "-qq",
                "chromium",
                "fonts-dejavu-core",
                check=False,
            )
            == 0
        ):
            return
    print(
        "\n!!! No Chromium: the browser tests will be SKIPPED. Install it (Debian: apt-get install chromium),\n"
        "!!! or set BABYGPT_COURSE_CHROMIUM to its path.\n",
        flush=True,
    )


def main() -> None:
    name, *args = sys.argv[1:] or ["help"]
    if name not in COMMANDS:
        print(f"Unknown command {name!r}.\n")
        help()
        sys.exit(2)
    os.chdir(ROOT)
    COMMANDS[name](*args)


if __name__ == "__main__":
    main()

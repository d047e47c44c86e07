"""The figures' JavaScript: equal to PyTorch in float64, able to notice faults, bundled and small."""

import gzip
import hashlib
import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.figures import write

ROOT = Path(__file__).resolve().parent.parent
FIGURES, STATIC = ROOT / "figures", ROOT / "src" / "babygpt_course" / "static"
BUNDLES = sorted(STATIC.glob("*.js"))
KILOBYTE = 1024


NAMES = sorted(
    f.stem for f in (ROOT / "tests" / "figures").glob("*.py") if f.stem != "__init__"
)
MODULES = {name: importlib.import_module(f"tests.figures.{name}") for name in NAMES}
FAULTS = {
    f"{name}: {what}": fault
    for name, module in MODULES.items()
    for what, fault in module.FAULTS.items()
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Path:
    """A folder with <name>.json for each file in tests/figures: what PyTorch says in float64."""
    folder = tmp_path_factory.mktemp("golden")
    for name, module in MODULES.items():
        write(module.golden(), folder / f"{name}.json")
    return folder


def node() -> str:
    """Node from the PATH, or the one that Playwright brings."""
    if found := shutil.which("node"):
        return found
    driver = pytest.importorskip(
        "playwright._impl._driver",
        reason="NO NODE: the figures' arithmetic was not tested",
    )
    return driver.compute_driver_executable()[0]


def run_suite(
    golden: Path, *names: str, runtime: Path = FIGURES / "runtime"
) -> subprocess.CompletedProcess:
    """All tests of the runtime, or those of the named modules, in one process of Node."""
    env = {**os.environ, "GOLDEN": str(golden), "RUNTIME": str(runtime)}
    command = [node(), "--test-reporter=spec", str(FIGURES / "tests" / "run.mjs")]
    return subprocess.run([*command, *names], env=env, capture_output=True, text=True)


def test_arithmetic_agrees_with_pytorch(golden):
    ran = run_suite(golden)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert int(re.search(r"pass (\d+)", ran.stdout)[1]) > 60


def test_every_module_has_its_two_files():
    tests = {
        f.name.removesuffix(".test.mjs") for f in (FIGURES / "tests").glob("*.test.mjs")
    }
    assert tests == set(NAMES), "figures/tests and tests/figures name the same modules"
    tested = {file.removesuffix(".mjs") for file, _, _ in FAULTS.values()}
    assert tested == {f.stem for f in (FIGURES / "runtime").glob("*.mjs")}, (
        "each file of the runtime has a planted fault"
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_the_suite(fault, golden, tmp_path):
    file, right, wrong = FAULTS[fault]
    runtime = shutil.copytree(FIGURES / "runtime", tmp_path / "runtime")
    source = (runtime / file).read_text()
    assert source.count(right) == 1, (
        f"{file} no longer holds {right!r}: mend this fault."
    )
    (runtime / file).write_text(source.replace(right, wrong))
    ran = run_suite(golden, fault.split(":")[0], runtime=runtime)
    assert ran.returncode != 0 and "AssertionError" in ran.stdout + ran.stderr, (
        f"nothing noticed: {fault}"
    )


def test_every_figure_is_bundled():
    assert [b.stem for b in BUNDLES] == sorted(
        f.stem for f in FIGURES.glob("*.mjs") if f.stem != "build"
    )


@pytest.mark.parametrize(
    "file", [*BUNDLES, STATIC / "live-figure.css"], ids=lambda f: f.name
)
def test_bundle_is_not_stale(file):
    stamp = re.match(
        r"/\* sha256 (\w{64}) of ([^;]+);", file.read_text(encoding="utf-8")
    )
    digest = hashlib.sha256()
    for source in stamp[2].split():
        text = (FIGURES / source).read_text(encoding="utf-8")
        digest.update(f"{source}\0{text}\0".encode())
    assert digest.hexdigest() == stamp[1], (
        f"{file.name} is older than its sources: run `make figures`."
    )


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda f: f.name)
def test_bundle_is_small_and_stays_at_home(bundle):
    code = bundle.read_bytes()
    assert len(gzip.compress(code)) <= 30 * KILOBYTE
    assert set(re.findall(rb"https?://[\w./]+", code)) <= {
        b"http://www.w3.org/2000/svg"
    }

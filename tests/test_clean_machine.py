"""The setup cell on a machine like Colab's: torch, numpy and matplotlib are there, the course is not."""

import os
import subprocess
import sys
import venv

import pytest
import torch

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
code = [c for c in notebook.cells if c.cell_type == "code"]
print("".join(o.get("text", "") for c in code for o in c.outputs))
"""
TORCH = """
import torch, os
print(torch.__version__, os.stat(torch.__file__).st_mtime_ns, torch.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(out),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    (file,) = out.glob("babygpt_course-*.whl")
    return file


def test_wheel_carries_its_data(wheel):
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ["tinytales.toml", "bigram.js", "running.json", "exercises/ex01"]:
        assert any(wanted in name for name in names), f"{wanted} is not in the wheel"


def test_setup_cell_installs_the_course_and_keeps_torch(wheel, tmp_path):
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    ours = torch.__version__.split("+")[0]
    have = [f"torch=={ours}", "numpy", "matplotlib", "ipykernel", "nbclient"]
    subprocess.run([python, "-m", "pip", "install", "-q", *have], check=True)
    before = subprocess.run(
        [python, "-c", TORCH], capture_output=True, text=True, check=True
    ).stdout
    absent = subprocess.run(
        [python, "-c", "import babygpt_course"], capture_output=True
    )
    assert absent.returncode != 0

    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYTHON", "BABYGPT", "VIRTUAL"))
    }
    env |= {
        "BABYGPT_COURSE_SOURCE": str(wheel),
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
    }
    notebook = ROOT / "chapters" / "01_bigram.ipynb"
    for _ in range(2):  # the second time the course is there already
        run = subprocess.run(
            [python, "-c", RUN, str(notebook)],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr[-2000:]
    assert "babygpt-course" in run.stdout and "counted:" in run.stdout
    after = subprocess.run(
        [python, "-c", TORCH], capture_output=True, text=True, check=True
    ).stdout
    assert after == before, "the setup cell must leave the torch that is there"

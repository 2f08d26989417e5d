"""`pysandpool bench`, its tier, and `--plot FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pysandpool import NamespaceDegradation, SandboxConfig
from pysandpool.cli.main import main


def test_where_namespaces_are_refused_the_figures_are_those_of_the_tier_that_was_allowed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYSANDPOOL_TIER", "landlock")
    defaults = SandboxConfig.__init__.__kwdefaults__  # also where full_tier.py allows the tier
    assert defaults is not None
    monkeypatch.setitem(defaults, "namespace_degradation", NamespaceDegradation.FAIL_CLOSED)
    asked = ["bench", "--iterations", "3", "--pool-size", "2"]
    assert main(asked) == 125
    assert "--allow-degradation" in capfd.readouterr().err
    assert main([*asked, "--allow-degradation"]) == 0
    assert capfd.readouterr().out.startswith("pool_size=2 iterations=3 tier=landlock\n")


def test_a_plot_is_drawn_beside_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "latency.svg"
    assert main(["bench", "--iterations", "3", "--pool-size", "2", "--json", "--plot", str(plot)]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 3
    text = plot.read_text(encoding="utf-8")
    assert "<svg" in text
    names = ["hot acquire", "cold acquire", "subprocess.run, no sandbox", "pool.run_code", "python -c, no sandbox"]
    assert [name for name in names if f"<!-- {name} -->" not in text] == []


def test_a_plot_without_an_interpreter_has_no_curve_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/true")
    assert main(["bench", "--iterations", "3", "--plot", str(tmp_path / "latency.svg")]) == 0
    text = (tmp_path / "latency.svg").read_text(encoding="utf-8")
    assert ("<!-- hot acquire -->" in text, "run_code" in text) == (True, False)


@pytest.mark.parametrize(
    ("name", "fix"),
    [("latency.nonsense", "the name must end in one of"), ("absent/latency.png", "there is no directory")],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_measurement(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, fix: str
) -> None:
    assert main(["bench", "--iterations", "3", "--plot", str(tmp_path / name)]) == 125
    told = capfd.readouterr()
    assert fix in told.err
    assert (told.out, list(tmp_path.iterdir())) == ("", [])


def test_without_matplotlib_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert main(["bench", "--plot", str(tmp_path / "latency.png")]) == 125
    assert "pip install 'pysandpool[plot]'" in capfd.readouterr().err

"""Which modules of the package may use which, read from their syntax; and what the import of another build refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from planted import planted
from python_house import COMPILED, PACKAGE, House, breaches, unlisted

ROOT = Path(__file__).resolve().parents[2]


def test_each_module_uses_only_what_it_may() -> None:
    assert list(breaches(ROOT / PACKAGE)) == []


def test_each_module_has_its_place() -> None:
    assert list(unlisted(ROOT / PACKAGE)) == []


def test_the_reader_sees_the_tree() -> None:
    modules = House(ROOT / PACKAGE).modules
    assert {"_core", "_core_hot", "_errors"} <= modules["_ffi"].uses
    assert {"_ffi", "_pool.core", "_execute.run"} <= modules["_pool.lease"].uses
    assert ("_pool.core", "open_core") in modules["_pool.pool"].taken


SOUND = {
    "__init__.py": "from pysandpool._pool.core import x\nx.__module__ = 'pysandpool'\n",
    "__main__.py": "from pysandpool.cli.main import main\n",
    "_errors.py": "import os\nx = 1\nif TYPE_CHECKING:\n    from pysandpool._pool.core import x\n",
    "_config/__init__.py": "",
    "_config/fields.py": "from dataclasses import dataclass\ny = 1\n",
    "_config/sandbox.py": "from pysandpool._config.fields import y\nfrom pysandpool._errors import x as z\nx = 1\n",
    "_ffi.py": "from pysandpool import _core\nfrom pysandpool._core_hot import lib\nlib, ffi = _core.lib, 1\n",
    "_backend/__init__.py": "",
    "_backend/hints.py": "from pysandpool._ffi import lib\ndef hint_for(): pass\n",
    "_backend/linux.py": "from . import hints\nfrom .hints import hint_for\nhints.hint_for()\nclass x: pass\n",
    "_execute/__init__.py": "",
    "_execute/run.py": "import pysandpool._ffi as f\nf.lib.sp_acquire\nx = 1\n",
    "_pool/__init__.py": "",
    "_pool/stats.py": "from dataclasses import dataclass\n",
    "_pool/core.py": "from pysandpool._backend import linux\nx = linux.x\nlog = 1\nlog.getLogger('pysandpool')\n",
    "_pool/lease.py": "from pysandpool._pool.core import x\nfrom pysandpool._execute.run import x as z\ny = z\n",
    "_pool/pool.py": "from pysandpool._pool.lease import y as own\nx = own.modules\n",
    "cli/__init__.py": "",
    "cli/main.py": "from pysandpool._pool.core import x\nmain = x\n",
}

NOT_ITS_OWN = "which does not define it"
BREACHES = [
    # an import, wherever it stands and however it is written
    ("_errors.py", "from pysandpool._config.sandbox import x", "_errors uses _config.sandbox"),
    ("_errors.py", "if x:\n    from ._pool import core", "_errors uses _pool.core"),
    ("_pool/stats.py", "def f():\n    from pysandpool._errors import x", "_pool.stats uses _errors"),
    ("_config/sandbox.py", "import pysandpool._ffi", "_config.sandbox uses _ffi"),
    ("_config/sandbox.py", "from ..cli.main import main", "_config.sandbox uses cli.main"),
    ("_ffi.py", "from pysandpool._config.sandbox import x", "_ffi uses _config.sandbox"),
    ("_ffi.py", "from pysandpool._backend.hints import hint_for", "_ffi uses _backend.hints"),
    ("_backend/hints.py", "from pysandpool._execute.run import x", "_backend.hints uses _execute.run"),
    ("_execute/run.py", "from pysandpool._backend.linux import x", "_execute.run uses _backend.linux"),
    ("_execute/run.py", "from pysandpool._pool.core import x", "_execute.run uses _pool.core"),
    ("_pool/core.py", "from pysandpool.cli.main import main", "_pool.core uses cli.main"),
    ("_pool/core.py", "import pysandpool", "_pool.core uses __init__"),
    ("cli/main.py", "from pysandpool import __main__", "cli.main uses __main__"),
    ("__main__.py", "from pysandpool._pool.core import x", "__main__ uses _pool.core"),
    # upwards inside one folder, or sideways
    ("_pool/core.py", "from pysandpool._pool.lease import y", "_pool.core uses _pool.lease"),
    ("_pool/lease.py", "from . import pool", "_pool.lease uses _pool.pool"),
    ("_config/fields.py", "from .sandbox import x", "_config.fields uses _config.sandbox"),
    ("_backend/hints.py", "from pysandpool._backend.linux import x", "_backend.hints uses _backend.linux"),
    # the compiled modules
    ("_pool/core.py", "from pysandpool._core import lib", "_pool.core uses _core"),
    ("_pool/core.py", "from .._core_hot import lib", "_pool.core uses _core_hot"),
    # a use without an import of its own: through an attribute chain, or through a module that has imported the name
    ("_execute/run.py", "f._core", f"_execute.run takes _core from _ffi, {NOT_ITS_OWN}"),
    ("_pool/core.py", "linux.hints", f"_pool.core takes hints from _backend.linux, {NOT_ITS_OWN}"),
    ("_pool/core.py", "linux.hint_for()", f"_pool.core takes hint_for from _backend.linux, {NOT_ITS_OWN}"),
    (
        "_pool/core.py",
        "getattr(linux, 'hint_for')",
        f"_pool.core takes hint_for from _backend.linux, {NOT_ITS_OWN}",
    ),
    (
        "cli/main.py",
        "from pysandpool._pool.core import linux",
        f"cli.main takes linux from _pool.core, {NOT_ITS_OWN}",
    ),
    ("cli/main.py", "import pysandpool._errors\npysandpool.x", "cli.main uses __init__"),
    ("_backend/linux.py", "import pysandpool._ffi\npysandpool._pool.core.x", "_backend.linux uses _pool.core"),
    # what a reader of imports cannot follow
    ("_backend/linux.py", "importlib.import_module('pysandpool._pool.core')", "_backend.linux uses _pool.core"),
    ("_pool/core.py", "import_module('pysandpool._core')", "_pool.core uses _core"),
    ("_pool/core.py", "import_module('pysandpool._' + 'core')", "_pool.core imports by a computed name"),
    ("_pool/core.py", "import_module('.cli', 'pysandpool')", "_pool.core imports .cli by its name"),
    ("_pool/core.py", "__import__('pysandpool')", "_pool.core imports pysandpool by its name"),
    ("_pool/core.py", "import sys\nsys.modules['x']", "_pool.core looks into sys.modules"),
    ("_pool/core.py", "from pysandpool._ffi import *", "_pool.core imports * from _ffi"),
    ("_pool/core.py", "getattr(linux, name)", "_pool.core reads a computed name of _backend.linux"),
    ("_pool/core.py", "exec('import ' + x)", "_pool.core calls exec"),
]


@pytest.mark.parametrize(("name", "line", "breach"), BREACHES)
def test_a_planted_use_is_seen(tmp_path: Path, name: str, line: str, breach: str) -> None:
    package = planted(tmp_path, SOUND)
    assert list(breaches(package)) == []
    planted(package, {name: f"{SOUND[name]}{line}\n"})
    assert list(breaches(package)) == [breach]


def test_a_planted_module_without_a_place_is_seen(tmp_path: Path) -> None:
    package = planted(tmp_path, {"_pool/__init__.py": "", "_pool/helper.py": ""})
    assert "_pool.helper" in list(unlisted(package))


def test_abi_mismatch_names_both_numbers() -> None:
    from pysandpool._ffi import check_abi

    check_abi(41, 41, "pysandpool._core")
    with pytest.raises(ImportError, match=r"pysandpool\._core\b") as refused:
        check_abi(7, 41, "pysandpool._core")
    assert re.search(r"\b7\b", str(refused.value))
    assert re.search(r"\b41\b", str(refused.value))


# A package without its __init__, in which one compiled module answers sp_abi() with another number.
IMPORT_WITH_WRONG_ABI = """
import importlib, importlib.util, sys, types
name = sys.argv[1]
package = types.ModuleType("pysandpool")
package.__path__ = importlib.util.find_spec("pysandpool").submodule_search_locations
sys.modules["pysandpool"] = package
real = importlib.import_module("pysandpool." + name)

class Lib:
    def sp_abi(self):
        return 9999
    def __getattr__(self, attribute):
        return getattr(real.lib, attribute)

fake = types.ModuleType(real.__name__)
fake.ffi, fake.lib = real.ffi, Lib()
sys.modules[real.__name__] = fake
setattr(package, name, fake)
expected = real.lib.sp_abi()
try:
    importlib.import_module("pysandpool._ffi")
except ImportError as error:
    assert "9999" in str(error) and str(expected) in str(error), error
    assert name in str(error), error
    print("refused")
"""


@pytest.mark.parametrize("name", COMPILED)
def test_import_refuses_another_abi(name: str, tmp_path: Path) -> None:
    script = tmp_path / "wrong_abi.py"
    script.write_text(IMPORT_WITH_WRONG_ABI, encoding="utf-8")
    done = subprocess.run([sys.executable, script, name], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("refused", 0), done.stderr


def test_which_module_keeps_the_gil() -> None:
    """Releasing it is a call of PyEval_SaveThread: the hot module does not even refer to it."""
    from pysandpool import _core, _core_hot

    gives_up = {
        module.__name__: b"PyEval_SaveThread" in Path(str(module.__file__)).read_bytes()
        for module in (_core, _core_hot)
    }
    assert gives_up == {"pysandpool._core": True, "pysandpool._core_hot": False}


def test_importing_it_loads_no_asyncio() -> None:
    """It would take longer than all of the package, also for programs that have no event loop."""
    program = (
        "import sys, pysandpool; print([name for name in ('asyncio', 'anyio', 'ssl', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""Which module may import which, read from the sources; and what `import infae` brings in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("infae", "distillcf", "experiments")
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(node):
    """Absolute names that an import statement may load: `from a import b` may load a and a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports in this project are absolute"
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def all_imports(module):
    """Every name imported anywhere in a module, inside functions too."""
    return {name for node in ast.walk(ast.parse(SOURCES[module].read_text())) for name in imported(node)}


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_on_load(module):
    """Modules of this project that a module imports while it is loaded."""
    pending, found = list(ast.parse(SOURCES[module].read_text()).body), set()
    while pending:
        node = pending.pop()
        if is_type_checking(node) or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        names = [name for name in imported(node) if name in SOURCES]
        # `from infae.data import splits` needs the submodule; `from infae.data import Split` the package.
        found |= {name for name in names if not any(other.startswith(f"{name}.") for other in names)}
        pending.extend(ast.iter_child_nodes(node))
    return found


def within(name, package):
    return name == package or name.startswith(f"{package}.")


def offenders(importers, forbidden):
    return [
        (module, name)
        for module in SOURCES
        for name in all_imports(module)
        if any(within(module, p) for p in importers) and any(within(name, p) for p in forbidden)
    ]


@pytest.mark.parametrize(
    ("importers", "forbidden"),
    [
        (["infae"], ["distillcf", "experiments"]),
        (["distillcf"], ["experiments"]),
        (["infae"], ["torch"]),
        (["infae", "distillcf"], ["tensorflow", "sklearn", "tests"]),
        (PACKAGES, ["tensorflow", "tf2jax"]),
        (["experiments"], ["neural_tangents"]),
    ],
)
def test_packages_import_in_one_direction(importers, forbidden):
    assert all(any(within(module, package) for module in SOURCES) for package in importers)
    assert offenders(importers, forbidden) == []


def test_one_file_names_neural_tangents():
    library = {module: path for module, path in SOURCES.items() if not within(module, "experiments")}
    naming = [module for module, path in library.items() if "neural_tangents" in path.read_text()]
    assert naming == ["infae.kernels.stax"]


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: imports_on_load(module) for module in SOURCES}
    assert graph["infae.model"] >= {"infae.ranking.evaluate", "infae.solvers.exact"}
    while leaves := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert graph == {}


def test_the_library_leaves_the_configuration_of_jax_alone():
    assert [module for module, path in SOURCES.items() if "config.update" in path.read_text()] == []


def test_importing_infae_brings_in_no_more_than_it_needs():
    code = """
import sys, jax
before = dict(jax.config.values)
import infae, distillcf
heavy = ("tensorflow", "tf2jax", "torch", "matplotlib", "sklearn", "pandas", "h5py", "pyarrow", "neural_tangents")
print([m for m in heavy if m in sys.modules], {k for k, v in jax.config.values.items() if v != before.get(k, v)})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[] set()"
    assert done.stderr == ""


def test_public_names_exist():
    import infae

    for module in (infae, infae.data, infae.kernels, infae.solvers):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []

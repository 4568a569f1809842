"""The shape of the code: who may import whom, where imports stand, and how long a file may be."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"errors", "quiet"},
    {
        "",
        "config",
        "batch",
        "draws",
        "schedule",
        "files",
        "host_memory",
        "out_of_memory",
        "precision",
        "sharding",
        "signals",
        "yaml_files",
    },
    {"betas", "noise_lint", "residuals", "ema", "optim", "images", "metrics", "shares", "figures"},
    {"objective", "rounding"},
    {"flow_matching"},
    {"task"},
    {"models", "data"},
    {"pipelines", "cache"},
    {"tasks"},
    {"run"},
    {"loader", "checkpoint", "pieces"},
    {"update"},
    {"fused_loop"},
    {"loop"},
    {"hooks"},
    {"card", "export", "publish"},
    {"adversarial"},
    {"cli"},
    {"recipes", "world"},
    {"forecast"},
    {"__main__"},
]
"""What a file may import lies above it, or in its own folder; `` is the package itself."""
HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}
OPTIONAL = {"wandb", "xformers", "bitsandbytes", "prodigyopt"}
SLOW = {"toolkit.data.arrow", "matplotlib.figure", "matplotlib.axes"}
"""What takes long to import and is of use to some runs only."""
EVAL_MAY_IMPORT = {
    "batch",
    "cli",
    "config",
    "data",
    "draws",
    "errors",
    "files",
    "images",
    "metrics",
    "models",
    "quiet",
    "shares",
    "yaml_files",
}
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("toolkit", "eval", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in TREES}


def imported(tree: ast.AST) -> set[str]:
    """The modules that code imports; a name taken from a package may be a module of it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & NAMES.keys()
            found |= inner or {str(node.module)}
    return found


def part(module: str) -> str:
    return [*module.split("."), ""][1]


def test_every_file_has_a_layer() -> None:
    parts = {part(name) for name in NAMES if name.split(".")[0] == "toolkit"}
    assert parts - HEIGHT.keys() == set()
    assert len(parts) > 10


def test_a_file_imports_only_from_lower_layers_or_its_own_folder() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, path in NAMES.items()
        for other in imported(TREES[path])
        if name.startswith("toolkit") and other.split(".")[0] == "toolkit"
        if part(other) != part(name) and HEIGHT[part(other)] >= HEIGHT[part(name)]
    ]
    assert wrong == []


def test_no_two_files_need_each_other() -> None:
    graph = {name: imported(TREES[path]) & NAMES.keys() - {name} for name, path in NAMES.items()}
    assert set(TopologicalSorter(graph).static_order()) == NAMES.keys()


def test_training_and_evaluation_stay_apart() -> None:
    wrong = []
    for name, path in NAMES.items():
        for other in imported(TREES[path]):
            top, inner = other.split(".")[0], part(other)
            knows_experiments = top == "experiments" and not name.startswith("experiments")
            if (
                knows_experiments
                or (name.startswith("toolkit") and top == "eval")
                or (name.startswith("eval") and top == "toolkit" and inner not in EVAL_MAY_IMPORT)
            ):
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_only_what_is_optional_or_slow_is_imported_inside_functions() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {module}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for module in imported(node)
        if module.split(".")[0] not in OPTIONAL and not any(module.startswith(slow) for slow in SLOW)
    ]
    assert wrong == []


def test_no_file_is_longer_than_350_lines() -> None:
    files = [*TREES, *ROOT.glob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 350} == {}

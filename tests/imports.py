"""Which modules a package has, and what a file imports, read from the source without running it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules_of(package: str) -> dict[str, Path]:
    """Return the file of every module in a package of ours, by dotted name; subpackages are included."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    assert len(found) > 1, f"{package}/ has no modules to check"
    return found


def imports_in(source: str, module: str = "x", is_package: bool = False) -> set[str]:
    """Return the dotted names that a file imports anywhere: `from a import b` as a.b, relative ones resolved."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            parents = parents[: len(parents) - (node.level - is_package)] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def is_within(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of these modules or stands in one of them."""
    return any(name == module or name.startswith(module + ".") for module in modules)

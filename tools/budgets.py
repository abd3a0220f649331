"""Watch the size budgets of the style guide: files over 400 lines and functions over 100 fail, the rest warns."""

import ast
import statistics
import sys
from pathlib import Path

FILE_LIMIT, FUNCTION_LIMIT = 400, 100
FUNCTION_AIM = 60


def functions(tree: ast.AST) -> list[tuple[str, int, int]]:
    """(name, line, length in lines) of each function."""
    return [
        (node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def main() -> int:
    failures, warnings, lengths = [], [], []
    for path in sorted(Path("src").rglob("*.py")):
        text = path.read_text()
        lines = text.count("\n")
        if lines > FILE_LIMIT:
            failures.append(f"{path}: {lines} lines, the limit is {FILE_LIMIT}")
        for name, line, length in functions(ast.parse(text)):
            lengths.append(length)
            if length > FUNCTION_LIMIT:
                failures.append(f"{path}:{line}: {name} has {length} lines, the limit is {FUNCTION_LIMIT}")
            elif length > FUNCTION_AIM:
                warnings.append(f"{path}:{line}: {name} has {length} lines, the aim is {FUNCTION_AIM}")
    ordered = sorted(lengths)
    ninetieth = ordered[int(len(ordered) * 0.9)] if ordered else 0
    for warning in warnings:
        print(f"warning: {warning}")
    for failure in failures:
        print(f"error: {failure}")
    print(f"{len(lengths)} functions, median {statistics.median(lengths or [0]):.0f} lines, 90 % under {ninetieth + 1}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

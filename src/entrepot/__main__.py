"""`entrepot` and `python -m entrepot`. Imports nothing until it runs: workers start by importing this module."""

import sys


def main() -> None:
    from entrepot.cli.main import run

    try:
        run()
    except SystemExit as end:
        if "obstore" in sys.modules and isinstance(end.code, int | None):
            from entrepot.cli.ending import end_now

            end_now(end.code or 0)
        raise


if __name__ == "__main__":
    main()

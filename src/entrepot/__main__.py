"""`entrepot` and `python -m entrepot`. Imports nothing until it runs: workers start by importing this module."""


def main() -> None:
    from entrepot.cli.main import run

    run()


if __name__ == "__main__":
    main()

"""The command line `bus-mlops`: a file for each group of commands."""


def main() -> None:
    """Entry point of the command `bus-mlops`."""
    from bus_mlops.environment import quiet

    quiet()
    from bus_mlops.cli.app import main as run

    run()

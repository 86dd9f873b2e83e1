"""The command line: ``freehold <command>``.

Each module of this package whose name does not begin with ``_`` is a sub-command: it has a
``command``, a `click.Command`, and imports nothing heavy until that runs, so that ``--help`` stays
quick. This module finds them and decides what an error, a Ctrl-C and an exit code look like; what a
command does is its own module's business.

Exit codes: 0 done; 1 it failed, or a validation found the data invalid; 2 wrong usage; 130
interrupted (Ctrl-C); 143 terminated.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

INTERRUPTED = 130


class CommandFolder(click.Group):
    """A group whose commands are the modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names, sorted."""
        names = (module.name for module in pkgutil.iter_modules(__path__))
        return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command


@click.command(
    cls=CommandFolder,
    name="freehold",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command explains itself with examples: freehold sort --help",
)
@click.version_option(package_name="freehold", message="freehold %(version)s")
def root() -> None:
    """Distributed futures for Python: tasks, actors and objects, and what is built on them.

    \b
    See it work on this machine:
        freehold sort --demo
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: the entry point of ``freehold``.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    >>> run(["sort", "--partitions", "none"])
    2
    """
    from freehold.errors import FreeholdError

    given = None if arguments is None else list(arguments)
    try:
        result = root.main(given, prog_name="freehold", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say_error("interrupted")
        return INTERRUPTED
    except (FreeholdError, OSError) as error:
        _say_error(str(error) or type(error).__name__)
        return 1
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("numpy", "pyarrow", "fsspec"):
            raise
        how = f"run pip install {error.name}, or install Freehold as pip install '.[data]'"
        _say_error(f"this command needs {error.name}: {how}")
        return 1
    return result if isinstance(result, int) else 0


def _say_error(message: str) -> None:
    click.echo(f"{click.style('error', fg='red', bold=True)}: {message}", err=True)

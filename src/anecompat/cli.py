"""The command line: arguments in, exit code out.

    anecompat MODEL [LOGDIR]          the historic form: anecompat check MODEL --log-dir LOGDIR
    anecompat check MODEL...          predict, on any machine
    anecompat measure MODEL [LOGDIR]  run it on this device and see (Apple silicon)
    anecompat compare MODEL TRACE     prediction beside measurement
    anecompat chips | ops | rule      what is known, with sources

Exit codes are the statuses (0 to 8); 64 is a usage error, 130 an interrupt.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import io
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from anecompat import __version__
from anecompat.device_cli import add_commands
from anecompat.errors import AnecompatError, UsageError

USAGE, INTERRUPTED, OTHER = 64, 130, 7
COMMANDS = ("check", "measure", "compare", "probe", "chips", "ops", "rule", "help")


class _Parser(argparse.ArgumentParser):
    """argparse with this tool's exit code for usage errors."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """The whole command line, also read by the documentation's generator."""
    root = _Parser(
        prog="anecompat",
        description="Does a Core ML model run on the Apple Neural Engine: end to end or in which segments, on which "
        "chips, why not, and what to change?",
        epilog="The historic form `anecompat MODEL [LOGDIR]` means `anecompat check MODEL --log-dir LOGDIR`. A model "
        "whose path is spelled like a command is written ./check. Exit codes: 0 fully compatible, 1 partial, 2 not "
        "compatible, 3 read error, 4 to 7 other errors, 8 cannot tell, 64 usage, 130 interrupted.",
    )
    root.add_argument("--version", action="version", version=f"anecompat {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    check = commands.add_parser(
        "check",
        help="predict what runs on the Neural Engine, on any machine",
        description="Predict, operation by operation, what of a model runs on the Neural Engine, where not, and why.",
    )
    check.add_argument("models", nargs="+", metavar="MODEL", help=".mlpackage, .mlmodel, .mlmodelc, .mil, or a zip")
    check.add_argument(
        "--target", action="append", metavar="CHIP[@OS]", default=None,
        help="a chip (M1, m1-pro, a17pro), an engine generation (h13) or all; @macos14, @ios18 pin the system; "
        "repeated or comma-separated",
    )  # fmt: skip
    check.add_argument("--compute-units", default=None, metavar="UNITS",
                       help="cpu-and-ne (the default; predictions know no costs of the GPU) or all")  # fmt: skip
    check.add_argument("--format", default="text", choices=("text", "json"), help="text (the default) or json")
    check.add_argument("--indent", action="store_true", help="indent the JSON for people")
    check.add_argument("--output", metavar="FILE", help="write the answer to a file instead of standard output")
    check.add_argument("--log-dir", metavar="LOGDIR", help="a folder that receives report.txt and report.json")
    check.add_argument("--function", metavar="NAME", help="judge one of several functions only")
    check.add_argument("--shape", action="append", default=[], metavar="INPUT=1x3x640x640",
                       help="fix the shape of a flexible input; repeated")  # fmt: skip
    check.add_argument("--verify-weights", action="store_true", help="check that every weight lies inside its file")
    check.add_argument("--quiet", action="store_true", help="print the closing line only")

    check.add_argument("--trace", metavar="TRACE", help="show this measurement (trace.json, analytics.mil) instead")
    check.add_argument("--measure", default="never", choices=("auto", "always", "never"),
                       help="measure on this device; the historic form does auto, check never")  # fmt: skip

    add_commands(lambda name, **words: commands.add_parser(name, **words))

    chips = commands.add_parser("chips", help="the chips, their engines and systems", description="The chips known.")
    chips.add_argument("chip", nargs="?", metavar="CHIP")
    ops = commands.add_parser("ops", help="what is known of each operation", description="What is known of operations.")
    ops.add_argument("operation", nargs="?", metavar="OP")
    rules = commands.add_parser("rule", help="the rules and their pages", description="The rules, or one rule's page.")
    rules.add_argument("rule", nargs="?", metavar="ID")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. Never raises for bad input; prints one sentence instead."""
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        _complain(str(error))
        return USAGE
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing more to say, and Python must not complain while it exits.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # a bug must never look like a clean model
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _complain(f"the answer could not be written: {error.strerror}; make room and run it again")
            return OTHER
        if os.environ.get("ANECOMPAT_DEBUG"):
            raise
        _complain(f"internal error, please report it: {type(error).__name__}: {error} (ANECOMPAT_DEBUG=1 shows where)")
        return OTHER


def run() -> NoReturn:
    """The console script."""
    if sys.stdout is None:  # closed by the shell: >&-
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character (or a file name that is no text) must not end the answer.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())


def _main(arguments: list[str]) -> int:
    arguments = historic(arguments)
    if not arguments or arguments[0] == "help":
        parser().print_help(sys.stdout if arguments else sys.stderr)
        return 0 if arguments else USAGE
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:  # --help and --version end here
        return int(stop.code or 0)
    if options.command == "check":
        return _check(options)
    if options.command in ("chips", "ops", "rule"):
        return _knowledge(options)
    if options.command in ("measure", "compare", "probe"):
        return _device(options)
    parser().print_help(sys.stderr)
    return USAGE


def historic(arguments: list[str]) -> list[str]:
    """Turn `MODEL [LOGDIR] [options]` into `check MODEL --log-dir LOGDIR [options]`."""
    if not arguments or arguments[0] in COMMANDS:
        return arguments
    if arguments[0].startswith("-"):
        if arguments[0] in ("-h", "--help", "--version"):
            return arguments
        raise UsageError(f"{arguments[0]}: options come after the model or the command (see anecompat --help)")
    near = difflib.get_close_matches(arguments[0], COMMANDS, 1, 0.75)
    if near and not os.path.lexists(arguments[0]):
        raise UsageError(f"{arguments[0]}: no such command and no such file; did you mean {near[0]}?")
    rest = arguments[1:]
    positional = []
    while rest and not rest[0].startswith("-"):
        positional.append(rest.pop(0))
    if not positional:
        return ["check", arguments[0], "--measure=auto", *rest]
    if len(positional) > 1 or _looks_like_model(positional[0]):
        raise UsageError(
            f"{positional[0]}: the form `anecompat MODEL [LOGDIR]` takes one model and a folder for logs; "
            "to check several models, write `anecompat check MODEL MODEL ...`"
        )
    return ["check", arguments[0], "--measure=auto", "--log-dir", positional[0], *rest]


def _looks_like_model(text: str) -> bool:
    return text.rstrip("/").lower().endswith((".mlmodel", ".mlpackage", ".mlmodelc", ".mil", ".zip"))


def _complain(message: str) -> None:
    _note(f"anecompat: {message}")


def _shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        parts = dims.lower().replace(",", "x").split("x")
        if not equals or not name or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise UsageError(f"--shape {text}: INPUT=1x3x640x640 was expected, sizes from 1 up")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def _check(options: argparse.Namespace) -> int:
    from anecompat.checking import Report
    from anecompat.findings import Status, worst
    from anecompat.report.words import shown
    from anecompat.targets import parse_targets

    units = (options.compute_units or "cpu-and-ne").lower().replace("_", "-")
    if units not in ("cpu-and-ne", "all"):
        raise UsageError(f"--compute-units {options.compute_units}: cpu-and-ne or all; without the Neural Engine there "
                         "is nothing to predict")  # fmt: skip
    if units == "all" and not options.quiet:
        _note("predictions answer for CPU and Neural Engine: the GPU's costs are not known well enough to compete")
    targets = None if options.target is None else parse_targets(options.target)
    shapes = _shapes(options.shape)
    if _measures(options):
        if len(options.models) > 1:
            raise UsageError("one model is measured at a time; write `anecompat measure MODEL` for each")
        arguments = [
            "measure",
            options.models[0],
            f"--format={options.format}",
            *([options.log_dir] if options.log_dir else []),
        ]
        arguments += [f"--shape={text}" for text in options.shape]
        arguments += [f"--function={options.function}"] if options.function else []
        arguments += [f"--compute-units={options.compute_units}"] if options.compute_units else []
        return _device(parser().parse_args(arguments))
    if options.log_dir and os.path.lexists(options.log_dir) and not os.path.isdir(options.log_dir):
        raise UsageError(f"--log-dir {options.log_dir}: there is a file of that name; a folder was expected")
    statuses: list[Status] = []
    several = len(options.models) > 1
    folders = _folders(options.models) if several else [""]
    with _Answer(options.output) as output:
        for number, path in enumerate(options.models, 1):
            if several and not options.quiet:
                _note(f"[{number}/{len(options.models)}] {path}")
            try:
                report = _report(path, options, targets, shapes)
            except UsageError:
                raise
            except AnecompatError as error:
                report = Report(str(path), None, None, (), targets is not None, error)
            if report.model is not None and not options.quiet:
                for warning in report.model.warnings:
                    _note(f"anecompat: warning: {shown(warning, 400)}")
            statuses.append(report.status)
            _print(report, options, output, first=number == 1)
            if options.log_dir:
                _log(report, Path(options.log_dir), folders[number - 1])
    return int(worst(statuses))


class _Answer:
    """Where the answer goes: standard output, or a file that is opened when there is something to write."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._file: TextIO | None = None
        if path and (os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or ".")):
            raise UsageError(f"--output {path}: a file in a folder that exists was expected")

    @property
    def begun(self) -> bool:
        """Whether a report would stand below others, or stand alone on standard output."""
        return self.path is None or self._file is not None

    def write(self, text: str) -> None:
        if self.path is None:
            sys.stdout.write(text)
            return
        try:
            if self._file is None:
                self._file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
            self._file.write(text)
        except OSError as error:
            raise UsageError(f"--output {self.path}: {error.strerror or error}") from error

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        else:
            sys.stdout.flush()


def _folders(models: Sequence[str]) -> list[str]:
    """A folder name for each of several models: its own name, counted on where two are called the same."""
    names: list[str] = []
    for path in models:
        stem = Path(path if "://" in path else os.path.abspath(path)).stem or "model"
        name, count = stem, 2
        while name in names:
            name, count = f"{stem}-{count}", count + 1
        names.append(name)
    return names


def _report(path: str, options: argparse.Namespace, targets: Any, shapes: dict[str, tuple[int, ...]]) -> Any:
    """Predict; or show what was measured, for a trace or for Core ML's own notes."""
    from anecompat.checking import check_model, load

    if path.endswith(".mil") and not options.trace:
        from anecompat.measured import is_analytics_file

        if is_analytics_file(path):
            from anecompat.device_cli import replay

            return replay(path, None, targets[0] if targets else None)
    model = load(path, function=options.function, shapes=shapes, verify_weights=options.verify_weights)
    if options.trace:
        from anecompat.device_cli import replay

        return replay(options.trace, model, targets[0] if targets else None)
    return check_model(model, targets)


def _measures(options: argparse.Namespace) -> bool:
    if options.measure == "never" or options.trace or options.target:
        return False
    if options.measure == "always":
        return True
    from anecompat.measure.device import available

    return available() is None


def _device(options: argparse.Namespace) -> int:
    from anecompat import device_cli
    from anecompat.checking import load

    width = _width()
    try:
        if options.command == "probe":
            return device_cli.probe(options)
        if options.command == "compare":
            return device_cli.compare_command(options, load, width)
        return device_cli.measure(options, _shapes(options.shape), load, width)
    except UsageError:
        raise
    except AnecompatError as error:
        _complain(str(error))
        return error.status


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def _note(message: str) -> None:
    """One line on standard error; what a file or a path smuggles in is escaped."""
    from anecompat.report.words import shown

    with contextlib.suppress(OSError):
        print(shown(message, 2000), file=sys.stderr, flush=True)


def _print(report: object, options: argparse.Namespace, output: _Answer, *, first: bool) -> None:
    from anecompat.checking import Report
    from anecompat.report.text_report import closing_line, to_text

    assert isinstance(report, Report)
    if report.error is not None:
        _complain(str(report.error))
    if options.format == "json":
        output.write(report.to_json(indent=2 if options.indent else None) + "\n")
        return
    if not first and not options.quiet and output.begun:
        output.write("\n")
    if options.quiet or report.error is not None:
        if report.error is None or output.begun:  # an error alone makes no file
            output.write(closing_line(report.status) + "\n")
        return
    to_terminal = output.path is None
    color = to_terminal and colored(sys.stdout)
    width = shutil.get_terminal_size((100, 24)).columns if to_terminal else 100
    output.write(to_text(report, width=min(width, 120), color=color, warnings=False) + "\n")


def colored(stream: TextIO) -> bool:
    """Whether to colour: a terminal that is not dumb, and no NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _log(report: object, folder: Path, name: str) -> None:
    from anecompat.checking import Report

    assert isinstance(report, Report)
    place = folder / name if name else folder
    if report.error is not None:
        return  # bad input writes nothing
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.txt").write_text(report.to_text() + "\n", encoding="utf-8")
        (place / "report.json").write_text(report.to_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--log-dir {place}: {error.strerror or error}") from error


def _knowledge(options: argparse.Namespace) -> int:
    from anecompat.report import knowledge_pages, rule_pages

    width = _width()
    if options.command == "chips":
        text = knowledge_pages.chips_page(options.chip, width)
    elif options.command == "ops":
        text = knowledge_pages.operations_page(options.operation, width)
    else:
        text = rule_pages.rules_page(options.rule, width)
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()
    return 0

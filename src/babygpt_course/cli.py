"""`babygpt-course` on the command line."""

import argparse
import sys
from pathlib import Path

from babygpt_course.errors import CourseError

EXAMPLES = """\
examples:
  babygpt-course doctor                      what this machine has, and what is missing
  babygpt-course data                        where the texts are, and which are there
  babygpt-course data tinystories            download one text into the cache
  babygpt-course sample tinytales -n 3       print three stories
  babygpt-course grade submissions/ --out gradebook/
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 on an error that is the user's to mend, printed in one line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="babygpt-course",
        description="The course's commands.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add = commands.add_parser("doctor", help="say what this machine has")
    add.set_defaults(run=doctor)

    add = commands.add_parser("data", help="list the texts, or download some")
    add.add_argument(
        "names",
        nargs="*",
        help="corpora to download: tinystories, tinyshakespeare, names",
    )
    add.set_defaults(run=data)

    add = commands.add_parser("sample", help="print stories of TinyTales")
    add.add_argument("corpus", choices=["tinytales"])
    add.add_argument("-n", type=int, default=3, help="how many (default 3)")
    add.add_argument("--seed", type=int, default=0)
    add.set_defaults(run=sample)

    add = commands.add_parser("grade", help="grade a folder of submitted notebooks")
    add.add_argument("submissions", type=Path)
    add.add_argument(
        "--out",
        type=Path,
        default=Path("gradebook"),
        help="folder for grades.csv and feedback",
    )
    add.set_defaults(run=grade)

    args = parser.parse_args(argv)
    try:
        return args.run(args) or 0
    except CourseError as error:
        print(f"babygpt-course: {error}", file=sys.stderr)
        return 1


def doctor(args) -> None:
    import os
    import platform

    import torch

    from babygpt_course import __version__, corpus, results

    gpu = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "none (no chapter so far needs one)"
    )
    print(f"babygpt-course  {__version__}\nPython          {platform.python_version()}")
    print(
        f"torch           {torch.__version__}\nCPU             {results.cpu_name()}, {os.cpu_count()} cores"
    )
    print(f"GPU             {gpu}\nData cache      {corpus.data_folder()}")
    for row in results.recorded("chapters"):
        print(
            f"Chapter {row['notebook'][:2]}      {row['seconds']:.0f} s on {row['device']}, {row['hardware']}"
        )


def data(args) -> None:
    from babygpt_course import corpus
    from babygpt_course.errors import ConfigError

    for name in args.names:
        if name not in corpus.DOWNLOADS:
            raise ConfigError(
                f"No text {name!r} to download. The texts are: {', '.join(corpus.DOWNLOADS)}."
            )
        print(corpus.fetch(name))
    if not args.names:
        print(f"cache: {corpus.data_folder()}")
        for name, d in corpus.DOWNLOADS.items():
            there = (corpus.data_folder() / d.filename).exists()
            print(
                f"  {name:16} {d.n_bytes:>10,} bytes  {d.licence:16} {'there' if there else 'not downloaded'}"
            )
        print("  tinytales        generated, nothing to download")


def sample(args) -> None:
    from babygpt_course import tinytales

    print("\n".join(tinytales.sample(args.n, args.seed)), end="")


def grade(args) -> None:
    from babygpt_course.grade import grade_folder

    grade_folder(args.submissions, args.out)


if __name__ == "__main__":
    sys.exit(main())

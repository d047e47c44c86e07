"""`babygpt-course` on the command line."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babygpt_course.errors import ConfigError, CourseError

if TYPE_CHECKING:
    from babygpt_course.gpt import GPT
    from babygpt_course.llama import Llama

EXAMPLES = {
    "doctor": """\
  babygpt-course doctor                      what this machine has and can do
""",
    "data": """\
  babygpt-course data                        where the texts are, and which are there
  babygpt-course data tinystories            download one text into the cache
""",
    "sample": """\
  babygpt-course sample tinytales -n 3       print three stories
""",
    "train": """\
  babygpt-course train --steps 300 --out run/            a small GPT on TinyTales
  babygpt-course train --corpus my.txt --out mine/       on a text of your own
  babygpt-course train --precision auto --out half/      in bf16 or fp16 where it is fast
""",
    "reproduce": """\
  babygpt-course reproduce babygpt-16        a row of chapter 9's table, in two minutes
  babygpt-course reproduce babygpt-256 --out run/        an hour; it can be stopped
""",
    "generate": """\
  babygpt-course generate run/ --prompt "One day"        let it write
  babygpt-course generate stories260K --temperature 0    a published checkpoint
""",
    "tokenize": """\
  babygpt-course tokenize "Once upon a time" --with stories260K
""",
    "grade": """\
  babygpt-course grade submissions/ --out gradebook/
""",
}
# Training steps a second of `_speed` on the machine of recorded/chapters.json.
RECORDED_SPEED = 367.0


def main(argv: list[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 on success, 1 on an error that is the user's to mend, printed in one line, 2 on words
    that are no command (argparse exits), 130 when stopped by Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="babygpt-course",
        description="The course's commands.",
        epilog="examples:\n" + "".join(EXAMPLES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        add = commands.add_parser(
            name,
            help=does,
            description=f"{does[0].upper()}{does[1:]}.",
            epilog="examples:\n" + EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add.set_defaults(run=globals()[name])
        return add

    command("doctor", "say what this machine has, and what a chapter will take on it")

    add = command("data", "list the texts, or download some")
    add.add_argument(
        "names",
        nargs="*",
        help="corpora to download: tinystories, tinyshakespeare, names",
    )

    add = command("sample", "print stories of TinyTales")
    add.add_argument("corpus", choices=["tinytales"])
    add.add_argument("-n", type=int, default=3, help="how many (3)")
    add.add_argument("--seed", type=seed, default=0, help="(0)")

    add = command("train", "train a small model on characters")
    add.add_argument("--model", choices=["gpt", "llama"], default="gpt", help="(gpt)")
    add.add_argument(
        "--corpus", default="tinytales", help="a corpus, or a text file (tinytales)"
    )
    add.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for the run; the same command again goes on with it",
    )
    sizes = {"steps": 300, "batch-size": 32, "block-size": 64, "layers": 4}
    for name, value in (sizes | {"heads": 4, "channels": 64}).items():
        add.add_argument(f"--{name}", type=int, default=value, help=f"({value})")
    add.add_argument("--seed", type=seed, default=0, help="(0)")
    add.add_argument("--lr", type=float, default=3e-3, help="(0.003)")
    add.add_argument(
        "--optimizer", choices=["adamw", "muon"], default="adamw", help="(adamw)"
    )
    add.add_argument(
        "--precision",
        choices=["fp32", "bf16", "fp16", "auto"],
        default="fp32",
        help="of the matrix products (fp32); auto is the best of the device",
    )
    add.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="(cpu)")

    add = command("reproduce", "repeat a row of the table of chapter 9")
    add.add_argument("name", help="such as babygpt-16; a wrong one lists all")
    add.add_argument("--steps", type=int, help="fewer than the row had")
    add.add_argument("--out", type=Path, help="folder for the run, to go on with later")
    add.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="(cpu)")
    add.add_argument("--record", type=Path, help="JSON file that takes the row")

    add = command("generate", "write with a run or a checkpoint")
    add.add_argument("model", help="the folder of a run, or a name such as stories260K")
    add.add_argument("--prompt", default="", help="the text to go on from")
    add.add_argument("-n", "--max-new-tokens", type=int, default=200, help="(200)")
    add.add_argument(
        "--temperature", type=float, default=1.0, help="(1); 0 is the likeliest"
    )
    add.add_argument("--top-k", type=int, help="draw from the k likeliest only")
    add.add_argument("--top-p", type=float, help="draw from this much probability only")
    add.add_argument("--seed", type=seed, default=0, help="(0)")

    add = command("tokenize", "show a text as tokens")
    add.add_argument("text")
    add.add_argument(
        "--with",
        dest="model",
        default="stories260K",
        help="the folder of a run, or a checkpoint (stories260K)",
    )

    add = command("grade", "grade a folder of submitted notebooks")
    add.add_argument(
        "submissions", type=Path, help="flat, or a folder for each student"
    )
    add.add_argument(
        "--out",
        type=Path,
        default=Path("gradebook"),
        help="folder for grades.csv and feedback (gradebook)",
    )

    args = parser.parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
        return 0
    except CourseError as error:
        return _mend(str(error))
    except KeyboardInterrupt:
        print("babygpt-course: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _mend(f"{error.filename}: {error.strerror}. Choose another path.")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return _mend("The memory is not enough. Choose a smaller model or batch.")


def _mend(says: str) -> int:
    print(f"babygpt-course: {says}", file=sys.stderr)
    return 1


def seed(text: str) -> int:
    """A seed: a whole number that torch's generators take."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError("a seed is a whole number from 0 to 2^63 - 1")
    return number


def doctor(args: argparse.Namespace) -> None:
    """Print what this machine has and can do, and an estimate for each chapter."""
    import platform
    import shutil
    from importlib import metadata

    import torch

    from babygpt_course import __version__, corpus, ledger, precision, results

    def say(label: str, text: object) -> None:
        print(f"{label:15} {text}")

    say("babygpt-course", __version__)
    say("Python", platform.python_version())
    packages = "torch numpy matplotlib anywidget safetensors sentencepiece"
    for name in packages.split():
        say(name, metadata.version(name))
    threads = torch.get_num_threads()
    say("CPU", f"{results.cpu_name()}, {os.cpu_count()} cores; torch uses {threads}")
    device, gpu = "cpu", "none (no chapter so far needs one)"
    if torch.cuda.is_available():
        device, gpu = "cuda", torch.cuda.get_device_name()
        gpu += f", {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
    say("GPU", gpu)
    best = precision.autocast_policy(device)
    formats = dict.fromkeys((precision.FP32, best.format))
    peaks = [ledger.measured_peak(f.dtype, device) / 1e9 for f in formats]
    says = [f"{peak:,.0f} GFLOP/s in {f.name}" for f, peak in zip(formats, peaks)]
    say("Peak, measured", f"{', '.join(says)}, on the {device.upper()}")
    for name in ("bf16", "fp16"):
        say(name, _format(name, device))
    folder = corpus.data_folder()
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    say("Data cache", folder)
    say("Free disk", f"{shutil.disk_usage(there).free / 1e9:,.1f} GB")
    speed = _speed() / RECORDED_SPEED
    for row in results.recorded("chapters"):
        took = f"{row['seconds']:.0f} s on {row['device']}, {row['hardware']}"
        if "CPU" in row["device"]:
            here = row["seconds"] / speed
            took = f"about {here:.0f} s here, an estimate from {took}"
        say(f"Chapter {row['notebook'][:2]}", took)
    print(
        f"The estimate takes this machine to be {speed:.2f} times as fast as the recorded "
        "one, by the time of a small training step just now."
    )


def _format(name: str, device: str) -> str:
    """Whether a device multiplies in a 16-bit format, in words."""
    from babygpt_course import precision

    try:
        precision.policy_for(name, device)
    except ConfigError:
        return "not on this machine"
    if precision.autocast_policy(device).format.name == name:
        return "in hardware: large matrix products are faster than in fp32"
    return (
        "yes" if device == "cuda" else "emulated: right numbers, not faster than fp32"
    )


def _speed() -> float:
    """Training steps a second of a small GPT on one CPU thread: the fastest of sixty."""
    import time

    import torch

    from babygpt_course.gpt import GPT, GPTConfig

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = GPT(GPTConfig(vocab_size=64, block_size=32, n_layer=2, n_head=2, n_embd=32))
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.arange(16 * 32).view(16, 32) % 64
    seconds = []
    for _ in range(60):
        began = time.perf_counter()
        optimizer.zero_grad()
        model(ids, ids)[1].backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return 1 / min(seconds)


def data(args: argparse.Namespace) -> None:
    """List the texts with their size in bytes and licence, or download those named."""
    from babygpt_course import corpus

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


def sample(args: argparse.Namespace) -> None:
    """Print stories of TinyTales."""
    from babygpt_course import tinytales

    print("\n".join(tinytales.sample(args.n, args.seed)), end="")


def train(args: argparse.Namespace) -> None:
    """Train a model on characters and leave the run in a folder."""
    import torch

    from babygpt_course import corpus, trainer
    from babygpt_course.gpt import GPT, GPTConfig
    from babygpt_course.llama import Llama, LlamaConfig
    from babygpt_course.tokenizer import CharTokenizer

    _check_device(args.device)
    config = trainer.TrainConfig(
        steps=args.steps,
        batch_size=args.batch_size,
        block_size=args.block_size,
        lr=args.lr,
        optimizer=args.optimizer,
        seed=args.seed,
        precision=args.precision,
    )
    own = args.corpus not in corpus.NAMES
    text = corpus.load(args.corpus, path=args.corpus if own else None)
    tokenizer = CharTokenizer(text.text)
    V, C = tokenizer.vocab_size, args.channels
    model: GPT | Llama
    if args.model == "gpt":
        sizes = (args.layers, args.heads, C)
        model = GPT(GPTConfig(V, args.block_size, *sizes))
    else:
        model = Llama(
            LlamaConfig(
                dim=C,
                n_layers=args.layers,
                n_heads=args.heads,
                n_kv_heads=args.heads,
                vocab_size=V,
                max_seq_len=args.block_size,
            )
        )
    model.to(args.device)
    ids, val_ids = (torch.tensor(tokenizer.encode(t)) for t in (text.train, text.val))
    _keep_chars(args.out, tokenizer.chars)
    n = sum(p.numel() for p in model.parameters())
    print(f"{args.model}, {n:,} parameters, {text!r}")
    history = trainer.train(model, (ids, val_ids), config, folder=args.out)
    best = history.best
    print(f"best validation loss {best['val_loss']:.4f} nats at step {best['step']}")
    print(f"written to {args.out}; next: babygpt-course generate {args.out}")


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "This machine has no GPU that torch can use. Use --device cpu."
        )


def reproduce(args: argparse.Namespace) -> None:
    """Repeat a recorded run and print its row, one number a line."""
    from babygpt_course import runs

    _check_device(args.device)
    row = runs.reproduce(args.name, args.steps, args.out, args.device)
    for key, value in row.items():
        print(
            f"{key:20} {value:,.4f}"
            if isinstance(value, float)
            else f"{key:20} {value}"
        )
    if args.record is not None:
        runs.record(row, args.record)
        print(f"recorded in {args.record}")


def _keep_chars(folder: Path, chars: str) -> None:
    """Write a run's alphabet beside it, never over that of another run."""
    import json

    from babygpt_course import resume

    file, text = folder / "chars.json", json.dumps(chars)
    folder.mkdir(parents=True, exist_ok=True)
    begun = file.exists() and (folder / resume.LAST).exists()
    if begun and file.read_text() != text:
        raise ConfigError(
            f"{folder} holds a run on a text with another alphabet. Choose another folder, "
            "or delete this one."
        )
    file.write_text(text)


def _load(name: str) -> tuple["GPT | Llama", Any]:
    """The model and tokenizer of a run's folder or of a published checkpoint."""
    import json

    from babygpt_course import checkpoint
    from babygpt_course.tokenizer import CharTokenizer

    folder = Path(name)
    if not folder.is_dir():
        return checkpoint.load(name)
    chars = folder / "chars.json"
    if not chars.exists():
        raise ConfigError(
            f"{folder} is not a run: it has no chars.json. Make one with train."
        )
    try:
        tokenizer = CharTokenizer(json.loads(chars.read_text()))
    except (ValueError, TypeError):
        raise ConfigError(
            f"{chars} is damaged: it does not hold the characters. Train again."
        ) from None
    return checkpoint.load_model(folder / "best.safetensors"), tokenizer


def generate(args: argparse.Namespace) -> None:
    """Print what a model writes, as it comes."""
    import torch

    from babygpt_course.generate import stream

    model, tokenizer = _load(args.model)
    bos = getattr(tokenizer, "bos_id", None)
    prompt = args.prompt or ("\n" if bos is None else "")
    pieces = stream(
        model,
        tokenizer,
        prompt,
        args.max_new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        generator=torch.Generator().manual_seed(args.seed),
    )
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def tokenize(args: argparse.Namespace) -> None:
    """Print the tokens of a text, one a line: id and piece."""
    _, tokenizer = _load(args.model)
    ids = tokenizer.encode(args.text)
    for i in ids:
        print(f"{i:6}  {tokenizer.decode([i])!r}")
    print(f"{len(ids)} tokens for {len(args.text)} characters")


def grade(args: argparse.Namespace) -> None:
    """Grade a folder of notebooks."""
    from babygpt_course.grade import grade_folder

    grade_folder(args.submissions, args.out)


if __name__ == "__main__":
    sys.exit(main())

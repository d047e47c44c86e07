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
  babygpt-course train --steps 300 --out run/            a small GPT on TinyTales
  babygpt-course generate run/ --prompt "One day"        let it write
  babygpt-course generate stories260K --temperature 0    a published checkpoint
  babygpt-course tokenize "Once upon a time" --with stories260K
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

    add = commands.add_parser("train", help="train a small model on characters")
    add.add_argument("--model", choices=["gpt", "llama"], default="gpt")
    add.add_argument("--corpus", default="tinytales", help="a corpus, or a text file")
    add.add_argument("--out", type=Path, required=True, help="folder for the run")
    sizes = {"steps": 300, "batch-size": 32, "block-size": 64, "layers": 4}
    for name, value in (sizes | {"heads": 4, "channels": 64, "seed": 0}).items():
        add.add_argument(f"--{name}", type=int, default=value, help=f"({value})")
    add.add_argument("--lr", type=float, default=3e-3, help="(0.003)")
    add.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    add.set_defaults(run=train)

    add = commands.add_parser("generate", help="write with a run or a checkpoint")
    add.add_argument("model", help="the folder of a run, or a name such as stories260K")
    add.add_argument("--prompt", default="")
    add.add_argument("-n", "--max-new-tokens", type=int, default=200)
    add.add_argument("--temperature", type=float, default=1.0)
    add.add_argument("--top-k", type=int)
    add.add_argument("--top-p", type=float)
    add.add_argument("--seed", type=int, default=0)
    add.set_defaults(run=generate)

    add = commands.add_parser("tokenize", help="show a text as tokens")
    add.add_argument("text")
    add.add_argument(
        "--with", dest="model", default="stories260K", help="(stories260K)"
    )
    add.set_defaults(run=tokenize)

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


def train(args) -> None:
    import json

    import torch

    from babygpt_course import corpus, trainer
    from babygpt_course.gpt import GPT, GPTConfig
    from babygpt_course.llama import Llama, LlamaConfig
    from babygpt_course.tokenizer import CharTokenizer

    own = args.corpus not in corpus.NAMES
    text = corpus.load(args.corpus, path=args.corpus if own else None)
    tokenizer = CharTokenizer(text.text)
    V, C = tokenizer.vocab_size, args.channels
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
    config = trainer.TrainConfig(
        steps=args.steps,
        batch_size=args.batch_size,
        block_size=args.block_size,
        lr=args.lr,
        optimizer=args.optimizer,
        seed=args.seed,
    )
    data = tuple(torch.tensor(tokenizer.encode(t)) for t in (text.train, text.val))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "chars.json").write_text(json.dumps(tokenizer.chars))
    n = sum(p.numel() for p in model.parameters())
    print(f"{args.model}, {n:,} parameters, {text!r}")
    history = trainer.train(model, data, config, folder=args.out)
    best = history.best
    print(f"best validation loss {best['val_loss']:.4f} nats at step {best['step']}")
    print(f"written to {args.out}; next: babygpt-course generate {args.out}")


def _load(name: str):
    """The model and tokenizer of a run's folder or of a published checkpoint."""
    import json

    from babygpt_course import checkpoint
    from babygpt_course.errors import ConfigError
    from babygpt_course.tokenizer import CharTokenizer

    folder = Path(name)
    if not folder.is_dir():
        return checkpoint.load(name)
    chars = folder / "chars.json"
    if not chars.exists():
        raise ConfigError(
            f"{folder} is not a run: it has no chars.json. Make one with train."
        )
    tokenizer = CharTokenizer(json.loads(chars.read_text()))
    return checkpoint.load_model(folder / "best.safetensors"), tokenizer


def generate(args) -> None:
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


def tokenize(args) -> None:
    _, tokenizer = _load(args.model)
    ids = tokenizer.encode(args.text)
    for i in ids:
        print(f"{i:6}  {tokenizer.decode([i])!r}")
    print(f"{len(ids)} tokens for {len(args.text)} characters")


def grade(args) -> None:
    from babygpt_course.grade import grade_folder

    grade_folder(args.submissions, args.out)


if __name__ == "__main__":
    sys.exit(main())

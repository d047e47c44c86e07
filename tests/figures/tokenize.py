"""tokenize.mjs: ids of BPETokenizer and of SentencePiece, over stories and odd strings."""

import random

from babygpt_course import tinytales
from babygpt_course.bpe import PIECE
from babygpt_course.live.tokenization import MARKS, packed
from babygpt_course.tokenizer import BPETokenizer, SentencePieceTokenizer

ODD = [
    "",
    " ",
    "   ",
    "\n",
    "a  b\n\n\tc \n d  ",
    " a\r\n\x1c\x85\xa0\u3000b",
    "café naïve Zoë",
    "e\u0301 combining",
    "Η μικρή γάτα",
    "छोटी बिल्ली",
    "小猫想看大海。",
    "🐱👀👩\u200d🚀",
    "12345 1 ½ ² Ⅷ ٣٤",
    "under_score __init__",
    'don\'t "stop"! (no)...',
    "▁ ▁▁ a▁b",
    "<unk><s></s><0x41>",
    "\0\x7f\ufeff",
    "aaaaaaa ababab",
    "Quick zebras puzzled",
    "nothing wheelbarrow",
]


def golden() -> dict:
    tales = "".join(tinytales.sample(400, seed=1))
    chance = random.Random(0)
    letters = "ab the\n é▁1_🐱"
    texts = ODD + ["".join(chance.choices(letters, k=chance.randrange(1, 30))) for _ in range(60)]  # fmt: skip
    texts += ["".join(f"a{chr(c)}" for c in range(a, a + 64)) for a in range(0, 0x860, 64)]  # fmt: skip
    texts += tales.split("\n")[:20] + sorted(tinytales.lexicon())[::7]
    bpe = BPETokenizer.train(tales, 1024)
    models = [SentencePieceTokenizer.train(tales, V, "unigram") for V in (320, 700)]
    paths = {}
    for i, model in enumerate(models):
        for word in ("▁nothing", "▁Zoe", "aaaa"):
            ids = model._sp.encode(word.replace("▁", " "))
            paths[f"{i} {word}"] = sum(model._sp.get_score(j) for j in ids if j >= MARKS)  # fmt: skip
    return {
        "texts": texts,
        "words": [PIECE.findall(text) for text in texts],
        "merges": bpe.merges,
        "pieces": [list(piece) for piece in bpe.pieces],
        "bpe": {
            n: [BPETokenizer(bpe.merges[:n]).encode(t) for t in texts]
            for n in (0, 1, 20, 256, 768)
        },
        "unigrams": [{k: v.tolist() for k, v in packed(m).items()} for m in models],
        "names": [m.pieces[MARKS:] for m in models],
        "unigram": [[m.encode(t) for t in texts] for m in models],
        "paths": paths,
    }


FAULTS = {
    "merges in the order of the text": (
        "tokenize.mjs",
        "best = Math.min(best, rankOf(ids[i], ids[i + 1]))",
        "best = best < n ? best : Math.min(best, rankOf(ids[i], ids[i + 1]))",
    ),
    "overlapping pairs merged twice": ("tokenize.mjs", "if (hit) i++;", ""),
    "all merges whatever the slider says": ("tokenize.mjs", "let best = n;", "let best = 1e6, all = (n = 1e6);"),
    "spaces apart from words": ("tokenize.mjs", "` ?[\\\\p{L}\\\\p{Nl}", "`[\\\\p{L}\\\\p{Nl}"),
    "underscore is a letter": ("tokenize.mjs", "` ?[\\\\p{L}", "` ?[_\\\\p{L}"),
    "the last space is not left to the word": ("tokenize.mjs", "(?![^${SPACE}])", ""),
    "bytes one id off": ("tokenize.mjs", "const BYTES = 3;", "const BYTES = 2;"),
    "no byte fallback": ("tokenize.mjs", "(id === null ? bytesOf(text) : [id])", "[id ?? 0]"),
    "the least probable way": ("tokenize.mjs", "total <= sum[arc.to]", "total >= sum[arc.to]"),
    "the longest piece is left out": ("tokenize.mjs", "from + longest); to++", "from + longest - 1); to++"),
    "SentencePiece's space taken for a space": ("tokenize.mjs", "text.split(BLANK)", "[text]"),
    "log-probabilities read as integers": (
        "tokenize.mjs",
        "new Float32Array(scores.buffer, scores.byteOffset, scores.length)",
        "Float32Array.from(scores)",
    ),
}  # fmt: skip

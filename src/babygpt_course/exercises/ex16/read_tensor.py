"""16.5: one tensor out of the bytes of a llama2.c file."""

import struct

import numpy as np
import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="16_llama_2",
    id="16.5",
    title="Find a tensor in a file",
    kind="stretch",
    points=3,
    minutes=11,
    anchor="train-it",
    rules=(
        forbid(
            "load_llama2c load_model HEADER _llama2c_order memmap",
            "`struct.unpack` reads the sizes and `torch.frombuffer` or `numpy.frombuffer` the "
            "numbers. Where they stand is what you are to find out.",
        ),
    ),
    hints="""
    How many bytes come before the first number of a tensor? Which part of the file is the header, and
    how many numbers has each tensor before yours?

    All layers of one name stand together: norm1 of every layer, then wq of every layer. A tensor of
    layer l begins l tensors of its own size after the first of its name. wk and wv have G * D rows,
    with D = C / H. Between norm and head stand two tables of length * D / 2 numbers each.

    shapes = a dict from name to shape, in the order of the file; at = 7 * 4; for each name before
    yours: at += 4 * numbers * (layers, or 1). Then at += 4 * numbers * layer. Read, and give it its
    shape. A head that is tied is the embedding.
    """,
    equivalent={
        f"kv, tied, V = (C // H * G, V {test}, abs(V))": (
            "these differ for a vocabulary of one token or of none, and there is no such model"
        )
        for test in (">= 0", "> 1", "> -1")
    },
)

LAYERED = "norm1 wq wk wv wo norm2 w1 w2 w3".split()
ORDER = ["embedding", *LAYERED, "norm", "cos", "sin", "head"]
NAMES = ["embedding", *LAYERED, "norm", "head"]


class File(bytes):
    """The bytes of a file, shown as the code that makes them in the notebook."""

    code: str

    def __repr__(self) -> str:
        return self.code

    def __deepcopy__(self, memo):
        return self


def example_file(
    dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, length, tied=True
):
    """As in the notebook: the numbers count up, so each tells its own place."""
    C, D = dim, dim // n_heads
    layer = 2 * C + 2 * C * C + 2 * n_kv_heads * D * C + 3 * C * hidden_dim
    n = vocab_size * C * (1 if tied else 2) + n_layers * layer + C + length * D
    sizes = dim, hidden_dim, n_layers, n_heads, n_kv_heads
    head = struct.pack("<7i", *sizes, vocab_size if tied else -vocab_size, length)
    file = File(head + struct.pack(f"<{n}f", *range(n)))
    file.code = f"example_file({', '.join(map(str, (*sizes, vocab_size, length)))}"
    file.code += ")" if tied else ", tied=False)"
    return file


def shapes(data):
    """Sizes of the file, and the shape of each name in the order of the file."""
    C, F, L, H, G, V, T = struct.unpack_from("<7i", data)
    D = C // H
    table = {
        "embedding": (abs(V), C), "norm1": (C,), "wq": (C, C), "wk": (G * D, C),
        "wv": (G * D, C), "wo": (C, C), "norm2": (C,), "w1": (F, C), "w2": (C, F),
        "w3": (F, C), "norm": (C,), "cos": (T, D // 2), "sin": (T, D // 2),
        "head": (abs(V), C),
    }  # fmt: skip
    return L, V > 0, table


@exercise.oracle
def read_tensor(data, name, layer):
    L, tied, table = shapes(data)
    if name == "head" and tied:
        name = "embedding"
    at = 7 * 4
    for each in ORDER:
        n = 1
        for size in table[each]:
            n *= size
        if each == name:
            at += 4 * n * (layer if each in LAYERED else 0)
            numbers = [struct.unpack_from("<f", data, at + 4 * i)[0] for i in range(n)]
            return torch.tensor(numbers, dtype=torch.float32).view(table[each])
        at += 4 * n * (L if each in LAYERED else 1)
    raise KeyError(name)


@exercise.cases
def cases():
    small = example_file(2, 3, 1, 1, 1, 2, 1)
    for name in ("embedding", "norm1", "wq"):
        yield Case((small, name, 0))
    file = example_file(4, 5, 2, 2, 1, 3, 3)
    for name in ("norm1", "wq", "wk"):
        yield Case((file, name, 1), "layer 1")
    for name in ("wv", "wo", "w1", "w2", "w3", "norm2"):
        yield Case((file, name, 0))
    yield Case((file, "norm", 0))
    yield Case((file, "head", 0), "tied: the embedding")
    untied = example_file(4, 3, 3, 2, 1, 5, 2, tied=False)
    yield Case((untied, "embedding", 0), "not tied")
    yield Case((untied, "head", 0), "not tied")
    yield Case((untied, "w2", 2), "not tied")
    large = example_file(12, 7, 3, 6, 2, 11, 5, tied=False)
    for name in NAMES:
        yield Case((large, name, 2 if name in LAYERED else 0))
    yield Case((example_file(8, 9, 2, 2, 2, 5, 4), "w3", 1), "as many pairs as heads")


# --- correct in other ways ------------------------------------------------------------


def floats(data, start=28):
    return torch.tensor(
        struct.unpack(f"<{(len(data) - start) // 4}f", data[start:]),
        dtype=torch.float32,
    )


def place(
    data,
    name,
    layer,
    order=None,
    change=None,
    by_layer=False,
    tables=2,
    tie=True,
    later=0,
):
    """Numbers before the tensor, and its shape; one part at a time is replaced."""
    L, tied, table = shapes(data)
    table = {**table, **(change(data, table) if change else {})}
    if name == "head" and tied and tie:
        name = "embedding"
    order = order or ORDER
    names = [n for n in order if n not in ("cos", "sin")[: 2 - tables]]
    size = {n: torch.Size(table[n]).numel() for n in names}
    at = 0
    if by_layer and name in LAYERED:
        before = LAYERED[: LAYERED.index(name)]
        at = size["embedding"] + layer * sum(size[n] for n in LAYERED)
        return at + sum(size[n] for n in before), table[name]
    for n in names[: names.index(name)]:
        at += size[n] * (L if n in LAYERED else 1)
    return at + size[name] * (layer + later if name in LAYERED else later), table[name]


def taken(data, at, shape):
    n = torch.Size(shape).numel()
    return floats(data)[at : at + n].reshape(shape)


@exercise.right
def one_pass_over_all_tensors(data, name, layer):
    L, tied, table = shapes(data)
    rest, found = floats(data), {}
    for n in ORDER[:-1] if tied else ORDER:
        for i in range(L if n in LAYERED else 1):
            size = torch.Size(table[n]).numel()
            found[n, i], rest = rest[:size].view(table[n]), rest[size:]
    if tied:
        found["head", 0] = found["embedding", 0]
    return found[name, layer].clone()


@exercise.right
def from_a_buffer(data, name, layer):
    at, shape = place(data, name, layer)
    count = torch.Size(shape).numel()
    buffer = bytearray(data)
    return torch.frombuffer(
        buffer, dtype=torch.float32, count=count, offset=28 + 4 * at
    ).reshape(shape)


@exercise.right
def from_the_end(data, name, layer):
    """The last tensors are found from the end of the file, the others from its start."""
    _, tied, table = shapes(data)
    x = floats(data)
    if name == "head" and not tied:
        n = torch.Size(table["head"]).numel()
        return x[len(x) - n :].view(table["head"])
    return taken(data, *place(data, name, layer))


# --- wrong, each with the misconception behind it -------------------------------------


def by_struct(data, at, n):
    return struct.unpack_from(f"<{n}f", data, at)


def by_struct_slice(data, at, n):
    return struct.unpack(f"<{n}f", data[at : at + 4 * n])


def by_numpy(data, at, n):
    return np.frombuffer(data, "<f4", n, at).copy()


def by_numpy_slice(data, at, n):
    x = np.frombuffer(data, "<f4", offset=28)
    at = (at - 28) // 4
    return x[at : at + n].copy()


def by_torch(data, at, n):
    return torch.frombuffer(bytearray(data), dtype=torch.float32, count=n, offset=at)


READERS = [by_struct_slice, by_numpy, by_numpy_slice, by_torch]


def variant(
    name, text, of=None, start=28, unit=4, header=range(7), beyond=False, **changed
):
    """A wrong answer whose places are counted with one part replaced.

    One that may read `beyond` the end is written with each reader: each stops in words of
    its own.
    """

    def make(reader):
        def answer(data, name, layer):
            sizes = struct.unpack_from("<7i", data)
            data = struct.pack("<7i", *(sizes[i] for i in header)) + data[28:]
            at, shape = place(data, name, layer, **changed)
            n = torch.Size(shape).numel()
            numbers = reader(data, start + unit * at, n)
            return torch.as_tensor(numbers, dtype=torch.float32).view(shape)

        return answer

    first = make(by_struct)
    first.__name__, first.__doc__ = name, text
    (exercise.also(of) if of else exercise.wrong("train-it"))(first)
    for reader in READERS if beyond else []:
        other = make(reader)
        other.__name__ = f"{name}_{reader.__name__}"
        exercise.also(of or first)(other)
    return first


header_forgotten = variant(
    "header_forgotten",
    """The numbers are read from the first byte of the file on, and the first seven of them are the header:
    whole numbers, which as floats are almost 0.

    How many bytes do seven numbers of 4 bytes take?
    """,
    start=0,
)
header_in_numbers = variant(
    "header_in_numbers",
    """The first weight is looked for at the wrong byte. The header has seven *numbers*, and each of them has 4
    bytes.

    At which byte does the embedding begin?
    """,
    start=7,
)
variant("header_of_six", None, of=header_in_numbers, start=24)
variant("header_of_eight", None, of=header_in_numbers, start=32, beyond=True)
variant("header_of_256_bytes", None, of=header_in_numbers, start=256, beyond=True)
bytes_for_numbers = variant(
    "bytes_for_numbers",
    """Numbers are counted where bytes are needed: the tensor is looked for as many *bytes* behind the header as
    there are *numbers* before it.

    How many bytes has a number?
    """,
    unit=1,
)
sizes_in_another_order = variant(
    "sizes_in_another_order",
    """Two of the seven sizes at the start of the file are exchanged. Their order is: C, F, layers, heads, pairs,
    tokens, length.

    Which one comes first, C or F? And then: layers, heads, pairs?
    """,
    header=(1, 0, 2, 3, 4, 5, 6),
    beyond=True,
)
for _i, _order in enumerate(
    [(0, 1, 3, 2, 4, 5, 6), (0, 1, 2, 4, 3, 5, 6), (0, 1, 2, 3, 4, 6, 5)]
):
    variant(
        f"sizes_exchanged_{_i + 1}",
        None,
        of=sizes_in_another_order,
        header=_order,
        beyond=True,
    )
layer_by_layer = variant(
    "layer_by_layer",
    """The file is read as if all of layer 0 came first, then all of layer 1. In it the tensors of one
    *name* stand together: norm1 of all layers, then wq of all layers.

    With two layers, what stands right behind norm1 of layer 0?
    """,
    by_layer=True,
)


def as_many_pairs_as_heads(data, table):
    return {"wk": table["wq"], "wv": table["wq"]}


kv_as_large_as_q = variant(
    "kv_as_large_as_q",
    """wk and wv are taken for another shape, perhaps for as large as wq. With G pairs for H heads they have G * D
    rows, with D = C / H, and C columns. Otherwise everything behind them moves.

    C = 4, two heads and one pair: how many rows has wk?
    """,
    change=as_many_pairs_as_heads,
    beyond=True,
)
variant(
    "kv_of_g_rows",
    None,
    of=kv_as_large_as_q,
    change=lambda data, table: {
        n: (struct.unpack_from("<7i", data)[4], table["wq"][0]) for n in ("wk", "wv")
    },
)
variant(
    "kv_of_channels_over_pairs",
    None,
    of=kv_as_large_as_q,
    change=lambda data, table: {
        n: (table["wq"][0] // struct.unpack_from("<7i", data)[4], table["wq"][0])
        for n in ("wk", "wv")
    },
    beyond=True,
)
variant(
    "kv_transposed",
    None,
    of=kv_as_large_as_q,
    change=lambda data, table: {n: table[n][::-1] for n in ("wk", "wv")},
)
variant(
    "kv_of_one_pair",
    None,
    of=kv_as_large_as_q,
    change=lambda data, table: {
        n: (table["wq"][0] // struct.unpack_from("<7i", data)[3], table["wq"][0])
        for n in ("wk", "wv")
    },
)
mlp_transposed = variant(
    "mlp_transposed",
    """A matrix of the MLP has its rows and columns exchanged. A linear layer from C to F channels holds a
    matrix of F rows and C columns: w1 and w3 lead up to F, and w2 back to C.

    Which of the three begins with F channels, and how many rows has it?
    """,
    change=lambda data, table: {n: table[n][::-1] for n in ("w1", "w2", "w3")},
)
variant(
    "w2_like_the_others",
    None,
    of=mlp_transposed,
    change=lambda data, table: {"w2": table["w1"]},
)
variant(
    "only_w2_right",
    None,
    of=mlp_transposed,
    change=lambda data, table: {n: table["w2"] for n in ("w1", "w3")},
)
another_order = variant(
    "another_order",
    """The tensors stand in another order than you read them in. It is: embedding, norm1, wq, wk, wv, wo,
    norm2, w1, w2, w3, norm, the two tables, head.

    That is the order in which a token meets them, but for w2 and w3. Which two did you exchange?
    """,
    order=["embedding", *"norm1 wq wk wv wo norm2 w1 w3 w2".split(), *ORDER[10:]],
)
ORDERS = {
    "both_norms_first": "embedding norm1 norm2 wq wk wv wo w1 w2 w3 norm cos sin head",
    "norms_last": "embedding wq wk wv wo w1 w2 w3 norm1 norm2 norm cos sin head",
    "head_at_the_front": " ".join(["embedding", "head", *ORDER[1:-1]]),
    "tables_at_the_front": " ".join(["embedding", "cos", "sin", *ORDER[1:11], "head"]),
    "norm_at_the_front": " ".join(["embedding", "norm", *LAYERED, *ORDER[11:]]),
    "k_and_v_exchanged": " ".join(ORDER).replace("wk wv", "wv wk"),
    "q_last": " ".join(ORDER).replace("wq wk wv", "wk wv wq"),
    "o_first": " ".join(ORDER).replace("wq wk wv wo", "wo wq wk wv"),
}
for _name, _order in ORDERS.items():
    variant(_name, None, of=another_order, order=_order.split())
tables_forgotten = variant(
    "tables_forgotten",
    """The head is looked for right behind norm. Between them stand the two rotary tables, cosine and sine,
    of length * D / 2 numbers each. Nobody needs them any more, and the file still has them.

    How many numbers do they take when the longest text has 2 tokens and D is 2?
    """,
    tables=0,
)
variant("one_table", None, of=tables_forgotten, tables=1)
variant(
    "tables_twice_as_large",
    None,
    of=tables_forgotten,
    change=lambda data, table: {
        n: (table[n][0], 2 * table[n][1]) for n in ("cos", "sin")
    },
    beyond=True,
)
variant(
    "tables_for_all_channels",
    None,
    of=tables_forgotten,
    change=lambda data, table: {
        n: (table[n][0], table["norm"][0]) for n in ("cos", "sin")
    },
    beyond=True,
)


@exercise.wrong("train-it")
def never_tied_apart(data, name, layer):
    """The head is always the embedding here. It is that only if the number of tokens in the header is above
    0; a negative one says that the head is a tensor of its own, at the end of the file.

    What is the sixth number of the header, and what is its sign?
    """
    return read_tensor(data, "embedding" if name == "head" else name, layer)


@exercise.wrong("train-it")
def tied_the_wrong_way(data, name, layer):
    """A head that is tied is looked for at the end of the file, where there is none. A number of tokens above 0 in
    the header says that head and embedding are one tensor; below 0, that the head is one of its own.

    Where does a tied head stand in the file?
    """
    _, tied, _ = shapes(data)
    if name != "head":
        return read_tensor(data, name, layer)
    if not tied:
        return read_tensor(data, "embedding", layer)
    at, shape = place(data, name, layer, tie=False)
    return taken(data, at, shape)


variant(
    "tied_head_looked_for_at_the_end",
    None,
    of=tied_the_wrong_way,
    tie=False,
    beyond=True,
)


@exercise.also(tied_the_wrong_way)
def tied_head_taken_from_the_end(data, name, layer):
    if name != "head":
        return read_tensor(data, name, layer)
    _, _, table = shapes(data)
    n = torch.Size(table["head"]).numel()
    return floats(data)[-n:].view(table["head"])


@exercise.wrong("train-it")
def always_the_first_layer(data, name, layer):
    """The tensor of layer 0 comes back, whatever layer is asked for.

    How far is layer 1 from layer 0 of the same name?
    """
    return read_tensor(data, name, 0)


layers_counted_from_1 = variant(
    "layers_counted_from_1",
    """The next layer comes back (or what stands behind the last one). Layers are counted from 0.

    How many tensors of the same name stand before that of layer 0?
    """,
    later=1,
    beyond=True,
)


@exercise.wrong("train-it")
def always_from_the_start(data, name, layer):
    """The shape is right, and the numbers are always the first of the file: those of the embedding.

    How many numbers stand before the tensor that is asked for?
    """
    _, shape = place(data, name, layer)
    return taken(data, 0, shape)


@exercise.wrong("train-it")
def most_significant_byte_first(data, name, layer):
    """The bytes of each number are read in the wrong order. The file is little-endian: the least
    significant byte comes first, which `<` says in `struct` and in numpy.

    What do the four bytes of the first number say, read the one way and the other?
    """
    at, shape = place(data, name, layer)
    n = torch.Size(shape).numel()
    numbers = struct.unpack_from(f">{n}f", data, 28 + 4 * at)
    return torch.tensor(numbers, dtype=torch.float32).view(shape)


@exercise.wrong("train-it")
def whole_numbers_for_floats(data, name, layer):
    """The bytes are read as whole numbers. Only the header has whole numbers; the weights are floats of
    4 bytes.

    Which letter says "float" to `struct`, and which dtype to `frombuffer`?
    """
    at, shape = place(data, name, layer)
    n = torch.Size(shape).numel()
    numbers = struct.unpack_from(f"<{n}i", data, 28 + 4 * at)
    return torch.tensor(numbers, dtype=torch.float32).view(shape)


@exercise.wrong("train-it")
def read_column_by_column(data, name, layer):
    """The numbers are the right ones, and rows and columns of the matrix are exchanged. The file holds
    row after row, the first row first.

    `.view(rows, columns)` fills row by row. Is there a `.T` too many?
    """
    y = read_tensor(data, name, layer)
    return y.flatten().view(y.shape[::-1]).T if y.ndim == 2 else y


@exercise.wrong("train-it")
def transposed(data, name, layer):
    """The matrix is transposed. A weight of a linear layer has one row for each output, and the file has
    it like that.

    wk leads from C channels to G * D. Which of the two is its number of rows?
    """
    y = read_tensor(data, name, layer)
    return y.T if y.ndim == 2 else y


@exercise.caught_as("wrong-shape")
def left_flat(data, name, layer):
    return read_tensor(data, name, layer).flatten()


@exercise.caught_as("wrong-dtype")
def in_float64(data, name, layer):
    return read_tensor(data, name, layer).double()


@exercise.caught_as("wrong-type")
def a_plain_list(data, name, layer):
    return read_tensor(data, name, layer).tolist()


@exercise.caught_as("wrong-type")
def numpys_array(data, name, layer):
    return read_tensor(data, name, layer).numpy()


@exercise.caught_as("raised")
def sign_not_taken_off(data, name, layer):
    _, tied, table = shapes(data)
    V = table["embedding"][0] if tied else -table["embedding"][0]
    at = 28 + 4 * V * table["norm"][0]
    if name in ("norm1",):
        n = table["norm"][0]
        numbers = struct.unpack_from(f"<{n}f", data, at + 4 * n * layer)
        return torch.tensor(numbers)
    if not tied:
        return torch.empty(V, 1)
    return read_tensor(data, name, layer)


@exercise.caught_as("forbidden-call")
def by_the_package(data, name, layer):
    from babygpt_course.checkpoint import HEADER

    assert HEADER.size == 28
    return read_tensor(data, name, layer)

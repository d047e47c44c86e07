"""13.5: round column by column, and let the columns that are left make up for it."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="13_quantization",
    id="13.5",
    title="Let the later columns make up for it",
    kind="stretch",
    points=3,
    minutes=11,
    anchor="why-it-works",
    rules=(
        forbid(
            "round_with_feedback gptq nearest quantize",
            "`torch.linalg.solve` and `round` are all you need.",
        ),
    ),
    equivalent={
        "W, H, s = (W.double().clone(), H.double(), scale.double()[:, -1])": "That axis "
        "has one entry: the first is the last.",
        "codes = torch.ones_like(W)": "Every column of it is written.",
        "c = torch.linalg.solve(H[F, F], H[i, F])": "H is symmetric.",
    },
    hints="""
    Column i was rounded, and the output of the layer now lacks error times input i. Which of the
    other inputs could supply something like input i? What does H know about that?

    The best guess of input i from the later inputs F has the coefficients c with H[F, F] c =
    H[F, i]. Add error times c to the later columns of W. The error is the weight as it is now,
    minus code times scale.

    for i in range(n_in): codes[:, i] = (W[:, i] / scale).round().clamp(low, high); error = W[:, i] -
    scale * codes[:, i]; if columns are left: c = torch.linalg.solve(H[i+1:, i+1:], H[i+1:, i]);
    W[:, i+1:] += error[:, None] * c. W is a copy, and scale is flat here.
    """,
)


@exercise.oracle
def round_columns(W, H, scale, bits):
    rows, h = W.double().tolist(), H.double().tolist()
    n, low, high = len(h), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    out = []
    for row, (s,) in zip(rows, scale.double().tolist()):
        row, codes = list(row), []
        for i in range(n):
            codes.append(min(max(round(row[i] / s), low), high))
            error = row[i] - codes[i] * s
            later = range(i + 1, n)
            share = solved(
                [[h[j][k] for k in later] for j in later], [h[j][i] for j in later]
            )
            for j, c in zip(later, share):
                row[j] += error * c
        out.append(codes)
    return torch.tensor(out, dtype=torch.int8)


def solved(A, b):
    """x with A x = b for a positive definite A, by elimination."""
    n = len(b)
    rows = [[*row, right] for row, right in zip(A, b)]
    for i in range(n):
        for j in range(i + 1, n):
            by = rows[j][i] / rows[i][i]
            rows[j] = [y - by * x for x, y in zip(rows[i], rows[j])]
    x = [0.0] * n
    for i in reversed(range(n)):
        known = sum(rows[i][j] * x[j] for j in range(i + 1, n))
        x[i] = (rows[i][n] - known) / rows[i][i]
    return x


def random_case(n_out, n_in, bits, seed, dtype=torch.float64, reach=1.0):
    """Inputs that move together, and the scale of each row from its largest weight."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes):
        return torch.randn(sizes, generator=generator, dtype=torch.float64)

    x = normal(200, 2) @ normal(2, n_in) + 0.5 * normal(200, n_in)
    W = normal(n_out, n_in)
    scale = reach * W.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    H = x.T @ x / len(x)
    return W.to(dtype), H.to(dtype), scale.to(dtype), bits


@exercise.cases
def cases():
    one = torch.ones(1, 1, dtype=torch.float64)

    def numbers(*rows):
        return torch.tensor(rows, dtype=torch.float64)

    both = numbers([1.0, 1.0], [1.0, 2.0])
    yield Case((numbers([1.4, 0.4]), both, one, 4))
    yield Case((numbers([1.4, 1.4]), numbers([1.0, 0.0], [0.0, 1.0]), one, 4), "apart")
    yield Case(
        (numbers([0.4, 2.3]), numbers([4.0, -3.0], [-3.0, 4.0]), one, 4), "opposed"
    )
    alike = numbers([1.0, 0.999], [0.999, 1.0])
    yield Case((numbers([0.4, 0.103]), alike, one, 4), "nearly the same input")
    yield Case((numbers([1.4]), one, one, 3), "one column")
    yield Case(
        (
            numbers([1.3, 0.3, -0.6], [2.8, 2.8, 1.1]),
            numbers([3.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 5.0]),
            numbers([1.0], [0.5]),
            4,
        )
    )
    yield Case(
        (numbers([3.4, 3.3]), numbers([1.0, 0.9], [0.9, 1.0]), one, 3), "at the end"
    )
    yield Case(
        (numbers([-4.4, -3.8]), numbers([1.0, 0.9], [0.9, 1.0]), one, 3), "at the end"
    )
    sizes = [(2, 4, 4), (3, 5, 3), (4, 3, 2), (2, 9, 4), (5, 7, 8)]
    for seed, (n_out, n_in, bits) in enumerate(sizes):
        yield Case(random_case(n_out, n_in, bits, seed))
        yield Case(random_case(n_out, n_in, bits, seed, torch.float32), "float32")
    yield Case(random_case(3, 6, 3, 21, reach=0.5), "codes run out")
    W, H, scale, bits = random_case(5, 5, 3, 9)
    yield Case((W.T[::2], H.T, scale[::2], bits), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def solve(H, i):
    """How much each later column takes of the error of column i."""
    return torch.linalg.solve(H[i + 1 :, i + 1 :], H[i + 1 :, i])


def rounded(
    W,
    H,
    scale,
    bits,
    take=solve,
    order=None,
    clamp=True,
    error=None,
    sign=1,
    code=torch.round,
    ends=None,
):
    """The code of the answer, of which one part at a time is replaced."""
    first, W, H, s = W, W.double().clone(), H.double(), scale.double()[:, 0]
    low, high = ends or (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    codes = torch.zeros_like(W)
    for i in range(W.shape[1]) if order is None else order(W):
        steps = code(W[:, i] / s)
        codes[:, i] = steps.clamp(low, high) if clamp else steps
        e = W[:, i] - s * codes[:, i]
        if error is not None:
            e = error(e, first.double()[:, i], s, codes[:, i])
        if i + 1 < W.shape[1]:
            W[:, i + 1 :] += sign * e[:, None] * take(H, i)
    return codes.long().to(torch.int8)


@exercise.right
def by_solving(*args):
    return rounded(*args)


@exercise.right
def by_cholesky(W, H, scale, bits):
    W, H, scale = W.double().clone(), H.double(), scale.double()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
    U = torch.linalg.cholesky(inverse, upper=True)
    codes = []
    for i in range(W.shape[1]):
        w = W[:, i : i + 1]
        codes.append((w / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
        error = (w - codes[-1] * scale) / U[i, i]
        W = torch.cat([W[:, : i + 1], W[:, i + 1 :] - error * U[i, i + 1 :]], 1)
    return torch.cat(codes, 1).to(torch.int8)


@exercise.right
def by_the_inverse_of_what_is_left(*args):
    def take(H, i):
        inverse = torch.linalg.inv(H[i:, i:])
        return -inverse[0, 1:] / inverse[0, 0]

    return rounded(*args, take=take)


@exercise.right
def row_by_row(W, H, scale, bits):
    rows = [rounded(w[None], H, s[None], bits) for w, s in zip(W, scale)]
    return torch.cat(rows)


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("why-it-works")
def to_nearest(*args):
    """Every weight is rounded to its nearest code, and nothing makes up for the errors.

    The error of column 0 has to reach the later columns before *they* are rounded. Does W change in your
    loop?
    """
    return rounded(*args, sign=0)


@exercise.wrong("why-it-works")
def error_with_the_wrong_sign(*args):
    """The later columns make the error larger: it is added with the wrong sign. What was taken away from one weight
    has to be given to another.

    A weight of 1.4 becomes 1. Should a later column that moves the same way get more, or less?
    """
    return rounded(*args, sign=-1)


@exercise.wrong("why-it-works")
def h_itself(*args):
    """The error is shared out in proportion to H. H says how inputs move together; what each later input can *supply*
    also depends on what the other later ones supply already.

    Which linear system do the best coefficients solve? Which part of H is on its left side?
    """

    def take(H, i):
        return H[i + 1 :, i] / H[i, i]

    return rounded(*args, take=take)


@exercise.also(h_itself)
def h_not_even_divided(*args):
    return rounded(*args, take=lambda H, i: H[i + 1 :, i])


@exercise.also(h_itself)
def each_by_itself(*args):
    return rounded(*args, take=lambda H, i: H[i + 1 :, i] / H.diagonal()[i + 1 :])


@exercise.wrong("why-it-works")
def inverse_of_all(*args):
    """The inverse of the whole H is used in every step. It lets columns help that are rounded already, and they cannot
    move any more.

    After column 1 is rounded, which inputs are left? H of which of them has to be inverted?
    """

    def take(H, i):
        inverse = torch.linalg.inv(H)
        return -inverse[i, i + 1 :] / inverse[i, i]

    return rounded(*args, take=take)


@exercise.also(inverse_of_all)
def inverse_of_all_not_divided(*args):
    return rounded(*args, take=lambda H, i: -torch.linalg.inv(H)[i, i + 1 :])


@exercise.also(inverse_of_all)
def inverse_of_all_not_divided_and_not_negative(*args):
    return rounded(*args, take=lambda H, i: torch.linalg.inv(H)[i, i + 1 :])


@exercise.wrong("why-it-works")
def inverse_not_divided(*args):
    """A row of the inverse is used as it is. It has to be divided by its entry for column i, which says how much of input i
    the others leave open.

    With H [[2, 1], [1, 2]] the best guess of one input is half of the other. Is your share a half?
    """
    return rounded(*args, take=lambda H, i: -torch.linalg.inv(H[i:, i:])[0, 1:])


@exercise.wrong("why-it-works")
def damped(*args):
    """Something was added to the diagonal of H. That keeps a system solvable when inputs are all alike; here every part of H
    has an inverse, and the shares come out a little too small.

    With H [[1, 0.999], [0.999, 1]], how much of the error does column 1 take?
    """
    W, H, scale, bits = args
    more = 0.01 * H.diagonal().mean() * torch.eye(len(H), dtype=H.dtype)
    return rounded(W, H + more, scale, bits)


@exercise.wrong("why-it-works")
def scale_found_anew(W, H, scale, bits):
    """The scale is computed anew from the changed weights. The scale that was handed in stays as it is: the codes are stored
    with that one.

    With which number will a code be multiplied when the layer is used?
    """
    W, H = W.double().clone(), H.double()
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = torch.zeros_like(W)
    for i in range(W.shape[1]):
        s = W.abs().amax(1) / high
        codes[:, i] = (W[:, i] / s).round().clamp(low, high)
        error = W[:, i] - s * codes[:, i]
        W[:, i + 1 :] += error[:, None] * solve(H, i)
    return codes.to(torch.int8)


@exercise.wrong("why-it-works")
def last_column_left_out(*args):
    """The loop ends one column too early, so the last one has no codes. It has nobody left to make up for its error, and is
    rounded all the same.

    How many columns are rounded when `n_in` is 1?
    """
    return rounded(*args, order=lambda W: range(W.shape[1] - 1))


@exercise.wrong("why-it-works")
def all_to_the_next(*args):
    """The whole error is handed to the next column, as if its input were the same. Another input is like it only in
    part, and some are like its opposite.

    What should happen when H has only zeros beside its diagonal?
    """

    def take(H, i):
        share = torch.zeros(len(H) - i - 1, dtype=H.dtype)
        share[0] = 1
        return share

    return rounded(*args, take=take)


@exercise.wrong("why-it-works")
def only_the_next(*args):
    """Only the next column makes up for the error. All later ones are still free.

    How many coefficients has the linear system after column 0 of five?
    """

    def take(H, i):
        share = torch.zeros(len(H) - i - 1, dtype=H.dtype)
        share[0] = H[i + 1, i] / H[i + 1, i + 1]
        return share

    return rounded(*args, take=take)


@exercise.also(only_the_next)
def only_the_next_of_its_share(*args):
    def take(H, i):
        share = solve(H, i)
        share[1:] = 0
        return share

    return rounded(*args, take=take)


@exercise.wrong("why-it-works")
def in_equal_shares(*args):
    """Every later column gets the same share of the error. How much one can supply depends on how its input moves with
    that of the rounded column: that is in H.

    What should happen when H has only zeros beside its diagonal?
    """

    def take(H, i):
        n = len(H) - i - 1
        return torch.full((n,), 1 / n, dtype=H.dtype)

    return rounded(*args, take=take)


@exercise.wrong("why-it-works")
def error_of_the_first_weight(*args):
    """The error is counted from the weight as it was at the start. When column i is rounded it has already taken over
    parts of earlier errors, and those are to be passed on as well.

    Which of the two is rounded: the weight from the start, or the one that the loop has changed?
    """
    return rounded(*args, error=lambda e, w, s, q: w - s * q)


@exercise.wrong("why-it-works")
def error_in_steps(*args):
    """The error is counted in steps, and W is in weights: it lacks the scale.

    A weight of 0.7 with the scale 0.5 gets the code 1. How large is the error?
    """
    return rounded(*args, error=lambda e, w, s, q: e / s)


@exercise.also(error_in_steps)
def error_of_code_and_weight(*args):
    return rounded(*args, error=lambda e, w, s, q: e + s * q - q)


@exercise.wrong("why-it-works")
def from_the_last_column(*args):
    """The columns are rounded from the last one to the first, so the others are asked to make up for errors too late.

    Which column comes first, and which are free then?
    """
    return torch.flip(
        rounded(
            torch.flip(args[0], (1,)),
            torch.flip(args[1], (0, 1)),
            args[2],
            args[3],
        ),
        (1,),
    )


@exercise.wrong("why-it-works")
def codes_without_an_end(*args):
    """A weight that took over too much gets a code that its bits do not have. Clamp the codes, and pass on the error that
    is left.

    Which are the smallest and the largest code with 3 bits?
    """
    return rounded(*args, clamp=False)


@exercise.also(codes_without_an_end)
def twice_as_many_codes(W, H, scale, bits):
    return rounded(W, H, scale, bits, ends=(-(2**bits), 2**bits - 1))


@exercise.wrong("why-it-works")
def clamped_after_the_loop(W, H, scale, bits):
    """The codes are clamped at the end, when all columns are done. What the clamp takes away is an error too, and the
    later columns never hear of it.

    Where does the clamp belong: before the error is computed, or after it?
    """
    codes = rounded(W, H, scale, bits, clamp=False)
    return codes.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@exercise.wrong("why-it-works")
def lowest_code_unused(W, H, scale, bits):
    """The lowest code is never used. When a weight grows beyond the others it is needed: the codes go from
    -2^(bits - 1).

    Which are the smallest and the largest code with 3 bits?
    """
    top = 2 ** (bits - 1) - 1
    return rounded(W, H, scale, bits, ends=(-top, top))


@exercise.wrong("why-it-works")
def codes_from_zero(W, H, scale, bits):
    """The codes begin at 0, so every negative weight becomes 0. These codes have no zero point: they have a sign.

    Which are the smallest and the largest code with 3 bits?
    """
    return rounded(W, H, scale, bits, ends=(0, 2**bits - 1))


@exercise.wrong("by-hand")
def cut_off_instead_of_rounded(*args):
    """The digits are cut off, and not rounded. The others can make up for some of that, and rounding leaves them less to
    do.

    Which whole number is nearest to 1.6?
    """
    return rounded(*args, code=torch.trunc)


@exercise.also(cut_off_instead_of_rounded)
def cut_off_by_the_conversion(*args):
    return rounded(*args, code=lambda steps: steps.long().to(torch.int8).double())


@exercise.also(cut_off_instead_of_rounded)
def rounded_down(*args):
    return rounded(*args, code=torch.floor)


@exercise.wrong("why-it-works")
def all_rounded_and_then_repaired(W, H, scale, bits):
    """All columns are rounded first, and then all errors are made up for at once, by columns that are no longer free. What
    is rounded again afterward has new errors.

    In the loop, which columns are rounded already when column i is, and which are not?
    """
    W, H, s = W.double(), H.double(), scale.double()
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    error = W - s * (W / s).round().clamp(low, high)
    W = W.clone()
    for i in range(W.shape[1] - 1):
        W[:, i + 1 :] += error[:, i : i + 1] * solve(H, i)
    return (W / s).round().clamp(low, high).to(torch.int8)


@exercise.caught_as("modified-input")
def writes_into_w(W, H, scale, bits):
    codes = rounded(W, H, scale, bits)
    W[:, -1] += 0.1
    return codes


@exercise.caught_as("wrong-dtype")
def codes_as_floats(*args):
    return rounded(*args).to(args[0].dtype)


@exercise.caught_as("wrong-dtype")
def weights_instead_of_codes(*args):
    return rounded(*args) * args[2]


@exercise.caught_as("wrong-shape")
def transposed(*args):
    return rounded(*args).T


@exercise.caught_as("wrong-type")
def codes_and_weights(*args):
    return rounded(*args), args[0]


@exercise.caught_as("returned-none")
def printed(*args):
    print(rounded(*args))


@exercise.caught_as("raised")
def scale_as_a_column(W, H, scale, bits):
    codes = torch.zeros_like(W)
    codes[:, 0] = (W[:, 0] / scale[:, :, None, None]).round()[..., 0]
    return codes[:, :, None] @ H[:, :, None]


@exercise.caught_as("forbidden-call")
def by_the_package(W, H, scale, bits):
    from babygpt_course.quantize import round_with_feedback

    half = 2 ** (bits - 1)
    zero = torch.full_like(scale, half)
    return (round_with_feedback(W, H, scale, zero, bits, damp=0.0) - half).to(
        torch.int8
    )

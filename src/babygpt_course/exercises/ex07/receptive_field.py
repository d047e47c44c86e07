"""07.4: how much of the image one output of a stack of convolutions sees."""

from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="07_spatial_attention",
    id="07.4",
    title="How far does it see?",
    kind="implement",
    points=3,
    minutes=10,
    anchor="why-it-works",
    hints="""
    One 3x3 convolution sees 3 pixels along a side. What does a second one on top add: 3 more,
    or fewer? Draw the five pixels.

    Let `step` be how many pixels of the image lie between two neighbors of the current layer.
    A kernel of size k reaches over k - 1 such steps: the side grows by (k - 1) * step. After
    that the layer's stride makes the step larger.

    side = 1, step = 1. For each layer, from the image upward: side += (kernel - 1) * step;
    then step *= stride. Give back side.
    """,
)


@exercise.oracle
def receptive_field(layers):
    """From one output down to the image: which pixels of each layer are needed?"""
    pixels = {0}
    for kernel, stride in reversed(layers):
        pixels = {at * stride + k for at in pixels for k in range(kernel)}
    return max(pixels) - min(pixels) + 1


@exercise.cases
def cases():
    yield Case(([(3, 1)],))
    yield Case(([(3, 1), (3, 1)],))
    yield Case(([],), "no layer")
    yield Case(([(5, 1), (3, 1)],))
    yield Case(([(1, 1)],))
    yield Case(([(3, 2)],))
    yield Case(([(3, 2), (3, 1)],))
    yield Case(([(3, 1), (3, 2)],))
    yield Case(([(4, 2), (5, 1)],))
    yield Case(([(3, 2), (3, 2), (3, 1)],))
    yield Case(([(3, 2), (3, 3), (3, 2), (2, 1)],))
    yield Case(([(1, 1), (3, 1), (1, 1)],))
    yield Case(([(2, 2), (2, 2), (2, 2)],), "each pixel once")
    yield Case(([(1, 2), (3, 1)],), "gaps between the pixels")
    yield Case(([(2, 3), (1, 2), (4, 3), (3, 1)],), "gaps between the pixels")
    yield Case(([(3, 1)] * 20,), "deep")
    yield Case(([(3, 2), (3, 1), (5, 1), (4, 3), (2, 1), (3, 2), (3, 1)],), "deep")


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def from_the_output_down(layers):
    side = 1
    for kernel, stride in layers[::-1]:
        side = (side - 1) * stride + kernel
    return side


@exercise.right
def by_recursion(layers):
    if not layers:
        return 1
    (kernel, stride), *rest = layers
    return kernel + stride * (receptive_field(rest) - 1)


@exercise.right
def sum_with_products(layers):
    import math

    return 1 + sum(
        (kernel - 1) * math.prod(s for _, s in layers[:n])
        for n, (kernel, _) in enumerate(layers)
    )


@exercise.right
def by_gradient(layers):
    """Ask autograd which pixels matter: one row of an image is enough."""
    import torch

    x = torch.zeros(1, 1, 3000, requires_grad=True)
    y = x
    for kernel, stride in layers:
        weight = torch.ones(1, 1, kernel)
        y = torch.nn.functional.conv1d(y, weight, stride=stride)
    y[0, 0, 0].backward()
    seen = x.grad[0, 0].nonzero()
    return int(seen.max() - seen.min()) + 1


# --- wrong, each with the misconception behind it -------------------------------------


def grown(layers, start=1, add=lambda kernel, step: (kernel - 1) * step):
    side, step = start, 1
    for kernel, stride in layers:
        side += add(kernel, step)
        step *= stride
    return side


@exercise.wrong("why-it-works")
def kernels_added_up(layers):
    """The kernels are added up whole. Neighbors overlap: of three pixels that the next layer
    reads, each already sees its own neighborhood.

    Draw two 3x3 layers along one line. How many pixels does the topmost one reach: six, or
    five?
    """
    return grown(layers, 0, lambda kernel, step: kernel * step)


@exercise.also(kernels_added_up)
def kernels_added_to_the_one(layers):
    return grown(layers, 1, lambda kernel, step: kernel * step)


@exercise.also(kernels_added_up)
def kernels_added_up_without_strides(layers):
    return sum(kernel for kernel, _ in layers)


@exercise.also(kernels_added_up)
def kernels_added_up_or_one(layers):
    return sum(kernel for kernel, _ in layers) or 1


@exercise.also(kernels_added_up)
def kernels_added_up_with_strides_or_one(layers):
    return grown(layers, 0, lambda kernel, step: kernel * step) or 1


@exercise.wrong("why-it-works")
def own_pixel_forgotten(layers):
    """One is missing: the pixel itself. With no layer at all an output is a pixel and sees 1.

    Before the first layer, how many pixels does a pixel see?
    """
    return grown(layers, 0)


@exercise.wrong("why-it-works")
def strides_ignored(layers):
    """The strides are not used. Behind a layer of stride 2, two neighbors are 2 pixels of the
    image apart, so the next kernel reaches twice as far.

    For [(3, 2), (3, 1)] write down which pixels each of the three inputs of the last layer
    sees. From the first to the last, how many?
    """
    return grown([(kernel, 1) for kernel, _ in layers])


@exercise.wrong("why-it-works")
def stride_counted_in_its_own_layer(layers):
    """The stride of a layer is counted in the layer itself. It says how far apart its *outputs*
    are, so it matters for the layers above.

    One output of a single 3x3 layer of stride 2: how many pixels does it read? In which order
    do your two lines stand?
    """
    side, step = 1, 1
    for kernel, stride in layers:
        step *= stride
        side += (kernel - 1) * step
    return side


@exercise.wrong("why-it-works")
def only_the_stride_below(layers):
    """Only the stride of the layer right below is counted. Strides multiply: behind two layers
    of stride 2, neighbors are 4 pixels of the image apart.

    What do you do to `step`: replace it, or multiply it?
    """
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step
        step = stride
    return side


@exercise.wrong("why-it-works")
def only_its_own_stride(layers):
    """Each layer is multiplied by its own stride, and by nothing else. What counts for a layer
    are the strides of all layers below it.

    How far apart in the image are two neighbors of what a layer *reads*?
    """
    return 1 + sum((kernel - 1) * stride for kernel, stride in layers)


@exercise.wrong("why-it-works")
def strides_added_up(layers):
    """The strides are added up; they multiply. Behind two layers of stride 2, neighbors are 4
    pixels apart, and behind three they are 8.

    Every second of every second pixel: how far is that?
    """
    side, step = 1, 0
    for kernel, stride in layers:
        side += (kernel - 1) * max(step, 1)
        step += stride
    return side


@exercise.also(strides_added_up)
def strides_added_to_the_one(layers):
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step
        step += stride
    return side


@exercise.also(strides_added_up)
def strides_added_less_one(layers):
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step
        step += stride - 1
    return side


@exercise.wrong("why-it-works")
def layers_in_the_wrong_order(layers):
    """The layers are taken in the wrong order, as if the last one read the image.

    The first of the list stands next to the image. With stride 2 in the first layer, which
    layers reach further for it: those before it, or those behind?
    """
    return grown(layers[::-1])


@exercise.also(layers_in_the_wrong_order)
def from_the_output_down_in_the_wrong_order(layers):
    side = 1
    for kernel, stride in layers:
        side = (side - 1) * stride + kernel
    return side


@exercise.wrong("why-it-works")
def side_multiplied_by_the_stride(layers):
    """The whole side is multiplied by the stride. Between n pixels there are only n - 1 gaps,
    and those are what a stride makes wider.

    Two pixels that are 2 apart: how many pixels of the image do they span?
    """
    side = 1
    for kernel, stride in reversed(layers):
        side = side * stride + kernel - 1
    return side


@exercise.also(side_multiplied_by_the_stride)
def side_times_the_stride_upward(layers):
    side = 1
    for kernel, stride in layers:
        side = (side + kernel - 1) * stride
    return side


@exercise.wrong("why-it-works")
def kernels_multiplied(layers):
    """The kernels are multiplied. That would be right if each layer's windows did not overlap;
    with stride 1 they move by one pixel.

    Two 3x3 layers along one line: write down what each of the three inputs of the second one
    sees. Is that 9 different pixels?
    """
    side = 1
    for kernel, _ in layers:
        side *= kernel
    return side


@exercise.wrong("why-it-works")
def even_kernels_rounded_up(layers):
    """A kernel is counted as k // 2 pixels at each end of the middle one. An even kernel has no
    middle: that makes it one larger than it is.

    From the first to the last of 4 pixels, how many steps are there?
    """
    return grown(layers, 1, lambda kernel, step: 2 * (kernel // 2) * step)


@exercise.wrong("why-it-works")
def area_instead_of_side(layers):
    """That is the number of pixels in the square; asked for is its side.

    A 3x3 convolution reads 9 pixels. How long is the side?
    """
    return receptive_field(layers) ** 2


@exercise.wrong("why-it-works")
def largest_kernel(layers):
    """That is the largest kernel (or that of one layer). Layers on top of each other see
    further than each by itself.

    The second layer reads the outputs of the first. What do those know of the image?
    """
    return max((kernel for kernel, _ in layers), default=1)


@exercise.also(largest_kernel)
def kernel_of_the_last_layer(layers):
    return layers[-1][0] if layers else 1


@exercise.wrong("why-it-works")
def nothing_without_layers(layers):
    """Without a layer the answer is 1: an output is a pixel then, and sees itself.

    What does your function give back when the loop has nothing to do?
    """
    return receptive_field(layers) if layers else 0


@exercise.wrong("why-it-works")
def gaps_not_counted(layers):
    """The pixels that are skipped are not counted. Asked for is the side of the whole square,
    from the first pixel to the last one.

    A stride larger than the kernel leaves gaps. They lie inside the square all the same.
    """
    pixels = {0}
    for kernel, stride in reversed(layers):
        pixels = {at * stride + k for at in pixels for k in range(kernel)}
    return len(pixels)


@exercise.caught_as("wrong-type")
def true_division(layers):
    return float(receptive_field(layers))


@exercise.caught_as("wrong-type")
def both_sides(layers):
    return (receptive_field(layers), receptive_field(layers))


@exercise.caught_as("returned-none")
def printed_not_returned(layers):
    print(receptive_field(layers))


@exercise.caught_as("modified-input")
def layers_taken_away(layers):
    side = 1
    while layers:
        kernel, stride = layers.pop()
        side = (side - 1) * stride + kernel
    return side


@exercise.caught_as("raised")
def first_layer_by_itself(layers):
    side, step = layers[0]
    for kernel, stride in layers[1:]:
        side += (kernel - 1) * step
        step *= stride
    return side


@exercise.caught_as("remembers")
def side_that_lives_on(layers, side=[1]):  # noqa: B006
    side[0] += receptive_field(layers) - 1
    return side[0]

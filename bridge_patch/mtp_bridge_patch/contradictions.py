"""What is wrong with a checkpoint's routed experts: keys, shapes and config against each other."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from mtp_bridge_patch.declaration import Declaration
from mtp_bridge_patch.expert_keys import Block, ExpertKeys, Layer, LayerExperts, listed
from mtp_bridge_patch.expert_layout import PROJECTIONS, SCALE_SUFFIX, ExpertLayout
from mtp_bridge_patch.headers import TensorHeader

Tensors = Mapping[str, TensorHeader]
Layers = Mapping[Layer, LayerExperts]

_FP8_BLOCK = 128
_NOTHING = Declaration()


def problems(found: ExpertKeys, tensors: Tensors, declaration: Declaration | None) -> Iterator[str]:
    """Say everything that is wrong.

    Args:
        found: The checkpoint's keys.
        tensors: Shapes and dtypes by name; empty if only keys are known.
        declaration: What the config says; None if there is none.
    """
    declared = declaration or _NOTHING
    layers = {layer: found.layers[layer] for layer in sorted(found.layers)}
    for layer, experts in layers.items():
        yield from (f"{layer}: {problem}" for problem in experts.problems(declared.num_experts or None))
    for block in Block:
        yield from _mixed_layers(block, layers)
    if declaration:
        yield from _undeclared(found, layers, declaration)
    if tensors:
        sizes = _Sizes(declared, tensors)
        for layer, experts in layers.items():
            if wrong := list(sizes.wrong(experts)):
                yield f"{layer}: shapes or dtypes of {listed(wrong)}"


def _mixed_layers(block: Block, layers: Layers) -> Iterator[str]:
    by_layout: dict[ExpertLayout, list[int]] = {}
    for layer, experts in layers.items():
        if layer.block is block:
            by_layout.setdefault(experts.layout, []).append(layer.number)
    if len(by_layout) > 1:
        parts = (f"{layout} in {_numbers(numbers)}" for layout, numbers in by_layout.items())
        yield f"{block}: layers of both layouts: {', '.join(parts)}"


def _undeclared(found: ExpertKeys, layers: Layers, declared: Declaration) -> Iterator[str]:
    expected = declared.mtp_layers or 0
    if expected and not found.has_mtp:
        plural = "s" * (expected > 1)
        yield f"MTP: config.json declares {expected} MTP layer{plural}, and there is no MTP tensor"
    elif found.has_mtp and not expected:
        yield "MTP: there are MTP tensors, and config.json declares no MTP layer"
    elif expected:
        yield from _numbering("MTP", found.mtp_layers, expected)
    if declared.num_experts == 0 and layers:
        yield f"config.json declares no routed experts, and {_numbers(layers)} have some"
    elif declared.num_experts:
        bare = [str(Layer(Block.MTP, number)) for number in sorted(found.mtp_layers)]
        bare = [name for name in bare if name not in set(map(str, layers))]
        if bare:
            yield f"no routed experts in {', '.join(bare)}"
        if declared.num_hidden_layers is not None:
            with_experts = {layer.number for layer in layers if layer.block is Block.DECODER}
            yield from _numbering("decoder", with_experts, declared.num_hidden_layers)


def _numbering(block: str, present: set[int], expected: int) -> Iterator[str]:
    inside = sum(number < expected for number in present)
    if inside < expected:
        yield f"{block}: {expected - inside} of the {expected} layers of config.json are missing"
    if beyond := sorted(number for number in present if number >= expected):
        yield f"{block}: {_numbers(beyond)} beyond the {expected} of config.json"


def _numbers(numbers: Iterable[object]) -> str:
    shown = list(numbers)
    more = ", ..." if len(shown) > 3 else ""
    return f"layer{'s' * (len(shown) > 1)} {', '.join(map(str, shown[:3]))}{more}"


class _Sizes:
    """The shapes that routed experts should have: the config's, and where it says nothing, the first seen."""

    def __init__(self, declared: Declaration, tensors: Tensors) -> None:
        self._tensors = tensors
        self._sizes: dict[str, int | None] = {
            "experts": declared.num_experts or None,
            "width": declared.moe_intermediate_size,
            "hidden": declared.hidden_size,
        }

    def wrong(self, experts: LayerExperts) -> Iterator[str]:
        """Yield the keys whose shape or dtype is wrong."""
        fp8 = experts.layout is ExpertLayout.FP8_PER_EXPERT
        for name in sorted(experts.packed):
            rows = ("2 * width", "hidden") if name == "gate_up_proj" else ("hidden", "width")
            yield from self._check(experts.prefix + name, ("experts", *rows), _is_plain)
        for expert in sorted(experts.single):
            for projection in (name for name in PROJECTIONS if name in experts.single[expert]):
                shape = ("hidden", "width") if projection == "down" else ("width", "hidden")
                key = experts.key(expert, projection)
                yield from self._check(key, shape, _is_fp8 if fp8 else _is_plain)
                yield from self._check_scale(key)

    def _check(
        self, key: str, dimensions: tuple[str, ...], dtype_fits: Callable[[str], bool]
    ) -> Iterator[str]:
        tensor = self._tensors.get(key)
        if tensor is None:
            return
        fits = len(tensor.shape) == len(dimensions) and dtype_fits(tensor.dtype)
        for dimension, size in zip(dimensions, tensor.shape, strict=False):
            fits = fits and self._fits(dimension, size)
        if not fits:
            yield f"{key} {tensor.dtype} {list(tensor.shape)}"

    def _fits(self, dimension: str, size: int) -> bool:
        factor, _, name = dimension.rpartition(" * ")
        if factor:
            if size % int(factor):
                return False
            size //= int(factor)
        if self._sizes[name] is None:
            self._sizes[name] = size
        return self._sizes[name] == size

    def _check_scale(self, key: str) -> Iterator[str]:
        weight, scale = self._tensors.get(key), self._tensors.get(key + SCALE_SUFFIX)
        if weight and scale and scale.shape != tuple(-(-size // _FP8_BLOCK) for size in weight.shape):
            yield f"{key}{SCALE_SUFFIX} {scale.dtype} {list(scale.shape)}"


def _is_plain(dtype: str) -> bool:
    return dtype in ("BF16", "F16", "F32")


def _is_fp8(dtype: str) -> bool:
    return dtype == "F8_E4M3"

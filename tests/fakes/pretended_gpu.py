"""A GPU that is pretended.

Its tensors say that they lie on cuda:0 and hold a CPU tensor, so that all code for a GPU runs where
there is none.

Devices are compared as torch compares them, numbers are the CPU's, and what a GPU would do is
counted: kernels, copies with their bytes, and the waits of the host. A copy of memory that is not
pinned waits for all work before it, as torch's own does (`aten/src/ATen/native/cuda/Copy.cu`), and
so does reading a value, and an index by a mask. What it cannot show: kernels that CUDA lacks,
cuSOLVER, NCCL, real streams, time.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # inside, it would meet what is put in torch's places
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

import medbench

SOURCE = str(Path(medbench.__file__).resolve().parent)  # of the version that runs
GPU = torch.device("cuda", 0)
#: Operations that wait for the host wherever they run: they read a value, or the shape of their
#: result depends on one.
WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique2",
    "equal",
    "is_nonzero",
    "_linalg_eigh",
    "linalg_eig",
}
WAITING |= {"_linalg_svd", "repeat_interleave.Tensor", "bincount"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
#: Operations without a kernel: they give another view of the same memory, or new memory.
FREE = {
    "detach",
    "lift_fresh",
    "_reshape_alias",
    "alias",
    "empty",
    "empty_strided",
    "empty_like",
    "new_empty",
    "new_empty_strided",
}
FREE |= {
    "_local_scalar_dense",
    "is_same_size",
    "record_stream",
    "is_pinned",
    "_fused_sdp_choice",
    "set_",
}
MADE = {
    "arange",
    "zeros",
    "ones",
    "full",
    "empty",
    "eye",
    "scalar_tensor",
    "rand",
    "randn",
    "empty_strided",
    "linspace",
}
FACTORIES = {
    torch.zeros,
    torch.ones,
    torch.full,
    torch.arange,
    torch.eye,
    torch.rand,
    torch.randn,
    torch.randperm,
    torch.linspace,
}
FACTORIES |= {
    torch.tensor,
    torch.as_tensor,
    torch.zeros_like,
    torch.ones_like,
    torch.empty_like,
    torch.full_like,
    torch.randint,
    torch.scalar_tensor,
}


class Counts:
    """What a GPU was asked to do: `of` kind -> how often, `places` (kind, line of medbench) -> how
    often. `late` counts events that were waited for, whose work lies a batch back. inside: CPU
    seconds that went into pretending, which a GPU would take over.
    """

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self.places: Counter[tuple[str, str]] = Counter()
        self.inside = 0.0

    def add(self, kind: str, n: int = 1) -> None:
        self.of[kind] += n
        self.places[kind, _place()] += 1

    @property
    def waits(self) -> int:
        return sum(n for kind, n in self.of.items() if kind.startswith("waits: "))

    def told(self) -> str:
        """The waits, by the line that asked for each: what a test that fails shows."""
        return "\n".join(
            f"{n} {kind} {place}"
            for (kind, place), n in self.places.most_common()
            if kind.startswith("waits: ")
        )

    def clear(self) -> None:
        self.of.clear()
        self.places.clear()
        self.inside = 0.0


def _place() -> str:
    """The line of medbench that called, and the package below it that did the work."""
    frame, below = sys._getframe(2), ""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(SOURCE):
            return f"{name.removeprefix(SOURCE)[1:]}:{frame.f_lineno}{below}"
        if not below and ("/lightly/" in name or "/timm/" in name):
            below = f" ({name.split('site-packages/')[-1]}:{frame.f_lineno})"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere" + below


_counts: list[Counts] = []
# whether the call of torch at work is of tensors of the GPU: what its C++ makes beside them lies
# there
_inside = [False]


class OnGpu(torch.Tensor):
    """A tensor of the pretended GPU.

    To torch's C++ it lies on the CPU, where its values do; to Python on cuda:0.
    """

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGpu:
        assert not isinstance(inner, OnGpu)
        # a view of a plain tensor must be one, in inference mode, too
        with torch.inference_mode(False):
            made: OnGpu = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device=inner.device,
                requires_grad=inner.requires_grad,
            )
        return made

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGpu({self.inner!r})"

    @property  # type: ignore[override]
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: OnGpu) -> None:
        assert self.shape == value.shape, (self.shape, value.shape)
        self.inner = value.inner

    def numpy(self, **_: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *_: Any) -> Any:
        self.numpy()

    def tolist(self) -> Any:
        _counts[-1].add("waits: tolist")
        return self.inner.tolist()

    def record_stream(self, stream: object) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _on_gpu(device: Any) -> bool:
    return (
        device is not None and not isinstance(device, int) and torch.device(device).type == "cuda"
    )


def _pinned(x: object) -> bool:
    return getattr(x, "_pretended_pinned", False)


def _pin(x: torch.Tensor) -> torch.Tensor:
    x._pretended_pinned = True  # type: ignore[attr-defined]
    return x


def _moved(source: torch.Tensor, to_gpu: bool, non_blocking: bool, host: object) -> None:
    """Count a copy. host: the tensor on the CPU's side."""
    way = "to the GPU" if to_gpu else "to the CPU"
    count = _counts[-1]
    count.of[f"bytes {way}"] += source.numel() * source.element_size()
    count.add(f"copies {way}")
    if not (non_blocking and _pinned(host)):
        count.add(f"waits: copy {way}")


def _check_devices(name: str, flat: list[Any]) -> None:
    """Raises RuntimeError where torch would.

    A scalar of the CPU, and an index of whole numbers, may meet tensors of a GPU.
    """
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    there, here = (
        [x for x in tensors if isinstance(x, OnGpu)],
        [x for x in tensors if not isinstance(x, OnGpu)],
    )
    if not there or not here or name == "copy_":
        return
    if (
        name in INDEXING
        and isinstance(tensors[0], OnGpu)
        and all(not x.dtype.is_floating_point for x in here if x.dim())
    ):
        if any(x.dim() for x in here):
            _counts[-1].add("waits: index of the CPU")
        return
    if any(x.dim() for x in here):
        shapes = [tuple(x.shape) for x in there], [tuple(x.shape) for x in here]
        raise RuntimeError(
            f"Expected all tensors to be on the same device: {name} of cuda {shapes[0]} and cpu {shapes[1]}"
        )


def _count_operation(func: Any, name: str, args: Any, flat: list[Any]) -> None:
    count = _counts[-1]
    if name in WAITING or f"{name}.{func._schema.overload_name}" in WAITING:
        count.add(f"waits: {name}")
    if name in INDEXING and any(
        isinstance(i, OnGpu) and i.dtype in (torch.bool, torch.uint8)
        for i in args[1]
        if i is not None
    ):
        count.add("waits: index by a mask")
    if func.is_view or name in FREE:
        return
    count.add("kernels")
    if any(isinstance(x, OnGpu) and x.dtype == torch.float64 for x in flat):
        count.add("kernels in float64")


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation of torch, of which some argument lies on the GPU."""
    name = func._schema.name.removeprefix("aten::")
    flat, _ = tree_flatten((args, kwargs))
    if not any(isinstance(x, OnGpu) for x in flat):
        out = func(*args, **kwargs)
        made_there = (
            _inside[-1] and name in MADE and not any(isinstance(x, torch.Tensor) for x in flat)
        )
        return OnGpu(out) if made_there and isinstance(out, torch.Tensor) else out
    start = time.thread_time()
    try:
        return _pretend(func, name, args, kwargs, flat)
    finally:
        _counts[-1].inside += time.thread_time() - start


def _pretend(func: Any, name: str, args: Any, kwargs: dict[str, Any], flat: list[Any]) -> Any:
    _check_devices(name, flat)
    to_cpu = False
    if name == "copy_" and isinstance(args[0], OnGpu) != isinstance(args[1], OnGpu):
        blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        to_cpu = not isinstance(args[0], OnGpu)
        _moved(args[1], not to_cpu, blocking, args[0] if to_cpu else args[1])
    elif name not in ("_fused_sdp_choice",):
        _count_operation(func, name, args, flat)
    if name == "_fused_sdp_choice":
        return 0
    plain_args, plain_kwargs = tree_map_only(OnGpu, lambda x: x.inner, (args, kwargs))
    out = func(*plain_args, **plain_kwargs)
    if to_cpu:
        return args[0]
    out = tree_map_only(torch.Tensor, lambda x: x if isinstance(x, OnGpu) else OnGpu(x), out)
    if (
        func._schema.is_mutable
        and args
        and isinstance(args[0], OnGpu)
        and isinstance(out, torch.Tensor)
    ):
        return args[0]
    return return_and_correct_aliasing(func, args, kwargs, out) if func.is_view else out


class _Operations(TorchDispatchMode):
    """Inference mode hides parts of operations from subclasses: here they are seen."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled() and func._can_decompose():
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return _run(func, args, kwargs or {})


class _Calls(TorchFunctionMode):
    """What names a device: torch's own code would look for a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu):
            return _to(func, args, kwargs)
        if func is torch.Tensor.is_pinned:
            return _pinned(args[0])
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(
            args[0], OnGpu
        ):
            args = (args[0], _listed(args[1]), *args[2:])
        if _on_gpu(kwargs.get("device")) or kwargs.get("pin_memory"):
            return _made(func, args, kwargs)
        if (
            func in FACTORIES
            and kwargs.get("device") is not None
            and args
            and isinstance(args[0], OnGpu)
        ):
            return func(args[0].cpu(), *args[1:], **kwargs)
        _inside.append(any(isinstance(x, OnGpu) for x in tree_flatten((args, kwargs))[0]))
        try:
            out = func(*args, **kwargs)
        finally:
            _inside.pop()
        if (
            args
            and _pinned(args[0])
            and type(out) is torch.Tensor
            and out.untyped_storage().data_ptr() == args[0].untyped_storage().data_ptr()
        ):
            _pin(out)
        return out


def _listed(index: Any) -> Any:
    """An index with lists as tensors of the CPU, which is what torch makes of them."""
    if isinstance(index, tuple):
        return tuple(map(_listed, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _to(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    x, rest = args[0], list(args[1:])
    device = kwargs.pop("device", None)
    if func is not torch.Tensor.to:
        device, rest = "cuda" if func is torch.Tensor.cuda else "cpu", []
    elif rest and isinstance(rest[0], torch.Tensor):
        device, rest[0] = rest[0].device, rest[0].dtype
    elif rest and isinstance(rest[0], (str, torch.device, int)):
        device = rest.pop(0)
    elif rest and rest[0] is None:
        rest.pop(0)
    blocking = kwargs.pop("non_blocking", False)
    if len(rest) > 1 and isinstance(rest[1], bool):
        blocking = rest.pop(1)
    target = isinstance(x, OnGpu) if device is None else _on_gpu(device)
    if target == isinstance(x, OnGpu):
        return torch.Tensor.to(x, *rest, **kwargs) if rest or kwargs else x
    _moved(x, target, blocking, x if target else None)
    with torch.no_grad():
        values = x.detach()
        out = OnGpu(values.clone()) if target else values.inner.clone()
    out = out.requires_grad_() if x.requires_grad and x.is_leaf else out
    return out.to(*rest, **kwargs) if rest or kwargs else out


def _made(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """A new tensor, on the GPU or in pinned memory.

    What Python gives is a copy that waits; what a kernel fills is none.
    """
    there, pinned = _on_gpu(kwargs.pop("device", None)), kwargs.pop("pin_memory", False)
    if func is torch.as_tensor and isinstance(args[0], OnGpu):
        return args[0].to(kwargs.get("dtype") or args[0].dtype)
    needs = kwargs.pop("requires_grad", False)
    plain_args, plain_kwargs = tree_map_only(OnGpu, lambda x: x.inner, (args, kwargs))
    out = func(*plain_args, **plain_kwargs)
    if not there:
        return _pin(out) if pinned else out
    if func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor):
        _moved(out, True, False, None)
    elif func is not torch.empty_like:
        _counts[-1].add("kernels")
    made = OnGpu(out.clone() if func is torch.as_tensor else out)
    return made.requires_grad_() if needs else made


class _Event:
    def __init__(self, *_: Any, **__: Any): ...
    def record(self, stream: object = None) -> None: ...
    def wait(self, stream: object = None) -> None: ...
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        _counts[-1].add("late")


class _Stream(_Event):
    def wait_event(self, event: object) -> None: ...
    def wait_stream(self, stream: object) -> None: ...


def _autocast(device: str, *args: Any, **kwargs: Any) -> torch.autocast:
    return _Autocast("cpu" if torch.device(device).type == "cuda" else device, *args, **kwargs)


_Autocast = torch.autocast


def _grouped(group: Callable[..., Any]) -> Callable[..., Any]:
    """torch's sorting of tensors by device, which asks its C++."""

    def grouped(several: Any, *args: Any) -> Any:
        found = group(several, *args)
        there = any(isinstance(x, OnGpu) for tensors in several for x in tensors if x is not None)
        return {(GPU, dtype): tensors for (_, dtype), tensors in found.items()} if there else found

    return grouped


#: Kernels that torch.compile makes of pointwise work, counted on the CPU: see
#: `test_fused_steps_compile_to_few_kernels_without_a_break`.
FUSED = {"colour_step": 2, "gray_step": 1, "last_step": 1, "filters": 4, "grid": 2, "_trial": 1}


def _few_kernels(function: Callable[..., Any]) -> Callable[..., Any]:
    def fused(*args: Any) -> Any:
        _counts.append(Counts())
        try:
            return function(*args)
        finally:
            inside = _counts.pop()
            _counts[-1].inside += inside.inside
            _counts[-1].add("kernels", FUSED[function.__name__])

    return fused


def _down(x: Any) -> Any:
    """What a file holds: the values."""
    if isinstance(x, OnGpu):
        return x.detach().inner
    if isinstance(x, dict):
        return type(x)((key, _down(value)) for key, value in x.items())
    if isinstance(x, (list, tuple)) and not hasattr(x, "_fields"):
        return type(x)(_down(value) for value in x)
    return x


def _empty(empty: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        if _on_gpu(kwargs.get("device")):
            del kwargs["device"]
            return OnGpu(empty(*args, **kwargs))
        return _pin(empty(*args, **kwargs)) if pin_memory else empty(*args, **kwargs)

    return made


def _loaded(load: Callable[..., Any]) -> Callable[..., Any]:
    def loaded(file: Any, map_location: Any = None, **options: Any) -> Any:
        found = load(file, map_location="cpu", **options)
        return tree_map_only(torch.Tensor, OnGpu, found) if _on_gpu(map_location) else found

    return loaded


def _new_tensor(self: torch.Tensor, data: Any, dtype: Any = None, **_: Any) -> torch.Tensor:
    if isinstance(self, OnGpu):
        return torch.tensor(data, dtype=dtype or self.dtype, device=GPU)
    return torch.tensor(data, dtype=dtype or self.dtype)


def _fused_kernels() -> Any:
    """The module of kernels that are compiled; None in a version before it."""
    try:
        return importlib.import_module("medbench.images.augment.fused")
    except ModuleNotFoundError:
        return None


@contextlib.contextmanager
def pretended_gpu(memory: int = 140 << 30) -> Iterator[Counts]:
    """Inside, `cuda` is there, with so many bytes free. Gives what it is asked to do, counted."""
    nothing = lambda *_, **__: None
    cuda = {
        "_lazy_init": nothing,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "Pretended GPU",
        "mem_get_info": lambda device=None: (memory, memory),
        "max_memory_allocated": lambda device=None: 1 << 30,
        "empty_cache": nothing,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": nothing,
        "manual_seed": nothing,
        "manual_seed_all": nothing,
        "get_device_capability": lambda device=None: (9, 0),
        "is_bf16_supported": lambda *_: True,
        "synchronize": lambda device=None: _counts[-1].add("waits: synchronize"),
        "Stream": _Stream,
        "Event": _Event,
        "current_stream": lambda device=None: _Stream(),
        "stream": lambda stream: contextlib.nullcontext(),
    }
    # modes hold for one thread; a reader's thread makes pinned memory, too
    whole: dict[str, Any] = {"empty": _empty(torch.empty)}
    whole |= {
        "save": lambda obj, file, _save=torch.save, **options: _save(_down(obj), file, **options),
        "load": _loaded(torch.load),
        "autocast": _autocast,
    }
    fused = _fused_kernels()
    looks = [
        name for name in vars(torch.optim.Optimizer) if name.endswith("_graph_capture_health_check")
    ]
    places: list[tuple[Any, dict[str, Any]]] = [
        (torch.cuda, cuda),
        (torch, whole),
        (torch.Tensor, {"new_tensor": _new_tensor, "pin_memory": lambda self: _pin(self.clone())}),
        (torch.optim.Optimizer, dict.fromkeys(looks, nothing)),
        (
            torch._C,
            {
                "_group_tensors_by_device_and_dtype": _grouped(
                    torch._C._group_tensors_by_device_and_dtype
                )
            },
        ),
        *([(fused, {"compiled": _few_kernels})] if fused else []),
    ]
    before = [(place, {name: getattr(place, name) for name in new}) for place, new in places]
    overwriting = torch.__future__.get_overwrite_module_params_on_conversion()
    counts = Counts()
    _counts.append(counts)
    for place, new in places:
        for name, value in new.items():
            setattr(place, name, value)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Calls(), _Operations():
            yield counts
    finally:
        for place, old in before:
            for name, value in old.items():
                setattr(place, name, value)
        torch.__future__.set_overwrite_module_params_on_conversion(overwriting)
        if fused:
            fused.can_fuse.cache_clear()
        _counts.pop()

"""What a user brings instead of a timm encoder: a function that returns a module.

A file of vectors: `features_table`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.models.encoder_checks import broken_statistics, check_vectors
from medbench.schema import Encoder, UserError, told
from medbench.schema.own_code import file_hash, imported
from medbench.system.contained_exit import exits_are_errors

if TYPE_CHECKING:
    import torch

BESIDE = 1e-3  # of the largest value: more than rounding, even in half precision


@cache
def module(encoder: Encoder) -> torch.nn.Module:
    """Return the module that the user's function returns, in eval mode, tried on four images.

    Two black ones, and two of noise: together and one by one. Raises UserError, also where an
    image's vector depends on what stands beside it: scores of test images would then depend on each
    other. Cached: the plan hashes its weights, the run uses it.
    """
    try:
        with exits_are_errors():
            net = _made(encoder)
            with _surroundings_kept():
                answers = _answers(encoder, net)
    except UserError as error:
        raise UserError(f"{_place(encoder)}: {encoder.name} failed: {error}") from error
    except (
        Exception
    ) as error:  # somebody else's code can fail in every way; the message carries the reason
        raise UserError(
            f"{_place(encoder, error)}: {encoder.name} failed: {told(error)}",
            then="fix the function",
        ) from error
    broken = broken_statistics(net)
    if broken:
        raise UserError(
            f"{encoder.name} has batch norms whose statistics are not numbers: {', '.join(broken[:3])}.",
            then="fix its weights",
        )
    try:
        _judge(encoder, answers)
    except UserError as error:
        raise UserError(f"{_place(encoder)}: {error}") from error
    return net


def _place(encoder: Encoder, error: BaseException | None = None) -> str:
    """Return "FILE, line N": where an error came from in the user's file, else its function."""
    assert encoder.file is not None, "a function has a file"
    steps = traceback.extract_tb(error.__traceback__) if error else []
    lines = [step.lineno for step in steps if Path(step.filename) == encoder.file]
    if not lines:
        name = encoder.name.rpartition(":")[2]
        body = ast.parse(encoder.file.read_bytes()).body
        lines = [node.lineno for node in body if getattr(node, "name", "") == name] or [1]
    return f"{encoder.file}, line {lines[-1]}"


def check_answers(encoder: Encoder, net: torch.nn.Module) -> None:
    """Two black images, and two of noise, together and one by one, through a network in eval mode.

    Raises UserError for what are no vectors of their own, and whatever the network raises.
    """
    _judge(encoder, _answers(encoder, net))


def _answers(encoder: Encoder, net: torch.nn.Module) -> list[Any]:
    import torch

    with torch.inference_mode():
        noise = torch.rand(
            2, 3, encoder.size, encoder.size, generator=torch.Generator().manual_seed(0)
        )
        return [
            _kept(net(batch)) for batch in (torch.zeros_like(noise), noise, noise[:1], noise[1:])
        ]


def _judge(encoder: Encoder, answers: list[Any]) -> None:
    import torch

    black, together, *alone = answers
    for out, n in ((black, 2), (together, 2), *((one, 1) for one in alone)):
        check_vectors(out, n, encoder)
    if not black.isfinite().all():
        raise UserError(
            f"{encoder.name} gave values that are not finite for two images of {encoder.size} px.",
            allowed=["(2, D), finite numbers"],
        )
    if len({one.shape[1] for one in (black, together, *alone)}) > 1:
        raise UserError(
            f"{encoder.name} gives images vectors of different lengths.", then="fix the function"
        )
    if not torch.allclose(
        together,
        torch.cat(alone),
        rtol=0,
        atol=BESIDE * float(together.abs().nan_to_num().max()),
        equal_nan=True,
    ):
        what = f"{encoder.name} gives an image another vector where another image stands beside it, or at another call."
        raise UserError(
            what,
            then="fix the function: batch norms with running statistics, no dropout in eval mode",
        )


def _kept(out: Any) -> Any:
    """Copy a value: a function may give the same memory again."""
    import torch

    return out.clone() if isinstance(out, torch.Tensor) else out


@contextmanager
def _surroundings_kept() -> Iterator[None]:
    """Restore what a script sets for itself, for the rest of a run.

    Its folder, torch's default dtype, device and threads.
    """
    import torch

    folder, kind, device, threads = (
        os.getcwd(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
    )
    try:
        yield
    finally:
        os.chdir(folder)
        torch.set_default_dtype(kind)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _made(encoder: Encoder) -> torch.nn.Module:
    """Call the user's function; return its module in eval mode."""
    import torch

    assert encoder.file is not None, "a function has a file"
    spec = importlib.util.spec_from_file_location(
        f"medbench_user_{encoder.file.stem}", encoder.file
    )
    assert spec is not None and spec.loader is not None, "the suffix is .py"
    loaded = importlib.util.module_from_spec(spec)
    with torch.random.fork_rng(devices=[]), _surroundings_kept():
        spec.loader.exec_module(loaded)
        # layers that the function leaves as they are drawn must be the same in the next run
        torch.manual_seed(0)
        net = getattr(loaded, encoder.name.rpartition(":")[2])(size=encoder.size)
    if not isinstance(net, torch.nn.Module):
        raise TypeError(f"it returned a {type(net).__name__}, not a torch.nn.Module")
    return net.eval()


def module_hash(encoder: Encoder) -> str:
    """Hash (SHA-256) a user's module.

    Its weights and buffers, the file's code, and that of the user's own files that it imports. Of
    code its syntax tree counts, without docstrings: comments, layout and prose may change.
    """
    import torch

    assert encoder.file is not None, "a function has a file"
    made = module(encoder)  # what it imports is known to Python from here on
    digest = hashlib.sha256(
        "".join(file_hash(file) for file in (encoder.file, *imported(encoder.file))).encode()
    )
    for name, value in made.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(
            value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()

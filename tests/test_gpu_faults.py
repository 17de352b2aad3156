"""What fails on a GPU alone, or where one is missing, is told for what it is."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
import torch
from torch import nn

from medbench import images
from medbench.data.task_data import TaskData
from medbench.models.logistic import spectrum
from medbench.models.pretrain.objective import fit_sizes
from medbench.schema import UserError
from medbench.system import environment, memory
from tests.fakes.pretended_gpu import OnGpu, pretended_gpu


def test_a_source_tree_that_is_not_installed_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = metadata.version

    def version(package: str) -> str:
        if package == "medbench":
            raise metadata.PackageNotFoundError(package)
        return found(package)

    environment.machine.cache_clear()
    monkeypatch.setattr(metadata, "version", version)
    try:
        assert environment.machine("cpu")["versions"]["medbench"] == found("medbench")
    finally:
        environment.machine.cache_clear()


class Failing(nn.Module):
    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            True,
        ),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            True,
        ),
        (RuntimeError("The size of tensor a (4) must match the size of tensor b (9)"), False),
    ],
)
def test_memory_that_does_not_suffice_is_no_fault_of_the_encoder(
    error: RuntimeError, kept: bool
) -> None:
    with pytest.raises(
        type(error) if kept else UserError,
        match="memory|ALLOC" if kept else "does not take crops of 32 pixels",
    ):
        fit_sizes(Failing(error), [32], "cpu")


def test_what_does_not_fit_is_named_with_what_would() -> None:
    told = r"A step of 64 images does not fit.*Take a smaller --size"
    with (
        pytest.raises(torch.OutOfMemoryError, match=told),
        memory.advised("A step of 64 images", "Take a smaller --size."),
    ):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(ValueError, match="another"), memory.advised("A step", ""):
        raise ValueError("another")


def test_free_memory_goes_back_where_a_gpu_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(1))
    for used in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda used=used: used)
        memory.release()
    assert given_back == [1]


def test_the_key_of_a_pack_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, real = [], images.pack_key
    monkeypatch.setattr(images, "pack_key", lambda *given: hashed.append(given) or real(*given))
    data = TaskData(None, "", {}, ["a" * 64, "b" * 64], "", ())  # type: ignore[arg-type]
    assert (
        data.pack_key(64, "bicubic")
        == data.pack_key(64, "bicubic")
        == real(data.hashes, 64, "bicubic")
    )
    assert data.pack_key(32, "bicubic") != data.pack_key(64, "bicubic") and len(hashed) == 2


# -- eigenvalues
# ---------------------------------------------------------------------------------------------------------------------------


def symmetric(*shape: int) -> torch.Tensor:
    x = torch.randn(
        *shape, shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    return x @ x.mT


@pytest.mark.parametrize("n", [1, 4])
def test_eigenvalues_are_torchs_own(n: int) -> None:
    given = symmetric(3, 5, n)
    for mine, own in zip(spectrum.eigh(given), torch.linalg.eigh(given), strict=True):
        assert torch.equal(mine, own)
    given[0, 0] = 0
    assert torch.equal(
        spectrum.pseudoinverse(given, 1e-9), torch.linalg.pinv(given, hermitian=True, rtol=1e-9)
    )


def test_a_matrix_of_one_number_is_asked_of_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuSOLVER refuses more than some 32,000 of them at once: 14 labels, 25 penalties, 5 folds and
    19 draws are more."""
    monkeypatch.setattr(torch.linalg, "eigh", None)
    monkeypatch.setattr(torch.linalg, "pinv", None)
    binary = torch.rand(40_000, 1, 1, dtype=torch.float64)
    assert (
        spectrum.eigh(binary)[0].shape == (40_000, 1)
        and spectrum.pseudoinverse(binary, 1e-9).shape == binary.shape
    )


def test_a_basis_that_is_none_comes_from_lapack(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has returned vectors that are not orthonormal, without a word (pytorch#192483)."""
    given, asked = symmetric(4, 6), []
    eigh = torch.linalg.eigh

    def wrong(matrices: torch.Tensor) -> Any:
        asked.append(matrices.is_cuda)
        values, vectors = eigh(matrices)
        return values, vectors * (1.001 if matrices.is_cuda else 1)

    monkeypatch.setattr(spectrum, "TOGETHER", 3)
    with pretended_gpu():
        there = given.to("cuda")
        right = spectrum.eigh(there)
        inverse = spectrum.pseudoinverse(there, 1e-9).cpu()
        monkeypatch.setattr(torch.linalg, "eigh", wrong)
        mended = spectrum.eigh(there)
        assert isinstance(mended[1], OnGpu)
        for one, other, own in zip(right, mended, eigh(given), strict=True):
            assert torch.equal(one.cpu(), own) and torch.equal(other.cpu(), own)
    assert asked == [True, False, True, False]  # three matrices, then one
    torch.testing.assert_close(inverse, torch.linalg.pinv(given, hermitian=True, rtol=1e-9))

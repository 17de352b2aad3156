"""Repositories as the Hugging Face hub's own cache holds them, with networks of two layers: blobs/,
snapshots/COMMIT/, refs/main."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub on 127.0.0.1 that serves what lies in another cache."""

    def __init__(self, cache: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                found = re.fullmatch(r"/([\w.-]+)/([\w.-]+)/resolve/([\w.-]+)/([\w.-]+)", self.path)
                place = (
                    cache / f"models--{found[1]}--{found[2]}" / "snapshots" / COMMIT / found[4]
                    if found
                    else cache
                )
                content = place.read_bytes() if place.is_file() else b""
                self.send_response(200 if content or self.path == "/" else 404)
                if not content:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_GET = do_HEAD = respond

            def log_message(self, *about: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


Content = bytes | dict[str, Any] | Callable[[Path], None]


def repository(cache: Path, name: str, files: Mapping[str, Content], commit: str = COMMIT) -> Path:
    """A snapshot's folder, with these files, of which `main` is the commit.

    A dict is JSON; a function writes the file.
    """
    place = cache / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    (place / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    for file, content in files.items():
        partial = place / "blobs" / "partial"
        if callable(content):
            content(partial)
        else:
            partial.write_bytes(
                json.dumps(content).encode() if isinstance(content, dict) else content
            )
        blob = partial.rename(partial.with_name(hashlib.sha256(partial.read_bytes()).hexdigest()))
        (snapshot / file).symlink_to(blob)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(commit)
    return snapshot


def drawn(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The network with every parameter drawn, so that none is as a new network has it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(
                1 + 0.1 * noise if "norm" in name and name.endswith("weight") else 0.2 * noise
            )
    return net.eval()


def saved(state: Mapping[str, torch.Tensor]) -> Callable[[Path], None]:
    return lambda file: save_file(
        {name: value.contiguous().clone() for name, value in state.items()},
        file,
        metadata={"format": "pt"},
    )


def processor(
    size: int, mean: tuple[float, ...], std: tuple[float, ...], **more: Any
) -> dict[str, Any]:
    """`preprocessor_config.json` of a square."""
    values = {
        "image_mean": list(mean),
        "image_std": list(std),
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
    }
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        **values,
        **more,
    }


TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}


#: Of fewer tokens at 224 px.
COARSE = {**TINY, "patch_size": 32, "image_size": 64}


def registers(cache: Path, name: str = "lab/registers", tiny: Mapping[str, int] = TINY) -> Path:
    """DINOv2 with registers, and its own mean and std."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    net = drawn(
        Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(**tiny, mlp_ratio=2, num_register_tokens=4)
        )
    )
    files = {
        "config.json": net.config.to_dict(),
        "preprocessor_config.json": processor(32, (0.5307,) * 3, (0.2583,) * 3),
        "model.safetensors": saved(net.state_dict()),
    }
    return repository(cache, name, files)


def clip(cache: Path, name: str = "lab/clip", tiny: Mapping[str, int] = TINY) -> Path:
    """CLIP with both towers, as its authors publish it."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 50,
    }
    net = drawn(
        CLIPModel(
            CLIPConfig(
                text_config=text, vision_config={**tiny, "intermediate_size": 64}, projection_dim=16
            )
        )
    )
    return repository(
        cache,
        name,
        {
            "config.json": net.config.to_dict(),
            "preprocessor_config.json": {
                "image_processor_type": "CLIPImageProcessor",
                "crop_size": 32,
                "size": {"shortest_edge": 36},
            },
            "model.safetensors": saved(net.state_dict()),
        },
    )


def timm_vit(
    cache: Path, name: str = "lab/timm", arguments: Mapping[str, Any] | None = None, **stated: Any
) -> Path:
    """A ViT with registers, as timm writes it."""
    import timm

    words = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "reg_tokens": 4,
    }
    net = drawn(
        timm.create_model("vit_tiny_patch16_224", num_classes=3, **{**words, **(arguments or {})})
    )
    words |= {word: value for word, value in (arguments or {}).items() if word in words}
    seen = {
        "input_size": [3, 32, 32],
        "fixed_input_size": True,
        "classifier": "head",
        "mean": [0.7, 0.6, 0.7],
        "std": [0.2, 0.2, 0.1],
        "interpolation": "bilinear",
    }
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 3,
        "model_args": words,
        "pretrained_cfg": {**seen, "crop_pct": 1.0, **stated},
    }
    return repository(
        cache, name, {"config.json": config, "model.safetensors": saved(net.state_dict())}
    )


def open_clip(cache: Path, name: str = "lab/openclip") -> Path:
    """Both towers, as open_clip writes them."""
    import open_clip
    from open_clip.model import CLIP

    model = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    }
    net = drawn(CLIP(**model))
    assert open_clip.__version__
    seen = {
        "mean": [0.4, 0.4, 0.4],
        "std": [0.3, 0.3, 0.3],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    return repository(
        cache,
        name,
        {
            "open_clip_config.json": {"model_cfg": model, "preprocess_cfg": seen},
            "open_clip_model.safetensors": saved(net.state_dict()),
        },
    )

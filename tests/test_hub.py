"""Encoders of the Hugging Face hub, on repositories in a local cache and without a network."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trees import hub
from trees.serving import Served, Server

from medbench import Grid, UserError
from medbench.models import encoders
from medbench.models.hub import named, preprocessing, vision_tower
from medbench.models.stated import beside, stated
from medbench.run import planning
from medbench.run.plans import Plan
from medbench.run.study import load_study
from medbench.run.validation import encoder_of
from medbench.schema import Encoder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, on a machine where every connection is refused."""

    def refuse(*about: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def vectors(
    name: str, images: torch.Tensor, readout: str = "pool", size: int | None = None
) -> torch.Tensor:
    encoder = encoders.encoder(name, size, readout=readout)
    with torch.inference_mode():
        found: torch.Tensor = vision_tower.tried(encoder, named.weights(encoder))(images)
    return found


def test_transformers_vectors_are_its_own_registers_left_out(
    cache: Path, images: torch.Tensor
) -> None:
    transformers = pytest.importorskip("transformers")
    net = transformers.Dinov2WithRegistersModel.from_pretrained(hub.registers(cache)).eval()
    with torch.inference_mode():
        out = net(images)
        assert out.last_hidden_state.shape[1] == 1 + 4 + 16
        cls, mean = out.last_hidden_state[:, 0], out.last_hidden_state[:, 5:].mean(1)
        larger = torch.nn.functional.interpolate(images, size=(48, 48))
        of_larger = net(larger).pooler_output
    for readout, expected in {
        "pool": out.pooler_output,
        "cls": cls,
        "mean": mean,
        "cls+mean": torch.cat([cls, mean], 1),
    }.items():
        assert torch.allclose(
            vectors("hf:lab/registers", images, readout), expected, rtol=0, atol=1e-5
        ), readout
    assert torch.allclose(
        vectors("hf:lab/registers", larger, size=48), of_larger, rtol=0, atol=1e-5
    )
    seen = encoders.encoder("hf:lab/registers")
    assert (seen.size, seen.mean, seen.std, seen.interpolation) == (
        32,
        (0.5307,) * 3,
        (0.2583,) * 3,
        "bicubic",
    )
    assert seen.identity()["checkpoint"] == hub.COMMIT
    assert seen.trained_on == ("unknown",)


def test_the_vision_part_of_clip(cache: Path, images: torch.Tensor) -> None:
    """Both towers in a file.

    The defaults of its processor's class stand for what the repository leaves out.
    """
    transformers = pytest.importorskip("transformers")
    net = transformers.CLIPModel.from_pretrained(hub.clip(cache)).eval()
    with torch.inference_mode():
        expected = net.vision_model(pixel_values=images)
    assert torch.allclose(vectors("hf:lab/clip", images), expected.pooler_output, rtol=0, atol=1e-5)
    assert torch.allclose(
        vectors("hf:lab/clip", images, "mean"),
        expected.last_hidden_state[:, 1:].mean(1),
        rtol=0,
        atol=1e-5,
    )
    seen = encoders.encoder("hf:lab/clip")
    assert (seen.mean, seen.std) == preprocessing.CLIP
    assert "resizes the shorter side to 36 and crops the middle 32" in seen.said
    assert seen.identity()["crop"] == "center 36 floor"


def test_timm_vectors_are_its_own(cache: Path, images: torch.Tensor) -> None:
    import timm

    net = timm.create_model(
        f"local-dir:{hub.timm_vit(cache)}", pretrained=True, num_classes=0
    ).eval()
    with torch.inference_mode():
        expected, tokens = net(images), net.forward_features(images)
    assert torch.allclose(vectors("hf-hub:lab/timm", images), expected, rtol=0, atol=1e-5)
    assert torch.allclose(
        vectors("hf-hub:lab/timm", images, "mean"), tokens[:, 5:].mean(1), rtol=0, atol=1e-5
    )
    assert vectors("hf-hub:lab/timm", torch.zeros(1, 3, 64, 64), size=64).shape == (1, 32)
    seen = encoders.encoder("hf-hub:lab/timm")
    assert (seen.size, seen.mean, seen.std, seen.interpolation) == (
        32,
        (0.7, 0.6, 0.7),
        (0.2, 0.2, 0.1),
        "bilinear",
    )


def test_open_clips_vision_tower(cache: Path, images: torch.Tensor) -> None:
    open_clip = pytest.importorskip("open_clip")
    net = open_clip.create_model(f"local-dir:{hub.open_clip(cache)}").eval()
    with torch.inference_mode():
        expected = net.encode_image(images)
    assert torch.allclose(vectors("open_clip:lab/openclip", images), expected, rtol=0, atol=1e-5)
    assert encoders.encoder("open_clip:lab/openclip").mean == (0.4,) * 3


def test_a_repository_crops_as_it_says(cache: Path) -> None:
    """In the plan's remark, in the row's identity and in the pack."""
    hub.timm_vit(cache, "lab/center", crop_pct=0.8)
    plan = planned(encoders=("hf-hub:lab/center",))
    (unit,) = plan.units
    assert unit.encoder.crop == "center 40"
    assert any("crops the middle 32" in note.text for note in plan.notes)
    assert "crops the middle 32" in unit.marks[0].text
    same = planned(encoders=("hf-hub:lab/center",), crop="squash").units[0]
    assert "its own processor resizes the shorter side to 40 and crops" in same.encoder.said
    assert "crop" not in same.encoder.identity()
    assert {one.fingerprint for one in unit.cells}.isdisjoint(one.fingerprint for one in same.cells)


def test_a_repository_that_says_nothing_of_images_is_told_all_four(cache: Path) -> None:
    hub.repository(cache, "lab/bare", {"config.json": {"architecture": "vit_tiny_patch16_224"}})
    whole = stated(("0.5",), ("0.5",), None, (), "squash")
    encoders.encoder("hf-hub:lab/bare", 32, stated=whole)
    for crop in (None, "center:0.5"):  # how a share is rounded is the repository's, too
        said = stated(("0.5",), ("0.5",), None, (), crop)
        with pytest.raises(UserError, match=r"say it: --mean .* --size N --crop squash"):
            encoders.encoder("hf-hub:lab/bare", 32, stated=said)


class Harmful:
    """What a pickle runs when it is read as pickles are."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("code of a stranger",)


def test_code_and_pickles_of_a_repository_are_refused(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = {"model_type": "their_own", "auto_map": {"AutoModel": "modeling.TheirModel"}}
    hub.repository(
        cache,
        "lab/code",
        {
            "config.json": config,
            "preprocessor_config.json": hub.processor(32, (0.5,) * 3, (0.5,) * 3),
        },
    )
    with pytest.raises(
        UserError, match=r"hf:lab/code runs code of its repository \(auto_map.*FILE.py:NAME"
    ):
        encoders.encoder("hf:lab/code")

    def pickled(file: Path) -> None:
        torch.save({"weight": torch.zeros(1), "more": Harmful()}, file)

    about = json.loads((hub.timm_vit(cache, "lab/whole") / "config.json").read_text())
    hub.repository(cache, "lab/pickle", {"config.json": about, "pytorch_model.bin": pickled})
    whole = hub.registers(cache, "lab/whole-hf")
    files = {
        name: json.loads((whole / name).read_text())
        for name in ("config.json", "preprocessor_config.json")
    }
    hub.repository(
        cache, "lab/pickle-hf", {**files, "pytorch_model.bin": pickle.dumps(Harmful(), 2)}
    )
    for name in ("hf-hub:lab/pickle", "hf:lab/pickle-hf"):
        encoder = encoders.encoder(name)
        with pytest.raises(UserError, match=r"holds more than weights|is broken or incomplete"):
            vision_tower.build(encoder, named.weights(encoder))


def test_weights_in_a_bin_file_and_in_several_files(cache: Path, images: torch.Tensor) -> None:
    pytest.importorskip("transformers")
    from safetensors.torch import load_file

    whole = hub.registers(cache)
    state = load_file(whole / "model.safetensors")
    files = {
        name: json.loads((whole / name).read_text())
        for name in ("config.json", "preprocessor_config.json")
    }
    hub.repository(
        cache, "lab/bin", {**files, "pytorch_model.bin": lambda file: torch.save(state, file)}
    )
    first, second = dict(list(state.items())[:9]), dict(list(state.items())[9:])
    index = {
        "metadata": {},
        "weight_map": {
            name: f"model-0000{1 + (name in second)}-of-00002.safetensors" for name in state
        },
    }
    shards = {
        f"model-0000{i}-of-00002.safetensors": hub.saved(part)
        for i, part in ((1, first), (2, second))
    }
    hub.repository(cache, "lab/shards", {**files, **shards, "model.safetensors.index.json": index})
    expected = vectors("hf:lab/registers", images)
    for name in ("hf:lab/bin", "hf:lab/shards"):
        assert torch.equal(vectors(name, images), expected), name
    sums = {
        named.weights(encoders.encoder(f"hf:lab/{name}")).sha256
        for name in ("registers", "bin", "shards")
    }
    assert len(sums) == 3


def test_weights_that_are_missing_are_not_drawn(cache: Path) -> None:
    """transformers draws them at random, with a line in a log."""
    transformers = pytest.importorskip("transformers")
    net = transformers.ViTModel(transformers.ViTConfig(**hub.TINY, intermediate_size=32))
    files = {
        "config.json": net.config.to_dict(),
        "preprocessor_config.json": hub.processor(32, (0.5,) * 3, (0.5,) * 3),
    }
    state = hub.drawn(net).state_dict()
    without = {name: value for name, value in state.items() if not name.startswith("pooler.")}
    hub.repository(cache, "lab/no-pooler", {**files, "model.safetensors": hub.saved(without)})
    with pytest.raises(
        UserError, match=r"has no readout 'pool'\. Allowed: cls, mean, cls\+mean\..*--readout cls"
    ):
        vectors("hf:lab/no-pooler", torch.zeros(1, 3, 32, 32))
    assert vectors("hf:lab/no-pooler", torch.zeros(1, 3, 32, 32), "cls").shape == (1, 32)
    hub.repository(
        cache,
        "lab/no-norm",
        {
            **files,
            "model.safetensors": hub.saved(
                {n: v for n, v in state.items() if "layernorm" not in n}
            ),
        },
    )
    with pytest.raises(UserError, match=r"lacks weights of its own network"):
        vectors("hf:lab/no-norm", torch.zeros(1, 3, 32, 32))


def test_a_revision_is_a_branch_a_tag_a_commit_or_its_first_digits(cache: Path) -> None:
    older = "f" * 40
    hub.timm_vit(cache)
    about = {"architecture": "vit_tiny_patch16_224", "mean": [0.1] * 3, "std": [0.1] * 3}
    hub.repository(cache, "lab/timm", {"config.json": about}, commit=older)
    refs = cache / "models--lab--timm" / "refs"
    (refs / "main").write_text(hub.COMMIT)
    (refs / "v1").write_text(older)
    for name, commit in {
        "": hub.COMMIT,
        "@main": hub.COMMIT,
        "@v1": older,
        "@ffffffff": older,
        f"@{older}": older,
    }.items():
        assert encoders.encoder(f"hf-hub:lab/timm{name}").checkpoint == commit, name


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_machine_without_a_network_says_what_is_lacking(
    file: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub.timm_vit(cache) / file).unlink()
    for reason in ("no way to https://huggingface.co: .*", "HF_HUB_OFFLINE is set"):
        message = rf"{file} of 'hf-hub:lab/timm' is not in the hub's cache.*{reason}\).* Next: .*medbench fetch .*huggingface.co/lab/timm"
        with pytest.raises(UserError, match=message) as caught:
            named.weights(encoders.encoder("hf-hub:lab/timm"))
        assert "\n" not in str(caught.value)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            403,
            "GatedRepo",
            r"is gated.* Next: accept them at https://huggingface.co/lab/closed, then hf auth login",
        ),
        (
            401,
            "RepoNotFound",
            r"The hub has no repository lab/closed, or does not show it to you\. Next: see https://huggingface.co/lab/closed",
        ),
        (
            404,
            "RevisionNotFound",
            r"lab/closed has no revision 'v9'\. Next: see https://huggingface.co/lab/closed/commits",
        ),
        (
            404,
            "EntryNotFound",
            r"hf-hub:lab/closed@v9 has no config.json\. timm cannot read it\. Allowed: hf:lab/closed",
        ),
    ],
)
def test_gated_and_missing_repositories_are_one_line_each(
    status: int,
    code: str,
    message: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    server.files["/lab/closed/resolve/v9/config.json"] = Served(
        b"", status=status, headers={"X-Error-Code": code}
    )
    with pytest.raises(UserError, match=message) as caught:
        encoders.encoder("hf-hub:lab/closed@v9")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_told_by_the_name_of_its_blob(cache: Path) -> None:
    file = (hub.timm_vit(cache) / "model.safetensors").resolve()
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(UserError, match=r"is damaged: its SHA-256 is not that of its name"):
        named.weights(encoders.encoder("hf-hub:lab/timm"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hf:dinov2",
            r"'hf:dinov2' names no repository of the hub\. Allowed: hf-hub:OWNER/NAME\[@REVISION\]",
        ),
        ("hf-hub:../etc/passwd", "names no repository"),
        ("open_clip:ViT-B-32/a/b", "names no repository"),
    ],
)
def test_a_wrong_name(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoders.encoder(name)


def test_open_clips_short_names_are_repositories(cache: Path) -> None:
    pytest.importorskip("open_clip")
    place = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    hub.open_clip(cache, place)
    whole = encoders.encoder(f"open_clip:{place}", 32)
    for name in ("ViT-B-32@laion2b_s34b_b79k", "vit-b-32@laion2b-s34b-b79k"):
        assert encoders.encoder(f"open_clip:{name}", 32) == whole
    # as its name says, whatever the repository is made for
    assert encoders.encoder("open_clip:ViT-B-32@laion2b_s34b_b79k").size == 224
    for name, message in {
        "ViT-B-32": r"does not say which weights: .*Allowed: .*open_clip:ViT-B-32@openai",
        "ViT-B-32@laion2b": r"no weights 'laion2b' of 'ViT-B-32'\..*Did you mean 'open_clip:ViT-B-32@laion2b_",
        "ViT-B-33@openai": r"no network 'ViT-B-33'\..*Did you mean 'ViT-B-32'",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            encoders.encoder(f"open_clip:{name}")
        assert "\n" not in str(caught.value)


def test_a_config_that_is_not_what_its_authors_do_is_told(cache: Path) -> None:
    hub.timm_vit(cache, "Wangyh/mSTAR", {"init_values": 1e-5, "dynamic_img_size": True})
    seen = encoders.encoder("hf-hub:Wangyh/mSTAR")
    assert "--mean 0.485,0.456,0.406" in seen.said
    assert vectors("hf-hub:Wangyh/mSTAR", torch.zeros(1, 3, 32, 32)).shape == (1, 32)


def test_what_is_stated_in_other_units_is_given_for_values_in_0_to_1() -> None:
    """(255 v - m) / s, v - 1, and nothing at all."""
    of = preprocessing.of_transformers
    unscaled = of({**hub.processor(32, (127.5,) * 3, (51.0,) * 3), "do_rescale": False})
    assert unscaled.mean == (0.5,) * 3
    assert unscaled.std == (0.2,) * 3
    offset = of(
        {
            **hub.processor(32, (0.0,) * 3, (1.0,) * 3),
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
        }
    )
    assert offset.mean == offset.std == (0.5,) * 3
    plain = of({**hub.processor(32, (0.3,) * 3, (0.3,) * 3), "do_normalize": False})
    assert (plain.mean, plain.std) == ((0,) * 3, (1,) * 3)
    with pytest.raises(ValueError, match="blue, green and red"):
        of({**hub.processor(32, (0.3,) * 3, (0.3,) * 3), "do_flip_channel_order": True})
    with pytest.raises(ValueError, match="not three of one square"):
        of({**hub.processor(32, (0.3,) * 3, (0.3,) * 3), "size": {"height": 32, "width": 64}})


def test_pathology_models_get_their_classes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virchow's config cannot hold the classes that its network is made of.

    All its tokens come out, so a readout must be named.
    """
    import timm

    made = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    snapshot = hub.timm_vit(cache, "paige-ai/Virchow2", made)
    about = json.loads((snapshot / "config.json").read_text())
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_text(
        json.dumps({**about, "model_args": {**about["model_args"], "global_pool": ""}})
    )
    with pytest.raises(UserError, match=r"has no readout 'pool'\. Allowed: cls\+mean, cls, mean"):
        vectors("hf-hub:paige-ai/Virchow2", torch.zeros(1, 3, 32, 32))
    assert vectors("hf-hub:paige-ai/Virchow2", torch.zeros(1, 3, 32, 32), "cls+mean").shape == (
        1,
        64,
    )
    assert encoders.encoder("hf-hub:paige-ai/Virchow2", readout="cls").trained_on == (
        "3.1 million slides of MSKCC",
    )


def planned(**about: Any) -> Plan:
    return planning.plan(Grid(data="phantom", labels=("100",), **about))


def test_the_doctors_verdict_stands_in_the_row_once_for_each_encoder(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.timm_vit(cache)
    built: list[Encoder] = []
    build = vision_tower.build

    def counted(encoder: Encoder, *rest: Any) -> torch.nn.Module:
        built.append(encoder)
        return build(encoder, *rest)

    monkeypatch.setattr(vision_tower, "build", counted)
    first, second = (planned(encoders=("hf-hub:lab/timm",)).units[0] for _ in range(2))
    assert first.marks == second.marks
    assert [mark.text for mark in first.marks if "doctor" in mark.text]
    assert len(built) <= 2  # on natural images, and on the task's where something was found


def test_a_planted_mean_is_named_by_the_doctor(cache: Path) -> None:
    """The default encoder's genuine weights as a repository.

    Its config says the mean of pixels in [0, 255].
    """
    from medbench.images import cache_folder
    from medbench.models import weights

    own = encoders.encoder(encoders.EMBEDDED)
    net = weights.build_encoder(own, weights.supervised(own, cache_folder()), 0)
    for name, mean, std in (("right", 0.5, 0.5), ("wrong", 127.5, 127.5)):
        about = {
            "architecture": own.architecture,
            "mean": [mean] * 3,
            "std": [std] * 3,
            "input_size": [3, 64, 64],
            "crop_pct": 1.0,
        }
        hub.repository(
            cache,
            f"lab/{name}",
            {"config.json": about, "model.safetensors": hub.saved(net.state_dict())},
        )
    right, wrong = planned(encoders=("hf-hub:lab/right", "hf-hub:lab/wrong")).units
    assert [mark.kind for mark in right.marks] == ["examined"]
    assert "finds nothing wrong" in right.marks[0].text
    assert any(mark.kind == "encoder" and "range: mean 127.5" in mark.text for mark in wrong.marks)


def test_weights_of_ones_own_take_the_preprocessing_that_is_said_or_lies_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RAD-DINO's .5307 / .2583 would be lost behind a tag's mean and std."""
    file = tmp_path / "mine.pth"
    file.write_bytes(b"")

    def seen(**grid: Any) -> Encoder:
        return encoder_of("resnet18.tv_in1k", "pool", Grid(weights=str(file), **grid))

    tag = seen()
    assert (tag.size, tag.mean[0], tag.interpolation) == (224, 0.485, "bilinear")
    assert (
        "those of resnet18.tv_in1k, as neither a config beside it nor an option says others"
        in tag.said
    )
    (tmp_path / "config.json").write_text(json.dumps({"lr": 0.1}))
    assert seen() == tag, "another program's config"
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3, "input_size": [3, 96, 96]}}
        )
    )
    timms = seen()
    assert (timms.size, timms.mean, timms.interpolation) == (96, (0.1,) * 3, "bicubic")
    assert (
        "those of config.json beside it; resizes the shorter side to 109 and crops the middle 96"
        in timms.said
    )
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(hub.processor(518, (0.5307,) * 3, (0.2583,) * 3))
    )
    assert (seen().size, seen().mean, seen().std) == (518, (0.5307,) * 3, (0.2583,) * 3)
    word = seen(
        mean=("0.5",),
        std=("0.1", "0.2", "0.3"),
        interpolation="bilinear",
        size=64,
        trained_on=("MIMIC-CXR",),
    )
    assert (word.size, word.mean, word.std, word.interpolation) == (
        64,
        (0.5,) * 3,
        (0.1, 0.2, 0.3),
        "bilinear",
    )
    assert word.trained_on == ("MIMIC-CXR",)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(
        UserError,
        match=r"preprocessor_config.json does not say how images enter .* Next: fix it, or say it: --mean",
    ):
        seen()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"mean": ("0.5", "0.5")}, r"--mean 0\.5,0\.5 is not three numbers"),
        ({"std": ("0", "1", "1")}, r"a standard deviation is above 0"),
        (
            {"interpolation": "nearest"},
            r"Unknown interpolation 'nearest'\. Allowed: bicubic, bilinear",
        ),
        ({"mean": ("0.5",)}, r"brings its own preprocessing: it takes no --mean.*--weights FILE"),
    ],
)
def test_a_wrong_word_on_preprocessing(about: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder_of("resnet18.tv_in1k", "pool", Grid(**about))


@pytest.mark.slow
def test_the_board_of_twelve_encoders_plans_against_repositories_of_their_names(
    cache: Path,
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("open_clip")
    grid = load_study(str(Path(__file__).parents[1] / "benchmarks" / "encoders.py")).grid
    assert len(grid.encoders) == 12
    coarse = {"img_size": 64, "patch_size": 32}
    for name in grid.encoders:
        door, _, called = name.partition(":")
        if door == "hf-hub":
            hub.timm_vit(
                cache,
                called,
                {**coarse, **({"init_values": 1e-5} if called == "MahmoodLab/UNI" else {})},
            )
        elif door == "open_clip":
            hub.open_clip(cache, called)
        else:
            made = (
                hub.clip
                if called in ("openai/clip-vit-base-patch16", "google/medsiglip-448")
                else hub.registers
            )
            made(cache, called, hub.COARSE)
    units = planning.plan(replace(grid, tasks=("derm",), data="phantom")).units
    assert [unit.encoder.name for unit in units] == list(grid.encoders)
    assert {unit.encoder.size for unit in units} == {224}
    assert all(unit.marks for unit in units), "the doctor's verdict on each"
    seen = {unit.encoder.name: unit.weights.trained_on for unit in units}
    assert "NIH ChestX-ray14" in seen["hf:microsoft/rad-dino"]
    assert seen["hf:google/medsiglip-448"] == ("unknown",)


def test_a_crop_that_no_image_has_is_refused(cache: Path) -> None:
    processor = hub.processor(32, (0.3,) * 3, (0.3,) * 3)
    for pct in (-1, 1e-4, 1.5):
        shortest = {"size": {"shortest_edge": 32}, "crop_pct": pct}
        with pytest.raises(ValueError, match=r"of a side, which is not 0\.1 to 1"):
            preprocessing.of_transformers({**processor, **shortest})
    tiny = {"size": {"shortest_edge": 2000}, "crop_size": 32, "do_center_crop": True}
    with pytest.raises(ValueError, match=r"it crops to 0\.016 of a side"):
        preprocessing.of_transformers({**processor, **tiny})

    def filled(colour: object) -> preprocessing.Preprocessing:
        stated = {"resize_mode": "longest", "fill_color": colour, "size": 32}
        return preprocessing.of_open_clip({"preprocess_cfg": stated})

    assert filled([0, 7, 255]).crop.fill == (0, 7, 255)
    assert filled(9).crop.fill == (9, 9, 9) and filled(None).crop.fill == (0, 0, 0)
    for colour in (0.5, 300, -1, "red", [1, 2], [0, 0, 300], {"r": 1}, True):
        with pytest.raises(ValueError, match=r"its fill_color .* is not 0 to 255"):
            filled(colour)
    stated = {"mean": [0.4] * 3, "std": [0.3] * 3, "resize_mode": "longest", "fill_color": 300}
    config = {"preprocess_cfg": {**stated, "size": 32}}
    hub.repository(cache, "lab/filled", {"open_clip_config.json": config})
    with pytest.raises(UserError, match=r"its fill_color .* is not 0 to 255") as caught:
        encoders.encoder("open_clip:lab/filled")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", [0, 10**400])
def test_a_config_of_impossible_numbers_is_one_line(tmp_path: Path, factor: int) -> None:
    said = {**hub.processor(32, (0.5,) * 3, (0.5,) * 3), "rescale_factor": factor}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match="does not say how images enter") as caught:
        beside(tmp_path / "weights.pth")
    assert "\n" not in str(caught.value)
    (tmp_path / "preprocessor_config.json").unlink()
    timms = {"mean": [1e308] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32]}
    (tmp_path / "config.json").write_text(json.dumps(timms))
    assert beside(tmp_path / "weights.pth") == (None, ""), "many programs' name for their own"

"""As many images as CheXpert or PCam have.

What a first plan, a pack and a second plan cost, in time, memory and files.

    uv run python benchmarks/speed/pack_scale.py --n 300000 --folder scale --workers 1
    uv run python benchmarks/speed/pack_scale.py --quick    # 2,000, CheXpert's at their own 390 x 320 pixels

A tree of CheXpert's layout with n generated JPEGs of 32 x 32 pixels (--pixels 390x320: of its small
edition's own size), and a PCam of n patches of 96 pixels in three .h5 files. Each stage runs in a
process of its own, so that its peak memory is its own: reading the task for the first time (every
file hashed, patients divided), packing at 32 pixels, a plain loop over Pillow that decodes and
resizes the same files and keeps nothing (CheXpert's alone), reading it again (hashes remembered).
The CPU seconds of the pack are also told over those of the loop. The folder is removed afterwards.

Expected of CheXpert's layout with --n 300000 --workers 1, on a virtual x86-64 server with two cores
that eight other jobs kept busy, so that the times are upper bounds: 300,002 files made in 83 s,
first plan 94 s, pack 304 s (about 1 ms an image), each stage with a peak of 582 MB; the cache is 3
files, 1.00 GB (0.92 GB of pixels, 0.07 GB of remembered hashes). Memory grows with what a plan
keeps of each image (path, id, labels, group, hash: about 1.7 KB), not with pixels. Of PCam's
layout: first plan 25 s (2.0 s of CPU) with 319 MB, second plan the same.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

SIZE = 32
STAGES = {
    "chexpert": ("first plan", "pack", "plain loop", "second plan"),
    "lymph": ("first plan", "pack", "second plan"),
}


def make_chexpert(root: Path, n: int, pixels: tuple[int, int]) -> None:
    """n images of n / 3 patients, one or two studies each; 1 % of them are the official validation
    set."""
    from PIL import Image

    names = "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax"
    header = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{names},Pleural Effusion,Pleural Other,Fracture,Support Devices"
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(256):
        stream = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 256, (SIZE // 2, SIZE // 2), np.uint8))
        coarse.resize(pixels, Image.Resampling.NEAREST).save(stream, "JPEG", quality=75)
        pictures.append(stream.getvalue())
    lines: dict[str, list[str]] = {"train": [header], "valid": [header]}
    for i in range(n):
        part, patient = "valid" if i >= n - n // 100 else "train", i // 3
        place = root / part / f"patient{patient:05d}" / f"study{1 + i % 2}"
        if i % 3 < 2:
            place.mkdir(parents=True, exist_ok=True)
        name = f"view{1 + i % 3}_frontal.jpg"
        # behind the image's end: no two files are alike
        (place / name).write_bytes(pictures[i % len(pictures)] + i.to_bytes(8, "big"))
        labels = [
            "1.0" if x < 0.2 else "" if x < 0.9 or part == "valid" else "-1.0"
            for x in rng.random(14)
        ]
        lines[part].append(
            ",".join(
                [
                    f"CheXpert-v1.0-small/{place.relative_to(root)}/{name}",
                    "Male",
                    "60",
                    "Frontal",
                    "AP",
                    *labels,
                ]
            )
        )
    for part, text in lines.items():
        (root / f"{part}.csv").write_text("\n".join(text) + "\n")


def make_pcam(root: Path, n: int) -> None:
    """n patches: 8 in 10 train, the rest val and test.

    One chunk of 64 is compressed, and written again and again: a row is known by its number.
    """
    import h5py

    root.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for part, share in {"train": 0.8, "valid": 0.1, "test": 0.1}.items():
        rows = round(n * share)
        blocks = rng.integers(0, 256, (64, 8, 8, 3), np.uint8).repeat(12, 1).repeat(12, 2)
        chunk = zlib.compress(blocks.tobytes(), 1)
        with h5py.File(root / f"camelyonpatch_level_2_split_{part}_x.h5", "w") as file:
            x = file.create_dataset(
                "x",
                (rows, 96, 96, 3),
                np.uint8,
                chunks=blocks.shape,
                compression="gzip",
                compression_opts=1,
            )
            for start in range(0, rows, len(blocks)):
                x.id.write_direct_chunk((start, 0, 0, 0), chunk)
        with h5py.File(root / f"camelyonpatch_level_2_split_{part}_y.h5", "w") as file:
            file["y"] = (np.arange(rows) % 2).astype(np.uint8).reshape(rows, 1, 1, 1)


def plain_loop(folder: Path) -> None:
    """What somebody writes who needs no pack."""
    from PIL import Image

    for file in sorted(folder.rglob("*.jpg")):
        with Image.open(file) as opened:
            np.asarray(opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def stage(name: str, task_name: str, folder: Path, workers: int) -> dict[str, float]:
    """Run one stage in this process: seconds and peak memory of it, and of its workers, in MB."""
    from medbench import images
    from medbench.data.task_data import open_task
    from medbench.schema import Grid, registry

    began, busy = time.perf_counter(), time.process_time()
    found = open_task(registry.task(task_name), Grid(data=str(folder)), images.cache_folder(), [])
    planned, planned_busy = time.perf_counter(), time.process_time()
    if name == "pack":
        flat = [image for split in found.parts.values() for image in split.images]
        images.pack(flat, found.hashes, SIZE, "bilinear", images.cache_folder(), workers=workers)
    if name == "plain loop":
        plain_loop(folder)
    ended, ended_busy = time.perf_counter(), time.process_time()
    own, children = (
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "seconds": ended - (began if "plan" in name.split() else planned),
        "cpu": ended_busy - (busy if "plan" in name.split() else planned_busy),
        "memory": own,
        "workers": children if name == "pack" and workers > 1 else 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, default=Path("scale"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pixels", default="32x32", help="of CheXpert's images")
    parser.add_argument("--quick", action="store_true", help="see above; with one worker")
    parser.add_argument("--tasks", default="chexpert,lymph")
    parser.add_argument(
        "--stage", nargs=2, metavar=("STAGE", "TASK"), help="used by the script itself"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.n, arguments.pixels, arguments.workers = 2_000, "390x320", 1
    width, height = map(int, arguments.pixels.split("x"))
    if arguments.stage:
        name, task = arguments.stage
        print(json.dumps(stage(name, task, arguments.folder / task, arguments.workers)))
        return
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {arguments.workers} workers, n = {arguments.n:,}"
    )
    arguments.folder.mkdir(parents=True)
    environment = {**os.environ, "MEDBENCH_CACHE": str(arguments.folder / "cache")}
    try:
        for task in arguments.tasks.split(","):
            began = time.perf_counter()
            if task == "chexpert":
                make_chexpert(arguments.folder / task, arguments.n, (width, height))
            else:
                make_pcam(arguments.folder / task, arguments.n)
            files = sum(len(names) for _, _, names in os.walk(arguments.folder / task))
            print(
                f"{task}: {files:,} files made in {time.perf_counter() - began:.0f} s", flush=True
            )
            busy = {}
            for name in STAGES[task]:
                command = [
                    sys.executable,
                    __file__,
                    "--stage",
                    name,
                    task,
                    "--folder",
                    str(arguments.folder),
                    "--workers",
                    str(arguments.workers),
                ]
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    sys.exit(done.stderr)
                result = json.loads(done.stdout.splitlines()[-1])
                busy[name] = result["cpu"]
                more = f" + {result['workers']:.0f} MB a worker" if result["workers"] else ""
                print(
                    f"  {name:<12} {result['seconds']:8.1f} s {result['cpu']:8.1f} s of CPU {result['memory']:8.0f} MB{more}",
                    flush=True,
                )
            if "plain loop" in busy and arguments.workers == 1:
                print(
                    f"  CPU seconds of the plain loop over the pack's: {busy['plain loop'] / busy['pack']:.2f}"
                )
            cached = [file for file in (arguments.folder / "cache").rglob("*") if file.is_file()]
            print(
                f"  cache: {len(cached)} files, {sum(file.stat().st_size for file in cached) / 1e9:.2f} GB",
                flush=True,
            )
            shutil.rmtree(arguments.folder / task)
            shutil.rmtree(arguments.folder / "cache")
    finally:
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()

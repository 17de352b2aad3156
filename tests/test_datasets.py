"""`medbench data`: listed, fetched from a server on this machine, verified, shown."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from trees import chest, others, skin
from trees.files import picture, write_csv
from trees.serving import Served, Server

from medbench import images
from medbench.data import manage
from medbench.data.manage import download
from medbench.schema import Download, Progress, Task, UserError, registry
from medbench.system import progress_listener
from medbench.system.download import archives
from medbench.tasks import endoscopy as hyperkvasir
from medbench.tasks import lymph, pad_ufes, pneumonia


def packed(root: Path, *names: str, wrapper: str = "") -> bytes:
    """A zip of the files below `root` whose path begins with one of the names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for file in sorted(root.rglob("*")):
            name = file.relative_to(root).as_posix()
            if file.is_file() and name.startswith(names):
                archive.write(file, f"{wrapper}{name}")
    return stream.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )


@pytest.fixture
def endoscopy(server: Server, tmp_path: Path) -> Task:
    """HyperKvasir, served as its zip and its table."""
    root = others.make_hyperkvasir(tmp_path / "upstream")
    server.files["/labeled.zip"] = Served(packed(root, "labeled-images"))
    table = (root / "5_fold_split.csv").read_bytes()
    server.files["/split.csv"] = Served(table)
    downloads = (
        Download(f"{server.url}/labeled.zip", unpack="zip"),
        Download(
            f"{server.url}/split.csv",
            "5_fold_split.csv",
            sha256=hashlib.sha256(table).hexdigest(),
            size=len(table),
        ),
    )
    return replace(hyperkvasir.ENDOSCOPY, downloads=downloads, n_images=230)


def test_get_places_what_the_reader_finds_and_fetches_it_once(
    endoscopy: Task, server: Server, tmp_path: Path
) -> None:
    root, said = tmp_path / "data", list[str]()
    assert not manage.is_complete(endoscopy, root)
    place = manage.get(endoscopy, root, images.cache_folder(), said.append)
    assert place == root / "hyperkvasir" == endoscopy.find(root)
    assert manage.is_complete(endoscopy, root)
    assert sum(map(len, endoscopy.load(place).values())) == 230
    assert (
        said[0].startswith("HyperKvasir: 2 files, at least 0.0")
        and "Licence: free for research" in said[0]
    )
    assert names(place) == names(tmp_path / "upstream")
    assert [name for name in names(root) if not name.startswith("hyperkvasir/")] == [
        name for name in names(root) if name.startswith(".medbench-get/")
    ]
    assert len(list((root / download.STAGING).iterdir())) == 2, (
        "a lock and a memory, no files of a download"
    )
    assert manage.get(endoscopy, root, images.cache_folder()) == place and len(server.asked) == 2


def test_an_interrupted_get_shows_nothing_and_goes_on(
    endoscopy: Task, server: Server, tmp_path: Path
) -> None:
    served = server.files["/labeled.zip"]
    served.cut = [len(served.body) // 2] + 5 * [0]
    root = tmp_path / "data"
    with pytest.raises(
        UserError,
        match=r"labeled.zip cannot be fetched \(.*medbench data get endoscopy again goes on where it stopped; or by hand",
    ):
        manage.get(endoscopy, root, images.cache_folder())
    assert endoscopy.find(root) is None, "a run takes the phantom, not half a data set"
    served.cut.clear()
    server.asked.clear()
    manage.get(endoscopy, root, images.cache_folder())
    assert server.asked[0][1].startswith("bytes=") and manage.is_complete(endoscopy, root)


def test_a_get_that_is_killed_while_unpacking_goes_on(
    endoscopy: Task, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    monkeypatch.setattr(progress_listener, "_SMALL", 1)

    def killed(progress: Progress) -> None:
        assert progress.unit == "MB"
        if not progress.stage.startswith("unpacking"):
            return
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), progress_listener.listening(killed):
        manage.get(endoscopy, root, images.cache_folder())
    assert endoscopy.find(root) is None
    manage.get(endoscopy, root, images.cache_folder())
    assert manage.is_complete(endoscopy, root) and [path for path, _ in server.asked] == [
        "/labeled.zip",
        "/split.csv",
    ]


def test_an_archive_that_the_disk_cannot_hold_unpacked_is_kept(
    endoscopy: Task, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    with monkeypatch.context() as full:
        full.setattr(archives, "_KEPT", 1 << 60)  # more than any disk has
        with pytest.raises(
            UserError,
            match=r"labeled.zip cannot be unpacked in .*: No space left on device.*what has come is kept",
        ):
            manage.get(endoscopy, root, images.cache_folder())
    assert [name.rpartition("/")[2] for name in names(root) if name.endswith((".jpg", ".zip"))] == [
        "0.labeled.zip"
    ]
    server.files["/labeled.zip"].status = 404
    manage.get(endoscopy, root, images.cache_folder())
    assert manage.is_complete(endoscopy, root)


def test_two_gets_at_once_fetch_once(endoscopy: Task, server: Server, tmp_path: Path) -> None:
    cache, found = images.cache_folder(), list[Path | None]()
    threads = [
        threading.Thread(
            target=lambda: found.append(manage.get(endoscopy, tmp_path / "data", cache))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == 2 * [tmp_path / "data" / "hyperkvasir"] and len(server.asked) == 2


def test_what_is_missing_is_added_and_a_persons_file_is_not_replaced(
    endoscopy: Task, server: Server, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    mine = root / "hyperkvasir" / "labeled-images" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    first = next((tmp_path / "upstream").rglob("*.jpg"))
    changed = root / "hyperkvasir" / first.relative_to(tmp_path / "upstream")
    changed.parent.mkdir(parents=True)
    changed.write_bytes(first.read_bytes()[:-1] + b"?")
    with pytest.raises(
        UserError,
        match=rf"{changed.name} is there and is not the file of HyperKvasir: it is not replaced.*move it away",
    ):
        manage.get(endoscopy, root, images.cache_folder())
    assert names(root / "hyperkvasir") == sorted(
        [
            mine.relative_to(root / "hyperkvasir").as_posix(),
            first.relative_to(tmp_path / "upstream").as_posix(),
        ]
    )
    changed.unlink()
    asked = len(server.asked)
    manage.get(endoscopy, root, images.cache_folder())
    assert len(server.asked) == asked, "it had all come"
    assert manage.is_complete(endoscopy, root) and mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "hash",
            r"split.csv is not the published file: SHA256 .* It was deleted\. Next: run the same command again",
        ),
        (
            "page",
            r"labeled.zip gave a web page, not the file: the address has changed, or it asks for a login",
        ),
        (
            "gone",
            r"labeled.zip cannot be fetched \(the server answered 404 Not Found\).*or by hand: download hyper-kvasir",
        ),
        ("size", r"split.csv is \d[\d,]* bytes, not the published"),
        ("broken", r"0\.labeled\.zip is not a zip archive, or a broken one"),
        ("escape", r"would write outside its folder: '\.\./\.\./evil'"),
        ("changed", r"The bytes of http.*labeled.zip have changed: SHA-256 .* first seen as"),
    ],
)
def test_a_wrong_download_is_one_clear_error_and_leaves_no_data(
    fault: str, message: str, endoscopy: Task, server: Server, tmp_path: Path
) -> None:
    root, archive, table = (
        tmp_path / "data",
        server.files["/labeled.zip"],
        server.files["/split.csv"],
    )
    good = archive.body, table.body
    if fault == "hash":
        table.body = table.body.replace(b"polyp", b"pulyp")
    elif fault == "page":
        archive.body = b"\n<!DOCTYPE html><html>Log in</html>"
    elif fault == "gone":
        del server.files["/labeled.zip"]
    elif fault == "size":
        table.body += b"more"
    elif fault == "broken":
        archive.body = archive.body[:-100]
    elif fault == "escape":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as made:
            made.writestr("good.txt", "good")
            made.writestr("../../evil", "evil")
        archive.body = stream.getvalue()
    else:
        manage.get(endoscopy, root, images.cache_folder())
        shutil.rmtree(root)
        archive.body += b" "  # still a zip
    with pytest.raises(UserError, match=message):
        manage.get(endoscopy, root, images.cache_folder())
    assert endoscopy.find(root) is None
    assert not list(tmp_path.rglob("evil*"))
    server.files["/labeled.zip"] = Served(good[0], mark='"2"')
    table.body, table.mark = good[1], '"2"'
    manage.get(endoscopy, root, images.cache_folder())
    assert manage.is_complete(endoscopy, root)


def test_a_zip_of_zips_and_folders_of_their_own_name(server: Server, tmp_path: Path) -> None:
    root = skin.make_pad_ufes(tmp_path / "upstream")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.write(root / "metadata.csv", "metadata.csv")
        for i in (1, 2, 3):
            archive.writestr(f"images/imgs_part_{i}.zip", packed(root / "images", f"imgs_part_{i}"))
    server.files["/z"] = Served(stream.getvalue())
    task = replace(
        pad_ufes.PAD_UFES,
        downloads=(Download(f"{server.url}/z", unpack="zip", nested=True),),
        n_images=90,
    )
    place = manage.get(task, tmp_path / "data", images.cache_folder())
    assert place and manage.is_complete(task, tmp_path / "data")

    server.files["/y"] = Served(packed(root / "images", "imgs_part_1", wrapper="pictures/"))
    task = replace(
        task,
        folders=("other",),
        find=lambda root: None,
        downloads=(Download(f"{server.url}/y", "a/pictures", unpack="zip"),),
    )
    place = manage.get(task, tmp_path / "data", images.cache_folder())
    assert (
        place
        and (place / "a" / "pictures").is_dir()
        and not (place / "a" / "pictures" / "pictures").exists()
    )


def test_gzipped_files_and_tars(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    root = others.make_pcam(tmp_path / "upstream")
    for file in root.iterdir():
        server.files[f"/{file.name}.gz"] = Served(gzip.compress(file.read_bytes()))
    downloads = tuple(
        replace(
            item,
            url=f"{server.url}/{item.to}.gz",
            size=None,
            sha256=hashlib.sha256(server.files[f"/{item.to}.gz"].body).hexdigest(),
        )
        for item in lymph.LYMPH.downloads
    )
    task = replace(lymph.LYMPH, downloads=downloads)
    place = manage.get(task, tmp_path / "data", images.cache_folder())
    assert place == tmp_path / "data" / "pcam" and names(place) == names(root)
    next(iter(place.glob("*test_y.h5"))).unlink()
    asked = len(server.asked)
    manage.get(task, tmp_path / "data", images.cache_folder())
    assert [path for path, _ in server.asked[asked:]] == [
        "/camelyonpatch_level_2_split_test_y.h5.gz"
    ], "no more than is missing"


def test_what_a_person_must_do_is_said_step_by_step(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert medbench("data", "get", "chexpert", "--data", str(tmp_path / "mine")) == 1
    out = capsys.readouterr().out
    assert "CheXpert needs an account with Stanford" in out
    lines = [line for line in out.splitlines() if line[:2].rstrip(".").isdigit()]
    assert [line.split(".")[0] for line in lines] == [str(i) for i in range(1, len(lines) + 1)]
    assert str(tmp_path / "mine") in lines[0] and lines[-1].endswith(
        "medbench data verify chexpert"
    )
    for name, task in registry.tasks().items():
        if not (task.downloads or task.code):
            steps = manage.steps(task, tmp_path)
            assert len(steps) >= 4 and any("http" in line for line in steps), name
            assert task.registration or name in ("marrow", "scin"), name


def test_a_folder_of_some_tasks_lists_what_the_others_lack(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It stopped at the first task that was not there, with exit code 2."""
    (tmp_path / "mine").mkdir()
    assert medbench("data", "list", "--data", str(tmp_path / "mine"), "--json", "a.json") == 0
    assert capsys.readouterr().out.count("missing") >= len(registry.tasks())
    states = {one["state"] for one in json.loads((tmp_path / "a.json").read_text())}
    assert states == {"missing"}
    assert medbench("data", "list", "derm", "--data", str(tmp_path / "mine")) == 0
    said = capsys.readouterr().out
    assert f"missing: it is not in {tmp_path / 'mine'}: none of ham10000" in said
    assert medbench("data", "list", "--data", str(tmp_path / "nowhere")) == 2


def test_every_download_is_declared_soundly() -> None:
    tasks = [
        *registry.tasks().values(),
        registry.task("medmnist:path"),
        registry.task("medmnist:organa:224"),
    ]
    for task in tasks:
        for item in task.downloads:
            assert (
                item.url.startswith("https://")
                and not item.to.startswith("/")
                and ".." not in item.to
            ), item
            assert item.unpack or item.to, f"{task.name}: a file needs a name"
            assert item.unpack != "gzip" or item.to
            assert len(item.md5) in (0, 32) and len(item.sha256) in (0, 64)
        assert len({item.to for item in task.downloads if item.to}) == len(
            [item for item in task.downloads if item.to]
        )


# verify


def counted(task: Task, n: int) -> Task:
    return replace(
        task,
        n_images=n,
        official=replace(
            task.official, images={}, classes={"all": tuple([10] * len(task.classes))}
        ),
    )


@pytest.fixture
def sound(tmp_path: Path) -> tuple[Task, Path]:
    root = others.make_hyperkvasir(tmp_path / "hyperkvasir")
    return counted(replace(hyperkvasir.ENDOSCOPY, downloads=()), 230), root


def test_nothing_differs_where_all_is_there(sound: tuple[Task, Path]) -> None:
    report = manage.verify(*sound, images.cache_folder())
    assert (report.differences, report.remarks) == ([], [])
    assert report.counts["polyps"] == {
        "train": (6, None),
        "val": (2, None),
        "test": (2, None),
        "all": (10, 10),
    }
    assert report.counts["images"]["all"] == (230, 230)


def test_every_fault_is_named(sound: tuple[Task, Path]) -> None:
    task, root = sound
    files = sorted(root.rglob("*.jpg"))
    files[3].write_bytes(files[3].read_bytes()[:60])
    files[40].write_bytes(b"")
    shutil.copy(files[100], files[101])  # two of one class
    shutil.copy(files[150], files[199])  # of two
    picture(files[0].with_name("stray.jpg"), 9999)
    report = manage.verify(replace(task, n_images=231), root, images.cache_folder())
    text = "\n".join(report.differences)
    assert "COUNTS: all: 1 of 24 are not the official ones: images 230 of 231" in text
    assert "BROKEN: 2 of 230 images cannot be decoded" in text
    assert (
        files[3].relative_to(root).as_posix() in text
        and f"{files[40].relative_to(root).as_posix()} is empty" in text
    )
    known = "\n".join(report.remarks)
    assert (
        "2 images are byte for byte a copy of another one" in known
        and f"{files[100].stem} = {files[101].stem}" in known
    )
    assert f"1 of these copies have two labels: {files[150].stem} = {files[199].stem}" in known
    assert "1 image files below the folder are not of this task: 1 in labeled-images/" in known


def test_broken_images_are_found_by_several_processes(tmp_path: Path) -> None:
    lines = [[f"{i}.png", i % 2] for i in range(400)]
    for name, _ in lines:
        picture(tmp_path / name, int(name.split(".")[0]))
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:70])
    task = registry.task(f"folder:{write_csv(tmp_path / 'list.csv', ['path', 'label'], lines)}")
    seen: list[Progress] = []
    with progress_listener.listening(seen.append):
        report = manage.verify(task, tmp_path, images.cache_folder(), workers=2)
    assert (
        len(report.differences) == 1
        and "BROKEN: 1 of 400 images cannot be decoded: 7.png is corrupt" in report.differences[0]
    )
    assert max(one.done for one in seen if one.stage == "decoding") == 400


def test_a_changed_layout_is_a_difference_with_the_nearest_name(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = others.make_aptos(tmp_path / "aptos2019")
    table = root / "train.csv"
    table.write_text(table.read_text().replace("diagnosis", "diagnoses"))
    assert medbench("data", "verify", "retina", "--data", str(tmp_path)) == 1
    out = capsys.readouterr().out
    assert (
        "LAYOUT: " in out
        and "lacks the column 'diagnosis' (the nearest is 'diagnoses'); it has: id_code, diagnoses"
        in out
    )
    assert "1 difference" in out


def test_a_published_hash_is_compared(tmp_path: Path) -> None:
    md5 = others.make_medmnist(tmp_path / "breastmnist.npz", (546, 78, 156), (28, 28), 2)
    task = registry.task("medmnist:breast")
    report = manage.verify(task, tmp_path, images.cache_folder())
    assert report.differences[0].startswith(
        f"HASH: breastmnist.npz has the MD5 {md5}, published is {task.downloads[0].md5}"
    )
    assert (
        report.differences[1].startswith("LAYOUT: ")
        and "is not the official file" in report.differences[1]
    )


def test_copies_count_as_the_publisher_counts(tmp_path: Path) -> None:
    """APTOS holds copies with two grades, which a run leaves out."""
    root = others.make_aptos(tmp_path)
    shutil.copy(root / "train_images" / f"{0:012x}.png", root / "train_images" / f"{1:012x}.png")
    report = manage.verify(
        replace(registry.task("retina"), n_images=60), root, images.cache_folder()
    )
    assert not report.differences and len(report.remarks) == 2


def test_what_a_run_would_refuse_of_copies_is_a_difference(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = sorted((folder / "train").rglob("*.png"))[0], folder / "test"
    label = one.parent.name
    shutil.copy(one, other / label / "again.png")
    assert medbench("data", "verify", f"folder:{folder}") == 1
    said = capsys.readouterr().out
    assert "COPIES: 1 image is in two parts, byte for byte: a run refuses that" in said
    assert "1 difference" in said and "nothing differs" not in said


def test_partial_downloads_are_named(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    others.make_hyperkvasir(tmp_path / "hyperkvasir", ["polyps", "cecum", *hyperkvasir.GRADES])
    assert medbench("data", "verify", "endoscopy", "--data", str(tmp_path)) == 1
    assert (
        "PARTIAL: 18 of 23 classes are not there (barretts, barretts-short-segment, bbps-0-1 ...)"
        in capsys.readouterr().out
    )
    root = chest.make_kermany(tmp_path / "kermany")
    shutil.rmtree(root / "chest_xray" / "train")
    report = manage.verify(pneumonia.PNEUMONIA, root, images.cache_folder())
    assert report.differences[0].startswith("PARTIAL: the official test part alone")
    assert report.counts["images"]["test"] == (16, 624), "the official part, not split again"
    assert medbench("data", "list", "--data", str(tmp_path / "kermany")) == 0


@pytest.mark.parametrize("name", ["endoscopy", "uc-grade", "pneumonia", "derm"])
def test_the_real_downloads(name: str, real_data: Path) -> None:
    task = registry.task(name)
    root = task.find(real_data)
    assert root is not None
    report = manage.verify(task, root, images.cache_folder())
    whole = name in ("uc-grade", "derm")
    assert bool(report.differences) != whole
    assert not any(line.startswith(("BROKEN", "HASH", "LAYOUT")) for line in report.differences)
    if not whole:
        word = "15 of 23 classes" if name == "endoscopy" else "the official test part alone"
        assert report.differences[0].startswith(f"PARTIAL: {word}")
    if name == "pneumonia":
        assert report.remarks[0].startswith("6 images are byte for byte a copy")
        assert report.counts["PNEUMONIA"]["test"] == (390, 390)


# list and show


def test_the_table_fits_a_hundred_columns(
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others.make_hyperkvasir(tmp_path / "hyperkvasir", ["polyps", *hyperkvasir.GRADES])
    monkeypatch.setenv("MEDBENCH_DATA", str(tmp_path))
    assert medbench("data", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if not line.startswith(("Also ", "In detail"))]
    assert max(map(len, table)) <= 100
    row = {line.split()[0]: line for line in table if line.split()}
    assert (
        "partial" in row["endoscopy"]
        and "found" in row["uc-grade"]
        and "missing" in row["chexpert"]
    )
    assert "Stanford" in row["chexpert"] and "223,648" in row["chexpert"] and "6.8" in row["marrow"]
    assert set(registry.tasks()) <= set(row)
    assert medbench("data", "list", "--long") == 0
    long = capsys.readouterr().out
    assert all(task.citation in long for task in registry.tasks().values())


def test_a_sheet_has_letters_for_every_european_class() -> None:
    from medbench.data.manage.contact_sheet import _write

    def drawn(text: str) -> bytes:
        picture = Image.new("L", (40, 40))
        _write(ImageDraw.Draw(picture), (5, 5), text, 20, (255,), 40)  # type: ignore[arg-type]
        return picture.tobytes()

    assert len({drawn(letter) for letter in "aäßøłč\uffff"}) == 7, (
        "each its own, none the box of a letter that is missing"
    )


def test_a_sheet_shows_the_same_images_of_each_class(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    others.make_hyperkvasir(tmp_path / "hyperkvasir", ["polyps", *hyperkvasir.GRADES])
    assert medbench("data", "show", "endoscopy", "--data", str(tmp_path), "-n", "3") == 0
    file = tmp_path / "runs" / "data" / "endoscopy.png"
    first = file.read_bytes()
    with Image.open(file) as sheet:
        assert sheet.width == 250 + 3 * 134 + 6
        pixels = np.asarray(sheet)
    assert (pixels[:, 250:] < 200).any(2).sum() > 4 * 3 * 100 * 100, "four classes of three images"
    assert (
        medbench(
            "data",
            "show",
            "endoscopy",
            "--data",
            str(tmp_path),
            "-n",
            "3",
            "--part",
            "test",
            "--out",
            "b.png",
        )
        == 0
    )
    assert medbench("data", "show", "endoscopy", "--data", str(tmp_path), "-n", "3") == 0
    assert file.read_bytes() == first != (tmp_path / "b.png").read_bytes()
    assert medbench("data", "show", "derm", "--data", "phantom", "-n", "1") == 0
    assert medbench("data", "show", "endoscopy", "--data", str(tmp_path), "--part", "tset") == 2
    assert (
        "has no part 'tset'. Allowed: train, val, test. Did you mean 'test'?"
        in capsys.readouterr().err
    )
    assert medbench("data", "show", "endoscopy", "--data", str(tmp_path), "-n", "0") == 2
    assert medbench("data", "show", "marrow") == 2
    assert "it has no phantom" in capsys.readouterr().err


def test_a_label_has_a_row_and_so_have_images_without_any(tmp_path: Path) -> None:
    task = registry.task("chexpert:zeros")
    parts = task.load(chest.make_chexpert(tmp_path))
    with_all, with_none = (
        manage.draw_contact_sheet(task, parts, "CheXpert", 2),
        manage.draw_contact_sheet(replace(task, classes=task.classes[:1]), parts, "CheXpert", 2),
    )
    assert with_all.height > with_none.height
    rows = datasets_rows(task, parts)
    assert [name for name, _, _ in rows] == [*task.classes, "none of them"]
    for (name, counts, _), c in zip(rows, range(5), strict=False):
        assert counts == ", ".join(
            f"{part} {int((split.labels[:, c] == 1).sum())}" for part, split in parts.items()
        ), name


def datasets_rows(task: Task, parts: dict) -> list:
    from medbench.data.manage.contact_sheet import _rows

    return _rows(task, parts, 2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["get", "dermm"], "Unknown task 'dermm'"),
        (["verify", "chexpert"], "Next: medbench data get chexpert"),
        (["get", "derm", "--data", "phantom"], "--data phantom is not a folder"),
        (["show", "derm", "-n", "99"], "-n 99 is out of range"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    match: str,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert medbench("data", *arguments) == 2
    error = capsys.readouterr().err
    assert match in error and error.count("\n") == 1


def test_a_folder_of_ones_own_is_verified_and_not_fetched(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench("data", "get", f"folder:{folder}") == 2
    assert "is a folder of your own: there is nothing to download" in capsys.readouterr().err
    assert medbench("data", "verify", f"folder:{folder}") == 0
    assert (
        "nothing differs: no counts are published, every image can be decoded"
        in capsys.readouterr().out
    )

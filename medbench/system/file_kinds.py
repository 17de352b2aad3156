"""What a file is, by its first bytes, where it is not what its name says: for a message."""

from __future__ import annotations

HEAD = 64  # bytes that tell it
_MAGIC = {
    b"version https://git-lfs": "a Git LFS pointer: `git lfs pull` fetches the file itself",
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are",
    b"\x1f\x8b": "packed by gzip",
    b"\xfd7zXZ": "packed by xz",
    b"BZh": "packed by bzip2",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"PAR1": "a Parquet table",
    b"\xd0\xcf\x11\xe0": "a workbook or document of old Office",
    b"GIF8": "a GIF",
    b"\x89PNG": "a PNG",
    b"\xff\xd8\xff": "a JPEG",
}
_BRANDS = {b"heic": "HEIC, as phones save it", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}


def kind_of(head: bytes) -> str:
    r"""Name the kind of a file by its first bytes (HEAD of them do); "" where it may be text.

    >>> kind_of(b"PK\x03\x04..."), kind_of(b"path,label")
    ("a zip archive, as Excel's workbooks are", '')
    """
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a video, or an image in its form")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:HEAD].lower()
    if start.startswith(b"<"):
        return (
            "an SVG drawing"
            if b"<svg" in start
            else "a web page: a download went wrong"
            if b"html" in start
            else "XML" * start.startswith(b"<?xml")
        )
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")

"""Small files of many formats."""

import gzip
import io
import struct
import zipfile
from collections.abc import Mapping


def zipped(files: Mapping[str, bytes], before: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return before + out.getvalue()


def office(folder: str, **more: bytes) -> bytes:
    return zipped({"[Content_Types].xml": b"<Types/>", f"{folder}/main.xml": b"<x/>"} | more)


def ole(stream: str = "WordDocument") -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(70_000) + stream.encode("utf-16-le") + bytes(3000)


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\x90wS\xde" + bytes(60)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + bytes(60)
GIF = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff," + bytes(20) + b";"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n%%EOF\n"
PROGRAM = b"MZ\x90\0\3\0\0\0" + bytes(60) + b"This program cannot be run in DOS mode."
ELF = b"\x7fELF\2\1\1" + bytes(60)

#: A file of each extension that may be sent by default.
GOOD: dict[str, bytes] = {
    "pdf": PDF,
    "rtf": b"{\\rtf1\\ansi hello}",
    **dict.fromkeys(("doc", "dot", "xls", "ppt"), ole()),
    **dict.fromkeys(("docx", "dotx"), office("word")),
    **dict.fromkeys(("xlsx", "xltx"), office("xl")),
    **dict.fromkeys(("pptx", "ppsx"), office("ppt")),
    **dict.fromkeys(
        ("odt", "ods", "odp", "odg"), zipped({"mimetype": b"application/vnd.oasis", "content.xml": b"<x/>"})
    ),
    "epub": zipped({"mimetype": b"application/epub+zip", "META-INF/container.xml": b"<x/>"}),
    "txt": "Grüße\r\n".encode(),
    "log": b"2026-11-28 started\n",
    "csv": b"a;b\n1;2\n",
    "tsv": b"a\tb\n",
    "md": b"# Title\n",
    "json": b'{"a": 1}',
    "xml": b"<?xml version='1.0'?><a/>",
    "html": b"<!DOCTYPE html><html><body>x</body></html>",
    "htm": b"\n<html><body>x</body></html>",
    "ics": b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n",
    "vcf": b"BEGIN:VCARD\r\nVERSION:4.0\r\nEND:VCARD\r\n",
    "eml": b"From: a@a.test\r\nSubject: x\r\n\r\nbody\r\n",
    "jpg": JPEG,
    "jpeg": JPEG,
    "png": PNG,
    "gif": GIF,
    "webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(40),
    "tif": b"II*\0\x08\0\0\0" + bytes(40),
    "tiff": b"MM\0*\0\0\0\x08" + bytes(40),
    "bmp": b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(60),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(40),
    "heif": b"\0\0\0\x18ftypmif1\0\0\0\0" + bytes(40),
    "avif": b"\0\0\0\x18ftypavif\0\0\0\0" + bytes(40),
    "svg": b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "mp3": b"ID3\4\0\0\0\0\0\0" + bytes(40),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "ogg": b"OggS\0\2" + bytes(40),
    "m4a": b"\0\0\0\x18ftypM4A \0\0\0\0" + bytes(40),
    "flac": b"fLaC\0\0\0\x22" + bytes(40),
    "mp4": b"\0\0\0\x18ftypisom\0\0\0\0" + bytes(40),
    "mov": b"\0\0\0\x14ftypqt  \0\0\0\0" + bytes(40),
    "webm": b"\x1aE\xdf\xa3" + bytes(40),
    "avi": b"RIFF\x24\0\0\0AVI LIST" + bytes(40),
    "bin": bytes(range(256)) * 40,
    "asc": b"-----BEGIN PGP SIGNATURE-----\n",
    "zip": zipped({"letter.txt": b"hello", "pictures/one.jpg": JPEG}),
}

#: Files that are not sent by default, by what they are.
BAD: dict[str, bytes] = {
    "Windows program": PROGRAM,
    "Linux program": ELF,
    "macOS program": b"\xcf\xfa\xed\xfe" + bytes(40),
    "Windows link": b"L\0\0\0\x01\x14\x02\0" + bytes(40),
    "Java archive": zipped({"META-INF/MANIFEST.MF": b"Main-Class: x\n", "x.class": b"\xca\xfe\xba\xbe"}),
    "gzip archive": gzip.compress(b"x"),
    "RAR archive": b"Rar!\x1a\x07\1\0" + bytes(40),
    "7-Zip archive": b"7z\xbc\xaf\x27\x1c" + bytes(40),
    "tar archive": b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + bytes(250),
}


#: Content that says nothing.
NOISE = {"nothing": b"", "zeros": bytes(10_000), "all octets": bytes(range(256)) * 40, "text": b"just some text\n"}


def bomb(claimed: int = 4_000_000_000, files: int = 50) -> bytes:
    """Return an archive that says it unpacks to far more than there is."""
    raw = bytearray(zipped({f"{number}.txt": b"x" for number in range(files)}))
    at = 0
    while (at := raw.find(b"PK\x01\x02", at)) >= 0:
        raw[at + 24 : at + 28] = struct.pack("<L", claimed)
        at += 4
    return bytes(raw)

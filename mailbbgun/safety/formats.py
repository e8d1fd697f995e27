"""The table of file formats, and how the first octets of a file tell its format. Pure.

A few rules of our own for common formats are right more often than a large table of signatures: see
docs/decisions.rst.
"""

import re
from dataclasses import dataclass

#: Octets of the beginning of a file that are looked at.
HEAD = 8192


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files. Files with any of its extensions are of this format.

    The first of the media types is the one that is sent. ``kind`` is ``text``, ``archive``, ``program`` or
    empty.
    """

    name: str
    extensions: tuple[str, ...]
    types: tuple[str, ...]
    kind: str = ""


def _f(name: str, extensions: str, types: str, kind: str = "") -> Format:
    return Format(name, tuple(extensions.split()), tuple(types.split()), kind)


_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."

PDF = _f("PDF document", "pdf", "application/pdf application/x-pdf")
RTF = _f("RTF document", "rtf", "application/rtf text/rtf")
WORD = _f("Word document", "docx dotx", f"{_OOXML}wordprocessingml.document {_OOXML}wordprocessingml.template")
EXCEL = _f("Excel workbook", "xlsx xltx", f"{_OOXML}spreadsheetml.sheet {_OOXML}spreadsheetml.template")
SLIDES = _f(
    "PowerPoint presentation", "pptx ppsx potx",
    f"{_OOXML}presentationml.presentation {_OOXML}presentationml.slideshow {_OOXML}presentationml.template",
)  # fmt: skip
MACROS = _f(
    "Office document with macros", "docm dotm xlsm xltm xlsb xlam pptm ppsm potm ppam",
    "application/vnd.ms-word.document.macroenabled.12 application/vnd.ms-excel.sheet.macroenabled.12 "
    "application/vnd.ms-excel.sheet.binary.macroenabled.12 "
    "application/vnd.ms-powerpoint.presentation.macroenabled.12",
)  # fmt: skip
OLE = _f(
    "Office 97 document", "doc dot xls xlt ppt pps pot msg vsd pub mpp",
    "application/msword application/vnd.ms-excel application/vnd.ms-powerpoint application/vnd.ms-outlook",
)  # fmt: skip
ODF = _f(
    "OpenDocument file", "odt ods odp odg ott ots otp",
    f"{_ODF}text {_ODF}spreadsheet {_ODF}presentation {_ODF}graphics {_ODF}text-template",
)  # fmt: skip
EPUB = _f("EPUB book", "epub", "application/epub+zip")

JPEG = _f("JPEG image", "jpg jpeg jpe jfif", "image/jpeg image/pjpeg image/jpg")
PNG = _f("PNG image", "png apng", "image/png image/x-png image/apng")
GIF = _f("GIF image", "gif", "image/gif")
WEBP = _f("WebP image", "webp", "image/webp")
TIFF = _f("TIFF image", "tif tiff", "image/tiff")
BMP = _f("BMP image", "bmp dib", "image/bmp image/x-ms-bmp image/x-bmp")
ICON = _f("icon", "ico", "image/vnd.microsoft.icon image/x-icon")
HEIF = _f("HEIF image", "heic heif hif avif", "image/heic image/heif image/avif")
SVG = _f("SVG image", "svg", "image/svg+xml")

MP3 = _f("MP3 sound", "mp3", "audio/mpeg audio/mp3")
WAV = _f("WAV sound", "wav", "audio/wav audio/x-wav audio/wave audio/vnd.wave")
OGG = _f("Ogg file", "ogg oga ogv opus", "audio/ogg video/ogg audio/opus application/ogg")
FLAC = _f("FLAC sound", "flac", "audio/flac audio/x-flac")
MP4 = _f(
    "MPEG-4 file", "mp4 m4v m4a mov qt 3gp",
    "video/mp4 video/quicktime audio/mp4 audio/x-m4a video/x-m4v video/3gpp",
)  # fmt: skip
WEBM = _f("Matroska file", "webm mkv mka", "video/webm video/x-matroska audio/webm audio/x-matroska")
AVI = _f("AVI video", "avi", "video/x-msvideo video/avi video/msvideo")

ZIP = _f("ZIP archive", "zip", "application/zip application/x-zip-compressed application/x-zip", "archive")
JAR = _f(
    "Java archive", "jar war ear apk", "application/java-archive application/vnd.android.package-archive", "program"
)
GZIP = _f("gzip archive", "gz tgz", "application/gzip application/x-gzip", "archive")
SEVEN = _f("7-Zip archive", "7z", "application/x-7z-compressed", "archive")
RAR = _f("RAR archive", "rar", "application/vnd.rar application/x-rar-compressed", "archive")
TAR = _f("tar archive", "tar", "application/x-tar", "archive")
BZIP = _f("bzip2 archive", "bz2 tbz2", "application/x-bzip2", "archive")
XZ = _f("xz archive", "xz txz", "application/x-xz", "archive")
ZSTD = _f("Zstandard archive", "zst", "application/zstd", "archive")
CAB = _f("cabinet archive", "cab", "application/vnd.ms-cab-compressed", "archive")
ISO = _f("disk image", "iso img dmg vhd", "application/x-iso9660-image", "archive")

ELF = _f("Linux program", "so elf", "application/x-executable application/x-elf", "program")
PE = _f(
    "Windows program", "exe dll scr com sys cpl ocx msi msix appx pif",
    "application/vnd.microsoft.portable-executable application/x-msdownload application/x-dosexec",
    "program",
)  # fmt: skip
MACHO = _f("macOS program", "dylib app", "application/x-mach-binary", "program")
LINK = _f("Windows link", "lnk url", "application/x-ms-shortcut", "program")
HELP = _f("Windows help file", "chm hlp", "application/vnd.ms-htmlhelp", "program")
SCRIPT = _f(
    "script", "sh bash bat cmd ps1 psm1 vbs vbe js jse mjs wsf wsh hta reg scf inf py pl php rb command jnlp",
    "application/x-sh text/x-shellscript application/javascript text/javascript application/hta", "program",
)  # fmt: skip

HTML = _f("HTML page", "html htm xhtml", "text/html application/xhtml+xml", "text")
XML = _f("XML file", "xml", "application/xml text/xml", "text")
CALENDAR = _f("calendar file", "ics ical", "text/calendar", "text")
CONTACT = _f("contact file", "vcf vcard", "text/vcard text/x-vcard text/directory", "text")
TEXT = _f("text file", "txt text log asc", "text/plain", "text")
CSV = _f("CSV table", "csv tsv", "text/csv text/tab-separated-values application/csv", "text")
MARKDOWN = _f("Markdown file", "md markdown", "text/markdown", "text")
JSON = _f("JSON file", "json geojson", "application/json text/json", "text")
MAIL = _f("mail", "eml", "message/rfc822", "text")

FORMATS = tuple(one for one in list(globals().values()) if isinstance(one, Format))

_BY_EXTENSION = {extension: one for one in FORMATS for extension in one.extensions}
_BY_TYPE = {media_type: one for one in FORMATS for media_type in one.types}

#: Extensions whose media type is not the first one of their format.
_OWN_TYPE = {
    "pptx": SLIDES.types[0], "ppsx": SLIDES.types[1], "potx": SLIDES.types[2], "dotx": WORD.types[1],
    "xltx": EXCEL.types[1], "doc": OLE.types[0], "dot": OLE.types[0], "xls": OLE.types[1], "xlt": OLE.types[1],
    "ppt": OLE.types[2], "pps": OLE.types[2], "pot": OLE.types[2], "msg": OLE.types[3], "ods": ODF.types[1],
    "odp": ODF.types[2], "odg": ODF.types[3], "ogv": "video/ogg", "mov": "video/quicktime", "qt": "video/quicktime",
    "m4a": "audio/mp4", "3gp": "video/3gpp", "mkv": "video/x-matroska", "mka": "audio/x-matroska",
    "heif": "image/heif", "avif": "image/avif", "tsv": "text/tab-separated-values", "xlsm": MACROS.types[1],
    "xlsb": MACROS.types[2], "pptm": MACROS.types[3],
}  # fmt: skip


def by_extension(extension: str) -> Format | None:
    """Return the format of an extension in lower case, without its dot."""
    return _BY_EXTENSION.get(extension)


def by_type(media_type: str) -> Format | None:
    """Return the format of a media type in lower case, without parameters."""
    return _BY_TYPE.get(media_type)


def type_of(extension: str) -> str:
    """Return the media type of files with an extension."""
    if extension in _OWN_TYPE:
        return _OWN_TYPE[extension]
    found = _BY_EXTENSION.get(extension)
    return found.types[0] if found else "application/octet-stream"


_MARKS: tuple[tuple[bytes, Format], ...] = (
    (b"%PDF-", PDF), (b"{\\rtf", RTF), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"\xff\xd8\xff", JPEG), (b"\x89PNG\r\n\x1a\n", PNG), (b"GIF87a", GIF), (b"GIF89a", GIF),
    (b"II*\0", TIFF), (b"MM\0*", TIFF), (b"II+\0", TIFF), (b"MM\0+", TIFF), (b"\0\0\x01\0", ICON),
    (b"ID3", MP3), (b"OggS", OGG), (b"fLaC", FLAC), (b"\x1aE\xdf\xa3", WEBM),
    (b"PK\x03\x04", ZIP), (b"PK\x05\x06", ZIP), (b"\x1f\x8b", GZIP), (b"7z\xbc\xaf\x27\x1c", SEVEN),
    (b"Rar!\x1a\x07", RAR), (b"BZh", BZIP), (b"\xfd7zXZ\0", XZ), (b"\x28\xb5\x2f\xfd", ZSTD), (b"MSCF\0\0\0\0", CAB),
    (b"\x7fELF", ELF), (b"\xcf\xfa\xed\xfe", MACHO), (b"\xce\xfa\xed\xfe", MACHO), (b"\xca\xfe\xba\xbe", MACHO),
    (b"L\0\0\0\x01\x14\x02\0", LINK), (b"ITSF\x03\0", HELP),
)  # fmt: skip

# What may stand before the first element. Nothing of it is tried in two ways, so no file takes long.
_PROLOGUE = rb"(?:(?><\?xml[^>]*>)|(?><!--[\s\S]*?-->)|(?><!DOCTYPE svg[^>]*>)|\s)*+"
_TEXT_MARKS: tuple[tuple[re.Pattern[bytes], Format], ...] = tuple(
    (re.compile(rb"\s*+" + pattern, re.IGNORECASE), found)
    for pattern, found in (
        (rb"BEGIN:VCALENDAR", CALENDAR),
        (rb"BEGIN:VCARD", CONTACT),
        (_PROLOGUE + rb"<svg[\s>]", SVG),
        (_PROLOGUE + rb"<(?:!DOCTYPE html|html|head|body|script|iframe)[\s>]", HTML),
        (rb"<\?xml\s", XML),
        (rb"#!\s*/|<\?php|@echo off|<job[\s>]", SCRIPT),
    )
)
_LATE_PDF = re.compile(rb"[\r\n]%PDF-\d\.\d")
#: Brands of ISO media files (ISO/IEC 14496-12 §4.3) that are still images.
_STILL = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")


def recognised(head: bytes) -> Format | None:
    """Return the format of a file by its first octets (`HEAD`), or None if they tell none.

    A ZIP archive may be of another format that uses it: see `archives`. Text without a mark is `TEXT`.
    """
    for mark, found in _MARKS:
        if head.startswith(mark):
            return found
    return _by_place(head) or _text(head)


def _by_place(head: bytes) -> Format | None:
    """Return the formats whose marks are not at the beginning, or are too short to be sure."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return {b"WEBP": WEBP, b"WAVE": WAV, b"AVI ": AVI}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return HEIF if head[8:12] in _STILL else MP4
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free") and not head[0]:
        return MP4
    if head[257:262] == b"ustar":
        return TAR
    if head[:2] == b"MZ" and (b"\0" in head[:64] or b"This program" in head):
        return PE
    if (
        head[:2] == b"BM"
        and head[6:10] == b"\0\0\0\0"
        and head[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"l\0\0\0", b"|\0\0\0")
    ):
        return BMP
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 not in (0, 0xF0):
        return MP3  # MPEG audio, layer 3, without tags
    if (late := _LATE_PDF.search(head, 0, 1024)) and b"\0" not in head[: late.start()]:
        return PDF  # readers take it with other lines before it
    return None


def _text(head: bytes) -> Format | None:
    for mark, codec in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if head.startswith(mark):
            head = head[len(mark) :].decode(codec, "ignore").encode()
            break
    if any(octet < 32 and octet not in b"\t\n\r\f\x1b" for octet in set(head)):
        return None
    return next((found for pattern, found in _TEXT_MARKS if pattern.match(head)), TEXT)

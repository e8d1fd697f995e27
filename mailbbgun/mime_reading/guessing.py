"""The charset of text that names none, told by what reads like a language. Pure.

Each candidate decodes the text, and every character outside ASCII is worth something: much if it is
among the commonest of its language, little if it only belongs to its script, less than nothing if it
does not. Of short texts the common characters decide; measured on sentences of 12 characters, this is
right where general detectors are not.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

#: Letters of an alphabet, at most. Of longer lists, all are common.
_LETTERS = 80
#: Bytes that are looked at.
_SAMPLE = 600

_CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюОАВСПНИДЗЕ"
_CHINESE = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种"
    "面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本"
    "去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比"
    "或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总"
    "次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做"
    "必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权"
    "收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信"
    "马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装您好请谢订单货购买系们联"
)
_TRADITIONAL = (
    "的一是在不了有和人這中大為上個國我以要他時來用們生到作地於出就分對成會可主發年動同工也能下過子說產種"
    "面而方後多定行學法所民得經十三之進著等部度家電力裡如水化高自二理起小物現實加量都兩體制機當使點從業本"
    "去把性好應開它合還因由其些然前外天政四日那社義事平形相全表間樣與關各重新線內數正心反你明看原又麼利比"
    "或但質氣第向道命此變條只沒結解問意建月公無系軍很情者最立代想已通並提直題程展五果員位入常文總次品式活"
    "設及管特件長求老頭資邊流路級少圖統接知較將組見計別她手期論運指幾區強放決被做必先回則任取據處給色光門"
    "保造領口東導器金思術極交受聯什認共權收證改清己美再轉更單風打白教帶安場身車真務萬每目至達走議聲報完類"
    "離華名確才科張信馬節話整空元況今集傳許步廣記需您好請謝訂貨購買"
)
_KOREAN = (
    "이다는을에가의하고지사한기를은로대자어시그인해리있도나일과보니만정장구전수아서주부라상제들소원스공생"
    "안우화여면경조오동세성게신무없요었습까려내으드중방계등르관교국년심유개모거마말선연되러때위미것적실물"
    "분합감청님녕문품발송"
)
_HEBREW = "יוהלאתרבמשנםכע"
_ARABIC = "اليمنرتوبةعدسفهكقأحجذهىء"
_GREEK = "αοιετσνηυρπκμλάίόέήώύςδγ"
_THAI = "านรกเอมงลวตทสยคดบปหพะแไ่้ีั็ิข"
_LATIN = "éèàêçùôîâëïœäöüßÄÖÜåæøØÅÆñáíóúãõÁÉÓÚÍ¿¡€’“”–—…«»°£©®·• "
_CENTRAL = ("íáéěýřšžčůúóťďňäôľĺŕ", "ąęłóśżćńź", "áéőöóüíúű")  # Czech and Slovak, Polish, Hungarian
_MARKS = "€„”“’–—…"
_TURKISH = "ışüğçöİÇĞÖŞÜâî€’“”–—…"


@dataclass(frozen=True, slots=True)
class _Candidate:
    codec: str
    common: str
    belongs: Callable[[str], object]
    #: Whether its letters stand between letters of ASCII, as é does.
    latin: bool = False


def _of(pattern: str) -> Callable[[str], object]:
    return re.compile(f"[{pattern}]").match


_HANZI = _of("\u4e00-\u9fff\u3000-\u3011\uff01-\uff5e·“”‘’…—")
_KANA = _of("\u3041-\u30fe\u4e00-\u9fff\u3000-\u3011\uff01-\uff5e")
_SLAVIC = _of("\u0400-\u045f\u0490\u0491«»“”„–—’…№€ ")
_EASTERN = _of("\u00c0-\u017f€„”“’–—… «»°§")
_KANA_LETTERS = "".join(map(chr, range(0x3041, 0x30FE))) + "、。ー・"

_CANDIDATES = (
    _Candidate("cp1251", _CYRILLIC, _SLAVIC),
    _Candidate("koi8-r", _CYRILLIC, _SLAVIC),
    _Candidate("gb18030", _CHINESE + ",。、!?:;", _HANZI),
    _Candidate("big5hkscs", _TRADITIONAL + ",。、!?:;", _HANZI),
    _Candidate("cp932", _KANA_LETTERS, _KANA),
    _Candidate("euc_jp", _KANA_LETTERS, _KANA),
    _Candidate("cp949", _KOREAN, _of("\uac00-\ud7a3\u3000-\u3011\uff01-\uff5e“”‘’…")),
    _Candidate("cp1255", _HEBREW, _of("\u05b0-\u05ea“”‘’–—…₪")),
    _Candidate("cp1256", _ARABIC, _of("\u060c-\u06d2“”‘’–—…")),
    _Candidate("cp1253", _GREEK, _of("\u0384-\u03ce“”‘’–—…«»€")),
    _Candidate("cp874", _THAI, _of("\u0e01-\u0e5b“”‘’–—…")),
    _Candidate("cp1252", _LATIN, _of("\u00a0-\u00ff€‚„…‘’“”–—™œŒšŠžŽŸ•"), latin=True),
    *(_Candidate(codec, one + _MARKS, _EASTERN, latin=True) for codec in ("cp1250", "iso8859-2") for one in _CENTRAL),
    _Candidate("cp1254", _TURKISH, _of("\u00c0-\u00ffğıİşŞĞ€‘’“”–—…"), latin=True),
)


def guessed(data: bytes) -> str | None:
    """Return the likeliest charset of bytes that are not UTF-8; None if none is likely."""
    if data.isascii():
        return _escaped(data)
    sample = data[:_SAMPLE]
    if data.isascii() or sample.isascii():
        first = next(at for at, one in enumerate(data) if one > 0x7F)
        sample = data[max(0, first - 200) : first + _SAMPLE]
    scored = [(score, candidate.codec) for candidate in _CANDIDATES if (score := _score(sample, candidate)) > 0]
    # Of two that are as likely, the first: candidates are in the order of how common they are in mail.
    return max(scored, key=lambda one: one[0])[1] if scored else None


def _escaped(data: bytes) -> str | None:
    """Return the 7-bit charset whose escape sequences are in the data (RFC 1468, RFC 1557)."""
    if b"\x1b$)C" in data:
        return "iso2022_kr"
    return "iso2022_jp_ext" if b"\x1b$" in data or b"\x1b(" in data else None


def _score(sample: bytes, candidate: _Candidate) -> float:
    """Return what a character outside ASCII is worth in this charset, on average: 1 at most."""
    try:
        text = sample.decode(candidate.codec, "replace")
    except UnicodeError:
        return -1.0
    worth, number = 0.0, 0
    before = " "
    for one in text:
        if one > "\x7f":
            number += 1
            worth += _worth(one, before, candidate)
        before = one
    # Of two languages of the same letters, the one that more people write.
    return worth / (number or 1) - (0.05 if candidate.latin and candidate.codec != "cp1252" else 0)


def _worth(one: str, before: str, candidate: _Candidate) -> float:
    if one == "\ufffd" or not candidate.belongs(one):
        return -1.5
    place = candidate.common.find(one)
    if place < 0 and not one.isalpha():
        return 0.3
    worth = 0.2 if place < 0 else 1.0 if place < 10 or len(candidate.common) > _LETTERS else 0.7
    # A capital after a small letter: of another charset, most often.
    if one.isupper() and before.islower():
        worth -= 1.2
    if before.isascii() and before.isalpha() and not candidate.latin:
        worth -= 0.7
    if candidate.latin and before > "\x7f" and before.isalpha():
        worth -= 0.4
    return worth

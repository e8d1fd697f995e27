"""What a person wrote is told from quotations and signatures, as mail programs mark them."""

import pytest

from mailbbgun.inbound_routes.posts.own_text import own_html, own_text


@pytest.mark.parametrize(
    ("text", "own", "signature"),
    [
        ("hi", "hi", ""),
        ("hi\n\nOn Monday Ann wrote:\n> a\n> b\n", "hi", ""),
        ("hi\n> a\nyes\n-- \nZoe\n", "hi\nyes", "Zoe"),
        ("yes\n-- \nZoe\n\nOn Monday Ann wrote:\n> a", "yes", "Zoe"),
        ("See:\nOn Monday Ann wrote:\n> a\n> b", "See:", ""),
        ("hi\n\nOn Monday Ann wrote:\n\n> a", "hi", ""),
        ("hi\n\nOn Mon, Nov 2, 2026 at 9:00 AM Ann Example <ann@example.com>\nwrote:\n> a", "hi", ""),
        ("hi\n\npon., 2 lis 2026 o 9:00 Ann <\nann@example.com> napisał(a):\n> a", "hi", ""),
        ("hi 5\nAnn wrote:\n> a", "hi 5", ""),
        ("hi\n-----Original Message-----\nFrom: Ann\n\nold", "hi", ""),
        ("hi\n________________________________\nVon: Ann\n\nold", "hi", ""),
        ("hi\n____________________\nbye", "hi\n____________________\nbye", ""),
        ("> only\n> quoted\n", "> only\n> quoted", ""),
        ("-----Ursprüngliche Nachricht-----\nVon: Ann\n\nforwarded", None, ""),
        ("", "", ""),
    ],
)
def test_what_a_person_wrote_is_told_from_quotes_and_signature(text, own, signature):
    assert own_text(text) == (text if own is None else own, signature)


QUOTE = '<blockquote type="cite">old</blockquote>'
BORDER = "border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0in 0in 0in"
GMAIL = 'class="gmail_quote" style="margin:0 0 0 .8ex;border-left:1px solid"'


@pytest.mark.parametrize(
    ("html", "own"),
    [
        pytest.param("<p>yes <b>no</b></p>", None, id="nothing is quoted"),
        pytest.param(
            '<div dir="ltr">tak<br clear="all"><div dir="ltr" class="gmail_signature">Zoe<div>x</div></div></div><br>'
            '<div class="gmail_quote"><div dir="ltr" class="gmail_attr">pon., 2 lis 2026 o 9:00 Ann napisał(a):<br>'
            f"</div><blockquote {GMAIL}><div>old<blockquote {GMAIL}>older</blockquote></div></blockquote></div>",
            '<div dir="ltr">tak<br clear="all"></div><br><div class="gmail_quote"></div>',
            id="Gmail",
        ),
        pytest.param(
            f'<div class="gmail_quote">On Monday Ann &lt;<a href="mailto:a@b">a@b</a>&gt; wrote:<br>'
            f"<blockquote {GMAIL}>one</blockquote><div>yes</div><blockquote {GMAIL}>two</blockquote></div>",
            '<div class="gmail_quote"><a href="mailto:a@b"></a><br><div>yes</div></div>',
            id="Gmail, answered below each quotation",
        ),
        pytest.param(
            '<div class="gmail_quote"><div class="gmail_attr">---------- Forwarded message ---------<br>From: Ann</div>'
            "<p>news</p></div>",
            None,
            id="Gmail, forwarded",
        ),
        pytest.param(
            '<div>yes</div><div id="appendonsend"></div><hr tabindex="-1"><div id="divRplyFwdMsg">From: Ann</div>'
            "<div>old</div>",
            "<div>yes</div>",
            id="Outlook on the web",
        ),
        pytest.param(
            "<body><div>yes</div><hr><div id=divRplyFwdMsg>Von: Ann</div><div>old</div></body>",
            "<body><div>yes</div></body>",
            id="Outlook on the web, without quotes",
        ),
        pytest.param(
            f"<div class=WordSection1><p class=MsoNormal>yes<o:p></o:p></p><div><div style='{BORDER}'><p>From: Ann</p>"
            "</div></div><p class=MsoNormal>old</p></div>",
            "<div class=WordSection1><p class=MsoNormal>yes<o:p></o:p></p><div></div></div>",
            id="Outlook for Windows",
        ),
        pytest.param("yes<br>-----Original Message-----<br>From: Ann<br>old", "yes", id="old Outlook"),
        pytest.param(
            '<div class="moz-cite-prefix">Am 2.11.26 schrieb Ann:<br></div>'
            f'{QUOTE}<p>yes</p>{QUOTE}<p>no</p><pre class="moz-signature" cols="72">-- \nZoe</pre>',
            "<p>yes</p><p>no</p>",
            id="Thunderbird",
        ),
        pytest.param(
            '<div>yes</div><br><div><div>On 2 Nov 2026, at 9:00, Ann wrote:</div><br class="Apple-interchange-newline">'
            f"{QUOTE}</div>",
            '<div>yes</div><br><div><div></div><br class="Apple-interchange-newline"></div>',
            id="Apple Mail",
        ),
        pytest.param(
            '<div>yes</div><div id="ydp1yahoo_quoted_7" class="ydp1yahoo_quoted"><div>Ann wrote:</div>old</div>',
            "<div>yes</div>",
            id="Yahoo",
        ),
        pytest.param('yes<hr id="zwchr" data-marker="__DIVIDER__"><div>old</div>', "yes", id="Zimbra"),
        pytest.param("<p>My words:</p><blockquote>are indented</blockquote>", None, id="a quotation of her own"),
        pytest.param(f'<p>See:</p><div class="moz-cite-prefix">Ann wrote:</div>{QUOTE}', "<p>See:</p>", id="a colon"),
        pytest.param(f"<div>Ann wrote:</div>{QUOTE}", None, id="nothing is left"),
        pytest.param(f'<img src="cid:1">{QUOTE}', '<img src="cid:1">', id="an image is left"),
        pytest.param('yes<blockquote type="cite">old', "yes", id="a quotation that does not end"),
        pytest.param("<!-- <blockquote type=cite> --><p>yes</p>", None, id="a comment"),
    ],
)
def test_html_is_given_without_quotations_and_signatures(html, own):
    assert own_html(html) == (html if own is None else own)


# Each costs minutes where a step grows with the square of the size.
@pytest.mark.parametrize(
    "html",
    [
        pytest.param("<div>" * 200_000, id="deep"),
        pytest.param("<b>" * 100_000 + "</i>" * 150_000, id="ends of what is not open"),
        pytest.param(QUOTE * 20_000, id="quotations"),
        pytest.param(("<b></b>" * 20 + QUOTE) * 5_000, id="tags before quotations"),
        pytest.param("<blockquote type=cite>" * 40_000, id="deep quotations"),
        pytest.param("<div id=" * 100_000, id="open tags"),
        pytest.param('<div class="' + "a " * 400_000 + '">', id="classes"),
        pytest.param("<!--" * 200_000, id="open comments"),
        pytest.param("<div " + "class " * 150_000 + ">", id="attributes without values"),
        pytest.param("a:" * 400_000 + QUOTE, id="a long line"),
        pytest.param(f'<div style="{"border:none;" * 80_000}">x', id="a long style"),
    ],
)
def test_hostile_html_costs_no_more_than_its_size(html):
    assert len(own_html(html)) <= len(html)


@pytest.mark.parametrize("text", ["> a\n" * 200_000, "a:\n> b\n" * 100_000, "1<" * 400_000 + ":\n> a", "-" * 900_000])
def test_hostile_text_costs_no_more_than_its_size(text):
    assert len(own_text(text)[0]) <= len(text)

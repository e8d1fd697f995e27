"""Text in format=flowed becomes paragraphs (RFC 3676). Pure."""

#: Lines that are joined into one paragraph, at most.
_LINES = 10_000


def unflowed(text: str, *, delete_space: bool) -> str:
    """Return text with its flowed lines joined and its space-stuffing undone.

    A line that ends with a space goes on in the next line of the same quote depth (§4.1). With
    ``delete_space`` (DelSp=yes, §4.2) that space is no part of the text. Quoted paragraphs get their
    marks and one space before them (§4.5).
    """
    done: list[str] = []
    paragraph: list[str] = []
    depth = 0

    def end() -> None:
        if paragraph:
            done.append((">" * depth + " " if depth else "") + "".join(paragraph))
            paragraph.clear()

    for line in text.split("\n"):
        content = line.lstrip(">")
        now = len(line) - len(content)
        content = content.removeprefix(" ")
        # A signature's mark is never joined to anything (§4.3).
        signature = content == "-- "
        if paragraph and (now != depth or signature or len(paragraph) >= _LINES):
            end()
        depth = now
        flows = content.endswith(" ") and not signature
        paragraph.append(content[:-1] if flows and delete_space else content)
        if not flows:
            end()
    end()
    return "\n".join(done)

"""How well reports that came back are understood: ``python -m bench.bounces FOLDER``.

Reads each mail in FOLDER that has a label, and compares. These files of labels are known, anywhere
in FOLDER:

- ``labels.json`` of Sisimai's answers: ``{"file": {"rb": [{"recipient", "hardbounce", "reason"}]}}``
- ``labels.json`` of flufl.bounce's: ``{"file": {"permanent": [addresses], "temporary": [addresses]}}``
- ``bounce_oracles.json``, on what parsers agree: ``{"path": {"majority_recipients": [addresses]}}``
- ``smtp_replies.json``: ``[{"text", "replycode", "status", "hardbounce", "reason"}]``

Mail below ``--ordinary`` folders is no report, and should be left alone. Figures are per file of
labels:

- ``recipients``: mails of which exactly the labelled recipients were named
- ``hard``: recipients, or replies, that are rightly said to be hard or not
- ``hard*``: the same without Sisimai's reason ``filtered``: it says "not hard" of a "user unknown"
  unless it sees that it answers RCPT, or the code 5.1.1
- ``auto-replies``: answers of machines that were taken for such
- ``left alone``: mails that are no report, and were not taken for one
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mailbbgun.bounces.classify import classify_reply
from mailbbgun.bounces.read import read
from mailbbgun.bounces.report import BounceClass, MailReport, ReportKind

#: Sisimai's name for a recipient whom a report does not name, and its reason for automatic answers.
UNNAMED, AUTO_REPLY = "@libsisimai.org.invalid", "vacation"
#: Reasons of Sisimai that are no bounce, so that nothing is hard or not.
NO_BOUNCE = frozenset({"feedback", "delivered", AUTO_REPLY})


@dataclass
class Score:
    """What was right of what was labelled, by figure; and what was not."""

    right: Counter[str] = field(default_factory=Counter)
    of: Counter[str] = field(default_factory=Counter)
    misses: list[str] = field(default_factory=list)

    def add(self, figure: str, right: bool, told: str) -> None:
        """Count one. ``told`` describes it if it is wrong."""
        self.of[figure] += 1
        self.right[figure] += right
        if not right:
            self.misses.append(f"{figure}: {told}")


def same(report: MailReport, wanted: set[str]) -> bool:
    """Return whether a report names exactly these, by their addresses or by those that forwarded to them."""
    named = [{one.address.lower(), (one.original_address or one.address).lower()} for one in report.recipients]
    return all(names & wanted for names in named) and wanted <= set().union(*named)


def of_sisimai(score: Score, path: Path, label: dict[str, Any]) -> None:
    """Compare with what Sisimai says of a mail."""
    given = [one for one in label.get("rb") or () if one["recipient"]]
    if not given:
        return
    report = read(path.read_bytes())
    if all(one["reason"] == AUTO_REPLY for one in given):
        score.add("auto-replies", report.kind is ReportKind.AUTO_REPLY, f"{path.name} {report.kind}")
        return
    wanted = {one["recipient"].lower() for one in given}
    if not any(one.endswith(UNNAMED) for one in wanted):
        score.add("recipients", same(report, wanted), f"{path.name} {_named(report)}, not {sorted(wanted)}")
    by_address = {one.address.lower(): one for one in report.recipients}
    for one in given:
        found = by_address.get(one["recipient"].lower())
        if found and one["reason"] not in NO_BOUNCE:
            about = f"{path.name} {found.reason}, not {one['reason']}: {found.text[:100]}"
            _hard(score, found.class_, one, about)


def of_flufl(score: Score, path: Path, label: dict[str, Any]) -> None:
    """Compare with the recipients that flufl.bounce names."""
    _recipients(score, path, label["permanent"] + label["temporary"])


def of_parsers(score: Score, path: Path, label: dict[str, Any]) -> None:
    """Compare with the recipients on which parsers agree."""
    if label["majority_recipients"] is not None:
        _recipients(score, path, label["majority_recipients"])


def of_replies(score: Score, replies: list[dict[str, Any]]) -> None:
    """Compare the classes of replies."""
    for one in replies:
        status = one["status"] if len(one["status"].rpartition(".")[2]) < 3 else None  # 5.0.910 is Sisimai's own
        cause = classify_reply(int(one["replycode"] or 0) or None, status, one["text"])
        _hard(score, cause.class_, one, f"{cause.reason}, not {one['reason']}: {one['text'][:100]}")


def _recipients(score: Score, path: Path, wanted: list[str]) -> None:
    report = read(path.read_bytes())
    about = f"{path.name} {_named(report)}, not {sorted(wanted)}"
    score.add("recipients", same(report, {one.lower() for one in wanted}), about)


def _hard(score: Score, found: BounceClass, label: dict[str, Any], told: str) -> None:
    right = (found is BounceClass.HARD) is bool(label["hardbounce"])
    score.add("hard", right, told)
    if label["reason"] != "filtered":
        score.add("hard*", right, told)


def _named(report: MailReport) -> list[str]:
    return [one.address for one in report.recipients]


def scores(folder: Path, ordinary: list[Path]) -> Iterator[tuple[str, Score]]:
    """Yield the figures of each file of labels, and of each folder of ordinary mail."""
    for file in sorted(folder.rglob("*.json")):
        if file.name not in ("labels.json", "bounce_oracles.json", "smtp_replies.json"):
            continue
        score, labels = Score(), json.loads(file.read_text())
        if file.name == "smtp_replies.json":
            of_replies(score, labels)
        else:
            _compare(score, file.parent, labels)
        yield str(file.relative_to(folder)), score
    for place in ordinary:
        score = Score()
        for path in sorted(one for one in place.rglob("*") if one.suffix in (".eml", ".msg", ".txt") and one.is_file()):
            report = read(path.read_bytes())
            score.add("left alone", report.kind is ReportKind.OTHER, f"{path.name} {report.kind} {_named(report)}")
        yield str(place), score


def _compare(score: Score, folder: Path, labels: dict[str, dict[str, Any]]) -> None:
    there: dict[str, list[Path]] = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        there.setdefault(path.name, []).append(path)
    kinds: dict[str, Callable[[Score, Path, dict[str, Any]], None]] = {
        "rb": of_sisimai,
        "permanent": of_flufl,
        "majority_recipients": of_parsers,
    }
    for name, label in labels.items():
        compare = next((kinds[key] for key in kinds if key in label), None)
        paths = [folder / name] if "/" in name else there.get(name, [])
        for path in paths if compare else ():
            if path.is_file():
                compare(score, path, label)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--ordinary",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with mail that is no report.  Can be repeated.",
)
@click.option("--misses", is_flag=True, help="Print what was not understood, too.")
def main(folder: Path, ordinary: tuple[Path, ...], misses: bool) -> None:
    """Print how well the labelled reports in FOLDER are understood."""
    started = time.perf_counter()
    for source, score in scores(folder, [*ordinary]):
        figures = (f"{name} {score.right[name]}/{score.of[name]}" for name in score.of)
        click.echo(f"{source}: {', '.join(figures) or 'none'}")
        for one in score.misses if misses else ():
            click.echo(f"  {one}")
    click.echo(f"{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()

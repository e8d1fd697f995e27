"""README's first section, pasted into a shell."""

import re
import signal
import subprocess
from pathlib import Path

from tests.run.test_run import ROOT, SECONDS, Service, until


def commands() -> list[str]:
    """Return the literal blocks of the section Start."""
    section = (ROOT / "README.rst").read_text().partition("\nStart\n=====\n")[2].partition("\n====")[0]
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", section)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() for block in blocks]


def test_the_commands_of_the_readme_do_what_it_says(tmp_path: Path) -> None:
    run, send, ask, tests = commands()
    assert tests == "bin/test"
    service = Service(tmp_path)

    def pasted(command: str) -> str:
        here = command.replace("127.0.0.1:5000", f"127.0.0.1:{service.port}")
        assert here != command
        return subprocess.run(["sh", "-c", here], cwd=ROOT, capture_output=True, text=True, check=True, timeout=SECONDS).stdout

    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(["sh", "-c", f"exec {run}"], cwd=ROOT, env=service.environment, stdout=file, stderr=file, start_new_session=True)
    try:
        until(lambda: "Ctrl-C stops" in output.read_text(), output.read_text)
        answer = pasted(send)
        assert answer.startswith("HTTP/1.1 201 ")
        assert re.search(rf"(?im)^location: http://127\.0\.0\.1:{service.port}/messages/[-0-9a-f]{{36}}\s*$", answer)
        until(lambda: any((service.var / "mail" / "new").iterdir()), output.read_text)
        until(lambda: '"DELIVERED"' in pasted(ask), output.read_text)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert service.alive() == {}
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

"""``mailbbgun files`` on each database."""

from pathlib import Path

from tests.cli.conftest import Shell


def test_files_are_kept_listed_renamed_given_out_and_deleted(shell: Shell, tmp_path: Path) -> None:
    there, copy = tmp_path / "may.txt", tmp_path / "copy.txt"
    there.write_bytes(b"Total: 12 EUR\n")
    made = shell.json("files", "put", str(there), "reports/may.txt", "--expires-at", "2999-01-01")
    assert (made["name"], made["content_type"], made["size"]) == ("reports/may.txt", "text/plain", 14)
    assert made["expires_at"] == "2999-01-01T00:00:00.000Z"
    assert shell.json("files", "list", "--prefix", "reports/") == {"files": [made], "count": 1}
    assert "reports/may.txt" in shell.run("files", "list", "--folder", "reports").stdout
    renamed = shell.json("files", "rename", "reports/may.txt", "archive/may.txt")
    assert (renamed["id"], renamed["name"]) == (made["id"], "archive/may.txt")
    shell.run("files", "get", made["id"], str(copy))
    assert copy.read_bytes() == there.read_bytes()
    there.write_bytes(b"Total: 13 EUR\n")
    taken = shell.run("files", "put", str(there), "archive/may.txt", code=1)
    assert "There is another file called" in taken.stderr
    assert shell.json("files", "put", str(there), "archive/may.txt", "--replace")["id"] == made["id"]
    assert "name:" in shell.run("files", "put", str(there), "../may.txt", code=2).stderr
    shell.run("files", "delete", "archive/may.txt")
    assert shell.json("files", "list") == {"files": [], "count": 0}
    assert "There is no file" in shell.run("files", "get", "archive/may.txt", str(copy), code=1).stderr

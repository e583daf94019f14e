"""Fetches from OPTIMADE's reference server with `matgan data fetch` and compares with what the server has.

    python3 -m venv build/optimade && build/optimade/bin/pip install 'optimade[server]==1.5.0'
    build/optimade/bin/python scripts/optimade-server.py

The server has its own test structures in memory (mongomock) and listens on loopback only. What it has is asked of it by
plain requests of this script's, apart from our client. Prints a line for each check; ends with 1 if one fails.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from optimade.filterparser import LarkParser

root = Path(__file__).resolve().parent.parent
folder = Path(tempfile.mkdtemp(prefix="matgan-optimade-"))
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
base = f"http://127.0.0.1:{port}"
failed = 0


def check(name: str, found: object, expected: object) -> None:
    global failed
    equal = found == expected
    failed += not equal
    print(f"{'ok    ' if equal else 'FAILED'} {name}" + ("" if equal else f": {found!r}, not {expected!r}"), flush=True)


def command(url: str, out: str, *more: str) -> list[str]:
    return ["node", str(root / "bin/matgan.mjs"), "data", "fetch", url, "--out", str(folder / out), "--interval", "0", "--json", *more]


def fetch(url: str, out: str, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(url, out, *more), capture_output=True, text=True, timeout=120)


def rows(out: str) -> list[dict]:
    return [json.loads(line) for line in (folder / out).read_text().splitlines()]


def ask(query: str) -> dict:
    with urllib.request.urlopen(f"{base}/v1/{query}", timeout=60) as answer:
        return json.load(answer)


# The test structures are as a database has them: these names lead to the specification's.
names = {
    "id": "task_id",
    "immutable_id": "_id",
    "chemical_formula_descriptive": "pretty_formula",
    "chemical_formula_reduced": "pretty_formula",
    "chemical_formula_anonymous": "formula_anonymous",
}
(folder / "config.json").write_text(json.dumps({"aliases": {"structures": names}}))
log = open(folder / "server.log", "w+")
server = subprocess.Popen(
    [sys.executable, "-m", "uvicorn", "optimade.server.main:app", "--host", "127.0.0.1", "--port", str(port)],
    stdout=log,
    stderr=subprocess.STDOUT,
    cwd=folder,
    env={
        **os.environ,
        "OPTIMADE_DATABASE_BACKEND": "mongomock",
        "OPTIMADE_INSERT_TEST_DATA": "true",
        "OPTIMADE_LOG_DIR": str(folder),
        "OPTIMADE_CONFIG_FILE": str(folder / "config.json"),
    },
)
try:
    for _ in range(240):
        try:
            about = ask("info")
            break
        except OSError:
            if server.poll() is not None:
                sys.exit(f"the server did not start:\n{(folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.5)
    else:
        sys.exit("the server did not answer within two minutes")
    implementation = about["meta"]["implementation"]
    there, offset = [], 0
    while page := ask(f"structures?page_limit=7&page_offset={offset}")["data"]:
        there += page
        offset += len(page)
    available = ask("structures?page_limit=1")["meta"]["data_available"]
    print(f"{implementation['name']} {implementation['version']}, API {about['meta']['api_version']}: {available} structures")
    wanted = [(entry["id"], entry["attributes"]["chemical_formula_reduced"]) for entry in there]
    check("this script has seen all that the server says it has", len(there), available)

    for size in ("1", "3", "500"):
        done = fetch(base, f"all{size}.jsonl", "--page-size", size)
        told = json.loads(done.stdout) if done.returncode == 0 else done.stderr
        check(f"all structures, {size} a page: ids and formulas, in order", [(r["id"], r["formula"]) for r in rows(f"all{size}.jsonl")], wanted)
        check(f"all structures, {size} a page: counts", [told[k] for k in ("rows", "without", "offered", "retries")], [available, 0, available, 0])
        check(f"all structures, {size} a page: pages", told["pages"], -(-available // int(size)))

    url = parse_qs(urlsplit(told["url"]).query)
    check("response_fields is a list of property names", bool(re.fullmatch(r"[a-z_][a-z_0-9]*(,[a-z_][a-z_0-9]*)*", url["response_fields"][0])), True)
    check("parameters are those of the specification", set(url) <= {"response_fields", "page_limit", "filter"}, True)

    done = fetch(f"{base}/v1/", "fields.jsonl", "--energy-field", "nelements", "--gap-field", "nsites")
    numbers = [(entry["attributes"]["nelements"], entry["attributes"]["nsites"]) for entry in there]
    check("numbers of named fields", [(r["formation_energy_ev_per_atom"], r["band_gap_ev"]) for r in rows("fields.jsonl")], numbers)
    done = fetch(base, "unknown.jsonl", "--energy-field", "_exmpl_nothing")
    check("a field that no structure has gives nulls", {r["formation_energy_ev_per_atom"] for r in rows("unknown.jsonl")}, {None})

    for i, (text, keep) in enumerate([
        ('elements HAS "Si"', lambda a: "Si" in a["elements"]),
        ('elements HAS ALL "O","H" AND nelements>=3', lambda a: {"O", "H"} <= set(a["elements"]) and a["nelements"] >= 3),
        ('NOT (elements HAS ANY "Ac","Ag") OR nsites<10', lambda a: not {"Ac", "Ag"} & set(a["elements"]) or a["nsites"] < 10),
        ('chemical_formula_reduced STARTS WITH "Ac"', lambda a: a["chemical_formula_reduced"].startswith("Ac")),
    ]):
        LarkParser().parse(text)
        done = fetch(base, f"filter{i}.jsonl", "--filter", text, "--page-size", "2")
        expected = [entry["id"] for entry in there if keep(entry["attributes"])]
        check(f"filter {text} ({len(expected)})", [r["id"] for r in rows(f"filter{i}.jsonl")], expected)
    done = fetch(base, "none.jsonl", "--filter", "nelements>1000")
    check("a filter that nothing fits: no row, no error", [done.returncode, rows("none.jsonl")], [0, []])
    done = fetch(base, "bad.jsonl", "--filter", 'elements HASS "Si"')
    check("a filter that is none: 2, one line, the server's word", [done.returncode, done.stderr.count("\n"), "HTTP 400" in done.stderr], [2, 1, True])
    done = fetch(base, "large.jsonl", "--page-size", "10000")
    check("more a page than the server gives: 2, the remedy", [done.returncode, "--page-size" in done.stderr], [2, True])
    done = fetch(base, "limit.jsonl", "--limit", "5", "--page-size", "2")
    check("--limit", [(r["id"], r["formula"]) for r in rows("limit.jsonl")], wanted[:5])

    # Killed in the middle, by force, then the same command again.
    slow = ["--page-size", "1", "--interval", "250"]
    process = subprocess.Popen(command(base, "killed.jsonl", *slow), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = folder / "killed.jsonl.part.state"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (state.exists() and json.loads(state.read_text())["rows"] >= 5):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    check("killed: no file under its name", (folder / "killed.jsonl").exists(), False)
    again = json.loads(fetch(base, "killed.jsonl", "--page-size", "1").stdout)
    check("killed: goes on where it was", [again["rows"], 5 <= again["resumed"] < available], [available, True])
    check("killed: the same bytes as at one go", (folder / "killed.jsonl").read_bytes(), (folder / "all1.jsonl").read_bytes())

    # Cut off by the server: it stops in the middle and comes back.
    process = subprocess.Popen(command(base, "cut.jsonl", *slow), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    state = folder / "cut.jsonl.part.state"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (state.exists() and json.loads(state.read_text())["rows"] >= 3):
        time.sleep(0.05)
    server.send_signal(signal.SIGSTOP)
    time.sleep(2)
    server.send_signal(signal.SIGCONT)
    told = json.loads(process.communicate(timeout=120)[0])
    check("a server that stands still for two seconds: all the same", [told["rows"], (folder / "cut.jsonl").read_bytes()], [available, (folder / "all1.jsonl").read_bytes()])

    prepared = subprocess.run(
        ["node", str(root / "bin/matgan.mjs"), "data", "prepare", str(folder / "all500.jsonl"), "--rules", "none", "--out", str(folder / "all.parquet"), "--json"],
        capture_output=True, text=True, timeout=120,
    )
    told = json.loads(prepared.stdout)
    readable = sum(len(entry["attributes"]["elements"]) <= 8 for entry in there)
    check("data prepare reads what was fetched", [told["rows"], sum(told["unusable"].values())], [available, 0])
    print(f"       {told['kept']} of {available} fit 85 × 8, {readable} have at most 8 elements")
finally:
    server.terminate()
    server.wait()
print("all equal" if failed == 0 else f"{failed} checks failed")
sys.exit(failed > 0)

"""What the comparisons with other programs share: environments, samples, tables, the section of docs/BENCHMARKS.md, plots.

A *case* is one piece of work that several programs do. Its samples are taken in rounds, each program once a round and every
other round in reverse order, so that all see the same machine. A case's result is the median of each program and the ratio of
the medians; the lowest and highest ratio within a round stand beside it.

A benchmark is a script beside this file:

    case = Case("attention/2048/2t", group="A prompt", title="2,048 tokens, 2 threads", unit="tokens/s", target=1.5)
    results = Results("attention", WORK, [case])            # WORK/attention.json; what is there is kept, case by case
    python = venv(WORK / "venv-torch", ["torch==2.9.0"])    # pip installs what is missing
    results.add(case, {"torch": lambda: 1.0, "chalot": lambda: 2.0}, rounds=5, versions={...})
    print(results.text())
    results.write_docs(title=..., intro=..., command=...)   # docs/BENCHMARKS.md, docs/benchmarks/attention.{json,svg}

Only the standard library is used here.
"""
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "peers"
DOCS = ROOT / "docs"
OURS = "chalot"


def fail(message):
    """Ends the script with a message."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def say(message):
    """Tells the user how far it is; results alone go to stdout."""
    print(message, file=sys.stderr, flush=True)


# Programs


def venv(folder, packages, env=None, from_source=()):
    """The Python of an environment in `folder` that has `packages` ("name==version"); pip installs what is missing.

    `env` is set while pip runs; packages named in `from_source` are built from their source, never taken from a cache.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"making an environment in {folder}")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True).stdout
    normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
    there = {f"{normal(p['name'])}=={p['version']}" for p in json.loads(listed)}
    for package in packages:
        name, _, version = package.partition("==")
        if f"{normal(name)}=={version}" in there:
            continue
        say(f"installing {package}")
        source = ["--no-cache-dir", "--no-binary", name] if name in from_source else []
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *source, package],
                       check=True, env={**os.environ, **(env or {})})
    return python


def chalot(path=None):
    """The command to measure: `path`, or the release build of this tree."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    path = Path(path) if path else target / "release" / "chalot"
    if not path.exists():
        fail(f"{path} is not there: run `cargo build --release` first, or name a build with --chalot")
    return path


def chalot_version(named, path):
    """"0.1.0 (836d73f)": the version, and of this tree's build the last commit of its code; + when something is not committed."""
    git = lambda *args: subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True).stdout.strip()
    version = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    if named:
        return version
    changed = "+" if git("status", "--porcelain", "--untracked-files=no", "--", "crates", "Cargo.lock") else ""
    return f"{version} ({git('log', '-1', '--format=%h', '--', 'crates', 'Cargo.lock')}{changed})"


def run_json(command, env=None):
    """What a command prints, as JSON."""
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, env={**os.environ, **(env or {})})
    if ran.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {ran.stderr.strip()}")
    return json.loads(ran.stdout)


def machine():
    """What the machine is: CPU, instruction sets that matter, cores, memory, system."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    field_of = lambda key: (re.search(rf"^{key}\s*:\s*(.*)$", text, re.M) or [None, ""])[1]
    flags = field_of("flags").split()
    known = ["avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512vbmi", "avx512_bf16", "amx_int8"]
    model = f" (family {field_of('cpu family')}, model {field_of('model')})" if text else ""
    release = {}
    if Path("/etc/os-release").exists():
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {
        "cpu": (field_of("model name") or platform.processor()) + model,
        "isa": [flag for flag in known if flag in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{release.get('PRETTY_NAME', platform.system()).strip(chr(34))}, {platform.system()} {platform.release().split('-')[0]}",
    }


# Samples


@dataclass
class Case:
    """One piece of work. `key` names it; cases of one `group` stand in one table and one part of the plot."""
    key: str
    group: str
    title: str
    unit: str
    target: float | None = None  # the ratio that is asked for
    ours: str | None = OURS  # the program whose ratio to the best other one is told; None: no ratio
    lower_is_better: bool = False
    # What the machine could do, measured beside our samples: "read bandwidth"; the shares themselves come with the samples.
    yardstick: str | None = None
    # Samples of a round are of the same seconds: the ratio is the median of those within rounds, whatever the machine's speed then was.
    paired: bool = False


@dataclass
class Measured:
    """A sample that knows which share of the machine's limit it is."""
    value: float
    share: float | None = None


@dataclass
class Entry:
    """A case with its samples: what the JSON file holds."""
    case: Case
    samples: dict
    shares: list
    versions: dict
    date: str

    def medians(self):
        return {name: median(values) for name, values in self.samples.items()}

    def best_other(self):
        others = {name: value for name, value in self.medians().items() if name != self.case.ours}
        best = min if self.case.lower_is_better else max
        return best(others, key=others.get) if others else None

    def ratios(self):
        """(of the medians or, where paired, the median; lowest and highest within a round): how many times as good ours is as the best other."""
        ours, other = self.case.ours, self.best_other()
        if ours is None or other is None or ours not in self.samples:
            return None
        ratio = lambda a, b: b / a if self.case.lower_is_better else a / b
        pairs = [ratio(a, b) for a, b in zip(self.samples[ours], self.samples[other])]
        middle = median(pairs) if self.case.paired else ratio(self.medians()[ours], self.medians()[other])
        return middle, min(pairs), max(pairs)


def idle_share(seconds=0.2):
    """The share of all cores that nobody used for a while; 1 where the system does not tell."""
    def times():
        found = re.match(r"cpu\s+(.*)", Path("/proc/stat").read_text())[1].split()
        return sum(map(int, found[:8])), int(found[3]) + int(found[4])
    if not Path("/proc/stat").exists():
        return 1.0
    (all_before, idle_before), _, (all_after, idle_after) = times(), time.sleep(seconds), times()
    return (idle_after - idle_before) / max(1, all_after - all_before)


def wait_until_idle(least=0.85, patience=10):
    """Two threads that meet at every product are slowed down many times by a neighbour on one core: so wait until it is gone."""
    end = time.monotonic() + patience
    while (share := idle_share()) < least:
        if time.monotonic() > end:
            fail(f"the machine is busy ({1 - share:.0%} of its cores): measure when nothing else runs")


def one_round(programs, backwards):
    """({name: sample}, our share of the machine's limit or None): each program once."""
    samples, share = {}, None
    for name in sorted(programs, key=list(programs).index, reverse=backwards):
        wait_until_idle()
        taken = programs[name]()
        if isinstance(taken, Measured):
            taken, share = taken.value, taken.share
        samples[name] = taken
    return samples, share


class Results:
    """The samples of one benchmark's `cases` in `work/NAME.json`. A case that is measured again replaces what was there;
    samples of cases that are no more are dropped."""

    def __init__(self, name, work, cases):
        self.name, self.path, self.entries, self.machine = name, work / f"{name}.json", {}, machine()
        self.cases = {case.key: case for case in cases}
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            self.machine = kept["machine"]
            for entry in kept["cases"]:
                if case := self.cases.get(entry["case"]["key"]):
                    self.entries[case.key] = Entry(**{**entry, "case": case})

    def add(self, case, programs, rounds, versions, more=False):
        """Takes the samples of a case, round by round, and keeps each round at once. `programs`: {name: function that
        returns a number or a `Measured`}. With `more`, rounds join those that are there, if they are of the same versions."""
        if self.entries and self.machine["cpu"] != machine()["cpu"]:
            fail(f"{self.path} is from another machine ({self.machine['cpu']}): give this one a folder of its own (--work)")
        self.machine = machine()
        entry = self.entries.get(case.key)
        if not (more and entry and entry.versions == versions):
            entry = Entry(case, {name: [] for name in programs}, [], versions, "")
        say(f"{case.key}: {rounds} round{'s' * (rounds != 1)}")
        for _ in range(rounds):
            done = len(next(iter(entry.samples.values())))
            samples, share = one_round(programs, backwards=done % 2 == 1)
            for name, sample in samples.items():
                entry.samples[name].append(sample)
            entry.shares += [share] if share is not None else []
            entry.date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
            self.entries[case.key] = entry
            self.save()
        say("  " + ", ".join(f"{name} {number(value)}" for name, value in entry.medians().items()) + " " + case.unit
            + (f", ratio {entry.ratios()[0]:.2f}" if entry.ratios() else ""))
        return entry

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cases = [asdict(entry) for entry in self.sorted()]
        text = json.dumps({"benchmark": self.name, "machine": self.machine, "cases": cases}, indent=1)
        new = self.path.with_suffix(".new")
        # Samples on one line each program.
        new.write_text(re.sub(r"\[\s+([-\d.,eE\s]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text) + "\n")
        new.replace(self.path)

    def sorted(self):
        """The entries in the order of the cases."""
        return [self.entries[key] for key in self.cases if key in self.entries]

    def groups(self):
        """[(group, its entries)] in the order of the cases."""
        groups = {}
        for entry in self.sorted():
            groups.setdefault(entry.case.group, []).append(entry)
        return list(groups.items())

    def text(self):
        """All tables, for a terminal."""
        return "\n\n".join(f"{group}\n{plain_table(*table(entries))}" for group, entries in self.groups())

    def markdown(self):
        """All tables, for docs/BENCHMARKS.md."""
        return "\n\n".join(f"### {group}\n\n{markdown_table(*table(entries))}" for group, entries in self.groups())

    def versions(self):
        """"chalot 0.1.0 (836d73f); llama.cpp ...": every version that a kept sample was taken with."""
        pairs = dict.fromkeys((name, v) for entry in self.sorted() for name, v in entry.versions.items())
        names = dict.fromkeys(name for name, _ in pairs)
        return "; ".join(f"{name} {', '.join(v for n, v in pairs if n == name)}" for name in names)

    def write_docs(self, title, intro, command):
        """Writes this benchmark's section of docs/BENCHMARKS.md, its plot and a copy of its samples."""
        if not self.entries:
            fail(f"{self.path} has no samples yet: measure first")
        folder = DOCS / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.svg").write_text(plot(title, self.groups()))
        (folder / f"{self.name}.json").write_text(self.path.read_text())
        about, dates = self.machine, sorted(entry.date for entry in self.entries.values())
        days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        lines = [
            f"## {title}", intro.strip(),
            f"Measured {days} by `{command}`. Every sample: [{self.name}.json](benchmarks/{self.name}.json).",
            f"- Machine: {about['cpu']}, {about['cores']} cores ({', '.join(about['isa'])}), {about['memory_gib']} GiB, "
            f"{about['system']}\n- Programs: {self.versions()}",
            f"![{title}](benchmarks/{self.name}.svg)", self.markdown(),
        ]
        write_section(self.name, "\n\n".join(lines))


def write_section(name, text):
    """Puts `text` between the markers of `name` in docs/BENCHMARKS.md; a new section goes to the end."""
    path = DOCS / "BENCHMARKS.md"
    begin, end = f"<!-- {name}: begin, written by benches/peers -->", f"<!-- {name}: end -->"
    old = path.read_text() if path.exists() else (
        "# Benchmarks\n\nChalot beside other programs, each sample in turn with theirs on the same machine; figures are medians, "
        "ratios are\nours to theirs. Scripts in [benches/peers](../benches/peers) write the sections from their samples; nothing "
        "here is edited by hand.\n")
    section = f"{begin}\n{text.strip()}\n{end}\n"
    if begin in old:
        head, rest = old.split(begin, 1)
        new = head + section + rest.split(end, 1)[1].removeprefix("\n")
    else:
        new = old.rstrip("\n") + "\n\n" + section
    path.write_text(new)


# Tables


def number(value):
    """Three digits that matter, or all before the point."""
    if not math.isfinite(value):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def table(entries):
    """(head, rows) of a group: a program a column, ours last; then the ratio to the best other one."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.samples))
    names.sort(key=lambda name: any(name == entry.case.ours for entry in entries))
    ratio, target = any(e.ratios() for e in entries), any(e.case.target for e in entries)
    yardsticks = list(dict.fromkeys(e.case.yardstick for e in entries if e.case.yardstick and e.shares))
    limit = ratio and bool(yardsticks)
    units = list(dict.fromkeys(entry.case.unit for entry in entries))
    head = [units[0] if len(units) == 1 else "", *names, *["ratio", "in a round"] * ratio, *["asked for"] * target]
    head += [f"share of the {y}" for y in yardsticks] + ["ratio at the limit"] * limit
    rows = []
    for entry in entries:
        medians, ratios = entry.medians(), entry.ratios()
        unit = "" if len(units) == 1 else f", {entry.case.unit}"
        row = [entry.case.title + unit, *(number(medians[name]) if name in medians else "" for name in names)]
        if ratio:
            several = ratios and ratios[1] < ratios[2]
            row += [f"{ratios[0]:.2f}" if ratios else "", f"{ratios[1]:.2f} - {ratios[2]:.2f}" if several else ""]
        if target:
            asked = entry.case.target
            row.append("" if asked is None else f"{asked:g}" + ("" if not ratios or ratios[0] >= asked else ", missed"))
        row += [f"{median(entry.shares):.0%}" if entry.shares and entry.case.yardstick == y else "" for y in yardsticks]
        if limit:
            row.append(f"{ratios[0] / median(entry.shares):.2f}" if ratios and entry.shares else "")
        rows.append(row)
    return head, rows


def plain_table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    pad = lambda row: "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
    return "\n".join(pad(row).rstrip() for row in [head, *rows])


def markdown_table(head, rows):
    line = lambda row: f"| {' | '.join(row)} |"
    return "\n".join([line(head), "|---|" + "---:|" * (len(head) - 1), *map(line, rows)])


# Plots

COLOURS = ["#9aa5b1", "#c9b28f", "#8fb3c9", "#b3a0c4"]
OUR_COLOUR = "#c2571a"


def plot(title, groups):
    """An SVG: for each group bars of the medians, a thin line from the lowest to the highest sample, and the ratio."""
    right, bar, gap = 150, 13, 9
    # Some 7 units a character of the longest title, whatever the font.
    left = max([300, *(20 + 7 * len(entry.case.title) for _, entries in groups for entry in entries)])
    width = left + 560
    parts, y = [], 34

    def text(x, y, words, size=12, anchor="start", weight="normal", colour="#222"):
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
                     f'fill="{colour}">{escape(words)}</text>')

    text(16, y, title, 16, weight="bold")
    for group, entries in groups:
        if not any(entry.ratios() for entry in entries):
            continue
        head, _ = table(entries)
        names = [name for name in head if any(name in entry.samples for entry in entries)]
        unit = ", ".join(dict.fromkeys(entry.case.unit for entry in entries))
        y += 34
        text(16, y, f"{group} ({unit})", 13, weight="bold")
        y += 8
        top = max(max(values) for entry in entries for values in entry.samples.values())
        scale = (width - left - right) / top
        others = [name for name in names if not any(name == entry.case.ours for entry in entries)]
        for entry in entries:
            here = [name for name in names if name in entry.samples]
            text(left - 8, y + gap + bar * len(here) / 2 + 4, entry.case.title, anchor="end")
            y += gap
            start = y
            for name in here:
                values, ours = entry.samples[name], name == entry.case.ours
                colour = OUR_COLOUR if ours else COLOURS[others.index(name) % len(COLOURS)]
                length, middle = median(values) * scale, y + bar / 2
                parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 1}" fill="{colour}"/>')
                low, high = left + min(values) * scale, left + max(values) * scale
                parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#222" stroke-width="1"/>')
                text(max(left + length, high) + 5, y + bar - 3, f"{number(median(values))}  {name}", 10.5, colour="#444")
                y += bar
            if entry.ratios():
                text(width - 16, (start + y) / 2 + 5, f"{entry.ratios()[0]:.2f} x", 13, "end", "bold", OUR_COLOUR)
    height = y + 20
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, sans-serif">\n<rect width="{width}" height="{height}" fill="#fff"/>\n'
            + "\n".join(parts) + "\n</svg>\n")

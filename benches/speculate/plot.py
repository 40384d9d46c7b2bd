"""Draws speed-up against acceptance: docs/speculative.svg.

    chalot bench speculate --only forced --curve --json > third.json
    chalot bench speculate --only forced --curve --shallow 3 --json > tenth.json
    python3 benches/speculate/plot.py third.json tenth.json > docs/speculative.svg

Each file is one curve. Only the standard library is used.
"""
import json
import sys
from xml.sax.saxutils import escape

COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]  # told apart also by those who see few colours (Okabe and Ito)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 60, 24, 76, 52


def main(paths):
    if not paths:
        sys.exit(__doc__)
    runs = [json.load(open(path, encoding="utf-8"))["forced"] for path in paths]
    top = max(point["speedup"] for run in runs for point in run["curve"])
    top = max(1.5, int(2 * top + 1) / 2)

    def x(acceptance):
        return LEFT + acceptance * (WIDTH - LEFT - RIGHT)

    def y(speedup):
        return HEIGHT - BOTTOM - speedup / top * (HEIGHT - TOP - BOTTOM)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
             text(LEFT, 26, f'Speed-up of {runs[0]["draft"]} drafts, {runs[0]["shape"]}', size=16, weight=600)]
    for tick in range(int(2 * top) + 1):
        value = tick / 2
        parts.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "#e4e4e4" if value != 1 else "#888888", 1))
        parts.append(text(LEFT - 8, y(value) + 4, f"{value:g}", anchor="end"))
    for tick in range(6):
        parts.append(text(x(tick / 5), HEIGHT - BOTTOM + 18, f"{20 * tick}%", anchor="middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "drafts that are right, all before them being right",
                      anchor="middle"))
    for number, run in enumerate(runs):
        color = COLORS[number % len(COLORS)]
        points = [(x(point["asked"]), y(point["speedup"])) for point in run["curve"]]
        path = "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>' for a, b in points]
        label = f'{run["shallow_layers"]} of {run["layers"]} layers draft, {run["packing"]}'
        at = LEFT + 300 * number
        parts.append(line(at, 50, at + 22, 50, color, 2.5))
        parts.append(text(at + 30, 54, label))
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
          'font-family="system-ui, sans-serif" font-size="12">')
    print("\n".join(parts))
    print("</svg>")


def text(x, y, words, anchor="start", size=12, weight=400):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="#222222">'
            f"{escape(words)}</text>")


def line(x1, y1, x2, y2, color, width):
    return f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


if __name__ == "__main__":
    main(sys.argv[1:])

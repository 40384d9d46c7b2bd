"""Makes the two files that shipped.toml reads from a clone of the collection: `python join.py CLONE FOLDER`.

books.tsv names the books and their order; those that an epoch reads three times are the children's books. Headings and
emphasis lose their marks, everything else stays.
"""
import lzma
import pathlib
import re
import sys


def plain(markdown: str) -> str:
    text = markdown.replace("\r\n", "\n").split("-------\n", 1)[-1]  # behind the head with title, author and year
    text = re.sub(r"(?m)^[ \t]*#+[ \t]*", "", text)
    text = re.sub(r"(\*{1,3}|_{1,3})(?=\S)(.+?)(?<=\S)\1", r"\2", text, flags=re.S)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(clone: str, folder: str) -> None:
    lines = (pathlib.Path(__file__).parent / "books.tsv").read_text(encoding="utf-8").splitlines()
    books = [line.split("\t") for line in lines if not line.startswith("#")]
    for name, wanted in [("children_pre1929.txt.xz", "3"), ("plain_books_pre1929.txt.xz", "1")]:
        paths = [pathlib.Path(clone, book + ".md") for repeat, _, book in books if repeat == wanted]
        texts = [plain(path.read_bytes().decode("utf-8", "replace")) for path in paths]
        with lzma.open(pathlib.Path(folder, name), "wt", encoding="utf-8") as out:
            out.write("<|endoftext|>\n".join(texts) + "<|endoftext|>\n")
        print(name, len(texts), "books,", sum(map(len, texts)), "characters")


if __name__ == "__main__":
    main(*sys.argv[1:])

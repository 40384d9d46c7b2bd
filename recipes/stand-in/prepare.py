"""Books to token streams.

Cleans the books named in books.tsv, cuts them into documents (a chapter or a tale each), trains the tokenizer on them
and writes into the output folder:

    tokenizer.json   byte-level BPE, <|bos|> = 0, <|eos|> = 1
    train.npz        tokens   u16 [n]  every document as: <|bos|> text <|eos|>
                     openings i64 [d]  where the text of each document begins
                     starts   i64 [s]  where a paragraph begins that may open a training window, openings included
                     weights  i64 [d]  how often an epoch reads the document
    held_out.npz     tokens u16 [m]    the documents kept out of training
                     bytes  i64 []     the length of their text in UTF-8

The input is a text file of whole books with `<|endoftext|>` between them, or a folder of one book a file.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS, EOS = "<|bos|>", "<|eos|>"
HELD_OUT_EVERY = 40  # one document in 40 is never trained on
PARAGRAPH = "\n\n"

HEADING = re.compile(
    r"^(?i:the \w+ chapter|chapter|part|book|stave|published|translat|illustrat)\b.*[^.!?\"',;:)]$"
    r"|^(?:[IVXLC]+|\d+)(?:\.|\s+-|$)"
)
# Paragraphs with words no program should say to a child are left out.
UNFIT = re.compile(r"(?i)\bnigg|\bdark(e?y|ies)\b|\bcoons?\b")
PLAIN = str.maketrans(
    {
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "…": "...",
        "–": "-",
        "—": "--",
        "\xa0": " ",
        "\u200b": "",
        "\u2060": "",
        "\ufeff": "",
        "_": "",
        "*": "",
        "`": "'",
    }
)
# Words that begin with an apostrophe of their own: no quotation opens there.
ELIDED = r"(?!(?:tis|twas|twere|twill|em|til|till|cause|bout|gainst|neath|way|un|ee|most|ave|ere|old|at|im|er)\b)"


def is_heading(paragraph):
    short = len(paragraph) < 90
    title = paragraph[0].isupper() and not re.search(r"[.!?\"',;:)-]$", paragraph)
    return short and (bool(HEADING.match(paragraph)) or (paragraph.isupper() and len(paragraph) > 10) or title)


def is_prose(paragraph):
    """Not verse, a table or a note: one line of mostly letters that is a sentence."""
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    return (
        "\n" not in paragraph
        and letters > 0.7 * len(paragraph)
        and not re.search(r"[\[\]{}|\\#^=>@]|\. \. \.", paragraph)
        and not paragraph.isupper()
        and paragraph.isascii()
        and not UNFIT.search(paragraph)
    )


def double_quotes(text):
    """Dialogue in single quotes, the British way, to double quotes."""
    text = re.sub(r"(?i)(^|[\s(-])'" + ELIDED + r"(?=\w)", r'\1"', text)
    return re.sub(r"(?<=[,.!?;-])'(?!\w)", '"', text)


def documents(book):
    """The chapters of a book, each a list of clean paragraphs."""
    book = book.translate(PLAIN)
    british = book.count('"') < 0.004 * len(book) and len(re.findall(r"\s'\w", book)) > 0.001 * len(book)
    found = [[]]
    for paragraph in re.split(r"\n\s*\n", book):
        paragraph = paragraph.strip()
        if not paragraph:
            continue
        if is_heading(paragraph):
            found.append([])
        elif is_prose(paragraph):
            paragraph = re.sub(r"\s+", " ", paragraph)
            paragraph = re.sub(r"\s?--\s?", " -- ", paragraph).strip()
            paragraph = re.sub(r"\b(\w+) (n't)\b", r"\1\2", paragraph)
            found[-1].append(double_quotes(paragraph) if british else paragraph)
    return [d for d in found if sum(map(len, d)) > 400]


def read_books(source):
    if source.is_dir():
        return [p.read_text(encoding="utf-8") for p in sorted(source.rglob("*")) if p.suffix in (".md", ".txt")]
    return source.read_text(encoding="utf-8").split("<|endoftext|>")


def train_tokenizer(texts, vocab):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=[BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="text files of books, or folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--books", type=Path, default=Path(__file__).with_name("books.tsv"))
    parser.add_argument("--vocab", type=int, default=2048)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    books = [b.lstrip() for source in args.sources for b in read_books(source)]
    train, held_out, seen = [], [], 0  # train: (weight, paragraphs)
    for line in args.books.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        weight, opening, title = line.split("\t")
        book = next((b for b in books if b.startswith(opening)), None)
        if book is None:
            raise SystemExit(f"no book begins with {opening!r} ({title})")
        for document in documents(book):
            seen += 1
            if seen % HELD_OUT_EVERY == 0:
                held_out.append(document)
            else:
                train.append((int(weight), document))

    tokenizer = train_tokenizer([PARAGRAPH.join(d) for _, d in train], args.vocab)
    tokenizer.save(str(args.out / "tokenizer.json"))
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids

    tokens, openings, starts, weights = [], [], [], []
    for weight, document in train:
        tokens.append(bos)
        openings.append(len(tokens))
        weights.append(weight)
        for i, paragraph in enumerate(document):
            # A window opens with narration: a story that begins in the middle of a talk confuses its reader.
            if i == 0 or (paragraph[0].isupper() and len(paragraph) > 60):
                starts.append(len(tokens))
            tokens += encode(paragraph + (PARAGRAPH if i + 1 < len(document) else ""))
        tokens.append(eos)
    np.savez(
        args.out / "train.npz",
        tokens=np.array(tokens, np.uint16),
        openings=np.array(openings),
        starts=np.array(starts),
        weights=np.array(weights),
    )

    texts = [PARAGRAPH.join(d) for d in held_out]
    stream = [t for text in texts for t in [bos, *encode(text), eos]]
    length = sum(len(t.encode()) for t in texts)
    np.savez(args.out / "held_out.npz", tokens=np.array(stream, np.uint16), bytes=np.array(length))
    print(f"train: {len(train)} documents, {len(tokens)} tokens, {len(starts)} window starts")
    print(f"held out: {len(held_out)} documents, {len(stream)} tokens, {length / len(stream):.2f} bytes a token")


if __name__ == "__main__":
    main()

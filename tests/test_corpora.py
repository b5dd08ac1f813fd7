"""Public corpora in tiny folders of their published layouts: what is found, refused and drawn."""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from unweave.audio import read, resample, write
from unweave.data import corpora
from unweave.data.corpora.protocol import Found, Protocol, Take
from unweave.data.corpora.rows import table
from unweave.errors import UnknownNameError, UsageError
from unweave.evaluate.benchmarks import Clips, examples, render
from unweave.evaluate.frozen import Benchmark, encode
from unweave.evaluate.frozen import read as read_list
from unweave.evaluate.frozen import write as write_list
from unweave.evaluate.protocols import build
from unweave.types import Audio

RATE = 16_000  # of the tiny clips, Hz


def sound(root: Path, file: str, seconds: float = 1.0, level: float = 0.1, channels: int = 1) -> None:
    """Noise of its own, in the format that the name says; a film has pictures too."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(list(file.encode()))
    samples = (level * draw.standard_normal((channels, round(seconds * RATE)))).astype(np.float32)
    if path.suffix == ".mp4":
        _film(path, samples)
    elif path.suffix in (".mp3", ".m4a"):
        write(path, Audio(torch.from_numpy(samples), RATE))
    else:
        soundfile.write(path, samples.T, RATE, subtype="PCM_16")


def _film(path: Path, samples: np.ndarray) -> None:
    with av.open(str(path), "w") as film:
        pictures = film.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 16
        pictures.pix_fmt = "yuv420p"
        speaker = film.add_stream("aac", rate=RATE, layout="mono")
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
            film.mux(pictures.encode(picture))
        block = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        block.sample_rate = RATE
        film.mux(speaker.encode(block))
        film.mux(pictures.encode(None))
        film.mux(speaker.encode(None))


def text(root: Path, file: str, *lines: str, encoding: str = "utf-8") -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


# Each makes a corpus in `root` and gives back (file, label, group) of every take, and what is missing.
Rows = tuple[list[tuple[str, str, str]], tuple[str, ...]]


def esc50(root: Path) -> Rows:
    names = ["1-100032-A-0.wav", "1-100038-A-14.wav", "1-100210-A-36.wav", "2-100648-A-43.wav"]
    for name in names[:3]:
        sound(root, f"audio/{name}", 5.0)
    text(
        root,
        "meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take",
        "1-100032-A-0.wav,1,0,dog,True,100032,A",
        "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A",
        "1-100210-A-36.wav,1,36,vacuum_cleaner,False,100210,A",
        "2-100648-A-43.wav,2,43,car_horn,False,100648,A",
    )
    labels = ["dog", "chirping birds", "vacuum cleaner"]
    rows = [(f"audio/{n}", label, n.split("-")[1]) for n, label in zip(names, labels, strict=False)]
    return rows, (f"audio/{names[3]}",)


def fsd50k(root: Path) -> Rows:
    for name, seconds in (("37199", 0.5), ("175151", 2.0), ("253463", 1.0)):
        sound(root, f"FSD50K.eval_audio/{name}.wav", seconds)
    text(
        root,
        "FSD50K.ground_truth/eval.csv",
        "fname,labels,mids",
        '37199,"Electric_guitar,Guitar,Musical_instrument,Music","/m/02sgy,/m/0342h,/m/04szw,/m/04rlf"',
        '175151,"Guitar,Musical_instrument,Music","/m/0342h,/m/04szw,/m/04rlf"',
        "253463,Rain,/m/06mb1",
        "329838,Rain,/m/06mb1",
    )
    info = {
        "37199": {
            "title": "riff",
            "license": "http://creativecommons.org/licenses/by/3.0/",
            "uploader": "ann",
        }
    }
    text(root, "FSD50K.metadata/eval_clips_info_FSD50K.json", json.dumps(info))
    below = "FSD50K.eval_audio"
    rows = [
        (f"{below}/37199.wav", "electric guitar", "ann"),
        (f"{below}/175151.wav", "guitar", "175151"),
        (f"{below}/253463.wav", "rain", "253463"),
    ]
    return rows, (f"{below}/329838.wav",)


def audiocaps(root: Path) -> Rows:
    for file in ("test/Y7fmOlUlwoNg.wav", "6BJ455B1aAs.m4a", "more/GOD8Bt5LfDE_100.flac"):
        sound(root, f"audio/{file}")
    text(
        root,
        "dataset/test.csv",
        "audiocap_id,youtube_id,start_time,caption",
        "103549,7fmOlUlwoNg,20,Constant rattling noise and sharp vibrations",
        '103548,6BJ455B1aAs,0,"A rocket flies by, followed by a loud explosion"',
        "103541,GOD8Bt5LfDE,100,Humming with a man and children speaking",
        "103542,GOD8Bt5LfDE,100,A man and children talk near a train",
        "103543,hOSfdhpUiAY,30,A goat bleats",
        "103544,hOSfdhpUiAY,30,Bleating of a goat",
    )
    rows = [
        ("audio/test/Y7fmOlUlwoNg.wav", "Constant rattling noise and sharp vibrations", "7fmOlUlwoNg"),
        ("audio/6BJ455B1aAs.m4a", "A rocket flies by, followed by a loud explosion", "6BJ455B1aAs"),
        ("audio/more/GOD8Bt5LfDE_100.flac", "Humming with a man and children speaking", "GOD8Bt5LfDE"),
        ("audio/more/GOD8Bt5LfDE_100.flac", "A man and children talk near a train", "GOD8Bt5LfDE"),
    ]
    return rows, ("YhOSfdhpUiAY",)


def clotho(root: Path) -> Rows:
    names = ["Santa Motor.wav", "café, bells.wav", "Flipping Coin Can.wav"]
    for name in names[:2]:
        sound(root, f"evaluation/{name}")
    captions = [f"caption_{n}" for n in range(1, 6)]
    text(
        root,
        "clotho_captions_evaluation.csv",
        ",".join(["file_name", *captions]),
        *(f'"{name}",{",".join(f"Words {n} of {name[:3]}." for n in range(5))}' for name in names),
    )
    text(
        root,
        "clotho_metadata_evaluation.csv",
        "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license",
        'Santa Motor.wav,motor;toy,1,https://x,"[0, 9]",ann,http://creativecommons.org/publicdomain/zero/1.0/',
        '"café, bells.wav",bells;café,2,https://x,"[0, 9]",bo,http://creativecommons.org/licenses/by/3.0/',
        encoding="latin-1",
    )
    rows = [(f"evaluation/{n}", f"Words {c} of {n[:3]}.", n) for n in names[:2] for c in range(5)]
    return rows, (f"evaluation/{names[2]}",)


def vggsound(root: Path) -> Rows:
    sound(root, "video/---g-f_I2yQ_000001.mp4", 2.0)
    sound(root, "wav/_z72jRCSaeE_000080.wav")
    text(
        root,
        "vggsound.csv",
        "---g-f_I2yQ,1,people marching,test",
        "--0PQM4-hqg,30,waterfall burbling,train",
        '_z72jRCSaeE,80,"gibbon howling, far",test',
        "37Vxf0Wz-3o,1,sea lion barking,test",
    )
    rows = [
        ("video/---g-f_I2yQ_000001.mp4", "people marching", "---g-f_I2yQ"),
        ("wav/_z72jRCSaeE_000080.wav", "gibbon howling, far", "_z72jRCSaeE"),
    ]
    return rows, ("37Vxf0Wz-3o_000001",)


def music(root: Path) -> Rows:
    sound(root, "audio/acoustic_guitar/M3dekVSwNjY.mp3", 2.0)
    sound(root, "audio/flute/jW_AuF6dQYY.mp3", 12.0)
    videos = {"flute": ["jW_AuF6dQYY", "3wPouBFa9U0"], "acoustic_guitar": ["M3dekVSwNjY"]}
    text(root, "MUSIC_solo_videos.json", json.dumps({"version": 1.0, "videos": videos}))
    rows = [
        ("audio/flute/jW_AuF6dQYY.mp3", "flute", "jW_AuF6dQYY"),
        ("audio/acoustic_guitar/M3dekVSwNjY.mp3", "acoustic guitar", "M3dekVSwNjY"),
    ]
    return rows, ("3wPouBFa9U0",)


def ave(root: Path) -> Rows:
    sound(root, "AVE/RUhOCu3LNXM.mp4")
    sound(root, "AVE/fCZi6I6kPpU.mp4")
    header = "Category&VideoID&Quality&StartTime&EndTime"
    events = [
        "Church bell&RUhOCu3LNXM&good&0&10",
        "Bark&fCZi6I6kPpU&good&6&10",
        "Male speech, man speaking&fCZi6I6kPpU&good&0&4",
    ]
    lost = "Church bell&VWi2ENBuTbw&good&0&0"
    text(root, "Annotations.txt", header, *events, lost)
    text(root, "testSet.txt", *events, lost)
    rows = [
        ("AVE/RUhOCu3LNXM.mp4", "church bell", "RUhOCu3LNXM"),
        ("AVE/fCZi6I6kPpU.mp4", "bark", "fCZi6I6kPpU"),
        ("AVE/fCZi6I6kPpU.mp4", "male speech, man speaking", "fCZi6I6kPpU"),
    ]
    return rows, ("AVE/VWi2ENBuTbw.mp4",)


def audioset(root: Path) -> Rows:
    sound(root, "eval/Y-0RWZT-miFs.flac")
    sound(root, "eval/00M9FhCet6s_2.5.wav")
    text(
        root,
        "class_labels_indices.csv",
        "index,mid,display_name",
        '0,/m/09x0r,"Speech"',
        '1,/m/03v3yw,"Keys jangling"',
        '2,/m/0k4j,"Car"',
        '3,/m/05zppz,"Male speech, man speaking"',
    )
    text(
        root,
        "eval_segments.csv",
        "# Segments csv created Sun Mar  5 10:54:25 2017",
        "# num_ytids=20371, num_segs=20371, num_unique_labels=527, num_positive_labels=51804",
        "# YTID, start_seconds, end_seconds, positive_labels",
        '-0RWZT-miFs, 420.000, 430.000, "/m/0k4j,/m/03v3yw"',
        '00M9FhCet6s, 2.500, 12.500, "/m/09x0r,/m/05zppz"',
        '0CcTuVNWYyk, 30.000, 40.000, "/m/09x0r,/m/0k4j"',
    )
    rows = [
        ("eval/Y-0RWZT-miFs.flac", "Keys jangling", "-0RWZT-miFs"),
        ("eval/00M9FhCet6s_2.5.wav", "Male speech, man speaking", "00M9FhCet6s"),
    ]
    return rows, ("Y0CcTuVNWYyk",)


def musdb18(root: Path) -> Rows:
    labels = {
        "vocals": "singing voice",
        "drums": "drums",
        "bass": "bass guitar",
        "other": "other instruments",
    }
    songs = ["AM Contra - Heart Peripheral", "Al James - Schoolboy Facination"]
    rows = []
    for song in songs:
        for level, (stem, label) in enumerate(labels.items(), 1):
            if (song, stem) != (songs[0], "bass"):
                sound(root, f"test/{song}/{stem}.wav", 12.0, 0.03 * level, channels=2)
                rows.append((f"test/{song}/{stem}.wav", label, song))
    return rows, (f"test/{songs[0]}/bass.wav",)


def librispeech(root: Path) -> Rows:
    rows = []
    for speaker, chapter, count in ((1089, 134686, 3), (121, 121726, 2)):
        names = [f"{speaker}-{chapter}-{n:04d}" for n in range(count)]
        folder = f"test-clean/{speaker}/{chapter}"
        for name in names:
            sound(root, f"{folder}/{name}.flac", 4.0)
            rows.append((f"{folder}/{name}.flac", "speech", str(speaker)))
        lost = [f"{speaker}-{chapter}-9999"] if speaker == 121 else []
        text(root, f"{folder}/{speaker}-{chapter}.trans.txt", *(f"{name} HE HOPED" for name in names + lost))
    return rows, ("test-clean/121/121726/121-121726-9999.flac",)


def libri2mix(root: Path) -> Rows:
    below, rows = "wav16k/min", []
    utterances = [("1580-141083-0046", "7127-75947-0026"), ("7127-75947-0001", "1580-141083-0002")]
    mixed = ["_".join(pair) for pair in utterances]
    lost = "61-70968-0040_3570-5694-0021"
    for name, pair in zip(mixed, utterances, strict=True):
        for number, utterance in enumerate(pair, 1):
            file = f"{below}/test/s{number}/{name}.wav"
            sound(root, file, 4.0 + number, 0.05 * number)
            rows.append((file, "speech", utterance.split("-")[0]))
    sound(root, f"{below}/test/s1/{lost}.wav")
    rows.append((f"{below}/test/s1/{lost}.wav", "speech", "61"))
    elsewhere = "/home/joris/Libri2Mix/wav16k/min/test"
    text(
        root,
        f"{below}/metadata/mixture_test_mix_clean.csv",
        "mixture_ID,mixture_path,source_1_path,source_2_path,length",
        *(
            f"{n},{elsewhere}/mix_clean/{n}.wav,{elsewhere}/s1/{n}.wav,{elsewhere}/s2/{n}.wav,80000"
            for n in [*mixed, lost]
        ),
    )
    return rows, (f"{below}/test/s2/{lost}.wav",)


def dcase2024_task9(root: Path) -> Rows:
    for name, level in (("12", 0.02), ("34", 0.3), ("56", 0.1)):
        sound(root, f"lass_validation/{name}.wav", 2.0, level)
    text(
        root,
        "lass_synthetic_validation.csv",
        "source,noise,snr,caption",
        '12,34,-15,"A dog barks, then stops"',
        "34,56,7,Rain falls on a roof",
        "56,78,0,A door creaks",
        "34,12,-12,Rain falls",
    )
    rows = [
        ("lass_validation/12.wav", "A dog barks, then stops", "12"),
        ("lass_validation/34.wav", "Rain falls on a roof", "34"),
        ("lass_validation/56.wav", "A door creaks", "56"),
        ("lass_validation/34.wav", "Rain falls", "34"),
    ]
    return rows, ("lass_validation/78.wav",)


def _rendered(root: Path, source: str, mixture: str) -> None:
    """A mixture that is its source and something else, on the 16-bit grid."""
    sound(root, source, 1.0)
    sound(root, mixture, 1.0, 0.05)
    one, other = (soundfile.read(root / file, dtype="int16")[0] for file in (source, mixture))
    soundfile.write(root / mixture, one + other, RATE, subtype="PCM_16")


def _audiosep(name: str, *lines: str) -> Callable[[Path], Rows]:
    def make(root: Path) -> Rows:
        below = f"evaluation/data/{name}"
        for number in (0, 1):
            _rendered(root, f"{below}/segment-{number}.wav", f"{below}/mixture-{number}.wav")
        sound(root, f"{below}/segment-2.wav")
        text(root, f"evaluation/metadata/{name}_eval.csv", *lines)
        captions = list(table(root / f"evaluation/metadata/{name}_eval.csv", "caption"))
        files = [f"{below}/segment-{number}.wav" for number in range(3)]
        rows = [(file, row["caption"], file) for file, row in zip(files, captions, strict=True)]
        return rows, (f"{below}/mixture-2.wav",)

    return make


def audiosep_audioset(root: Path) -> Rows:
    below = "evaluation/data/audioset/class_id=0/class_id=0,index="
    _rendered(root, f"{below}000,source.wav", f"{below}000,mixture.wav")
    text(
        root,
        "evaluation/metadata/audioset_eval.csv",
        "idx,caption,src_wav,noise_wav",
        *(f'0,Speech,"{below}{n:03d},source.wav","{below}{n:03d},mixture.wav"' for n in range(2)),
    )
    file = f"{below}000,source.wav"
    return [(file, "Speech", file)], (f"{below}001,source.wav", f"{below}001,mixture.wav")


def audiosep_vggsound(root: Path) -> Rows:
    names = ["-JUBdOr8Hes_000030+++37Vxf0Wz-3o_000001", "_z72jRCSaeE_000080+++m0kxHYaGpL8_000000"]
    below = "evaluation/data/vggsound"
    _rendered(root, f"{below}/data/s0_wav/{names[0]}.wav", f"{below}/data/mix_wav/{names[0]}.wav")
    text(
        root,
        "evaluation/metadata/vggsound_eval.csv",
        "file_id,mix_wav,s0_wav,s0_text,s1_wav,s1_text",
        *(
            f"{n},data/mix_wav/{n}.wav,data/s0_wav/{n}.wav,accordion,data/s1_wav/{n}.wav,sea lion"
            for n in names
        ),
    )
    file = f"{below}/data/s0_wav/{names[0]}.wav"
    lost = (f"{below}/data/s0_wav/{names[1]}.wav", f"{below}/data/mix_wav/{names[1]}.wav")
    return [(file, "accordion", file)], lost


TREES: dict[str, Callable[[Path], Rows]] = {
    "esc50": esc50,
    "fsd50k": fsd50k,
    "audiocaps": audiocaps,
    "clotho": clotho,
    "vggsound": vggsound,
    "music": music,
    "ave": ave,
    "audioset": audioset,
    "musdb18": musdb18,
    "librispeech": librispeech,
    "libri2mix": libri2mix,
    "dcase2024-task9": dcase2024_task9,
    "audiosep-audioset": audiosep_audioset,
    "audiosep-vggsound": audiosep_vggsound,
    # The first lines of the published lists, shortened.
    "audiosep-audiocaps": _audiosep(
        "audiocaps",
        "idx,caption,labels,src_wav,noise_wav",
        '0,Constant rattling noise and sharp vibrations,"Speech Inside, public space",Y7f.wav,Y-a.wav',
        '1,A rocket flies by followed by a loud explosion,"Explosion Burst, pop",Y6BJ.wav,YoNH.wav',
        '2,Humming and vibrating,"Train Speech Child speech, kid speaking",YGOD8Bt5LfDE.wav,Ygf6H_MWCqjw.wav',
    ),
    "audiosep-clotho": _audiosep(
        "clotho",
        "idx,caption,src_wav,noise_wav1,noise_wav1",
        '0,A machine whines.,Santa Motor.wav,"Foz, fisherman next to the river.wav",radiater.wav',
        "1,A person is using clippers to trim bushes.,Santa Motor.wav,Flipping Coin Can.wav,Rolling Wind.wav",
        "2,Someone is trimming the bushes.,Santa Motor.wav,Room Tone.wav,sand falling on paper.wav",
    ),
    "audiosep-esc50": _audiosep(
        "esc50",
        "idx,caption,src_wav,noise_wav",
        "0,dog,1-100032-A-0.wav,5-207836-D-29.wav",
        "1,chirping birds,1-100038-A-14.wav,1-30226-A-0.wav",
        "2,vacuum cleaner,1-100210-A-36.wav,4-182839-A-17.wav",
    ),
    "audiosep-music": _audiosep(
        "music",
        "idx,caption,src_wav,noise_wav",
        "0,accordion,Y1mCi6eWXVbg_0.wav,YX4UWEifacwI_6.wav",
        "1,accordion,Y1mCi6eWXVbg_0.wav,YkuNep98Fd8o_7.wav",
        "2,accordion,Y1mCi6eWXVbg_0.wav,Y91MhpKVea30_16.wav",
    ),
}
DRAWN = [name for name in TREES if corpora.load(name).PROTOCOL.count]
RENDERED = [name for name in TREES if name.startswith("audiosep")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Rows]]:
    """The tiny folder of a corpus, made once; not to be changed."""
    kept: dict[str, tuple[Path, Rows]] = {}

    def make(name: str) -> tuple[Path, Rows]:
        if name not in kept:
            root = tmp_path_factory.mktemp(name)
            kept[name] = root, TREES[name](root)
        return kept[name]

    return make


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoded")


@pytest.fixture
def own(made, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the tiny folder, to be changed."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(made(name)[0], tmp_path / "own"))

    return copy


def test_every_corpus_has_a_tiny_folder() -> None:
    assert corpora.available() == sorted(TREES)
    with pytest.raises(UnknownNameError, match="Did you mean 'esc50'"):
        corpora.load("esc-50")


@pytest.mark.parametrize("name", TREES)
def test_published_layout_becomes_rows(name: str, made) -> None:
    """Every file that is there with its label and group, and exactly the one that is not there is missing."""
    root, (rows, missing) = made(name)
    found = corpora.load(name).clips(root)
    assert [(clip.file, clip.label, clip.group) for clip in found.clips] == rows
    assert found.missing == missing
    assert found.unreadable == ()
    for clip in found.clips:
        # Compressed sound may have a frame more at its ends.
        assert clip.seconds == pytest.approx(read(root / clip.file).duration, abs=0.15)
        assert clip.license
        assert clip.split
    speech, tune = name in ("librispeech", "libri2mix"), name in ("music", "musdb18")
    assert {clip.domain for clip in found.clips} == {"speech" if speech else "music" if tune else "sound"}


def test_what_is_known_of_a_clip_keeps_it_apart(made) -> None:
    tags = {name: [take.sounds for take in corpora.load(name).clips(made(name)[0]).clips] for name in DRAWN}
    assert tags["fsd50k"][0] & tags["fsd50k"][1] == {"guitar", "musical instrument", "music"}
    assert tags["clotho"][0] == {"motor", "toy"}
    assert tags["clotho"][5] == {"bells", "café"}  # Latin-1, and a file name with a comma
    assert tags["audiocaps"][2] & tags["audiocaps"][3] == {"children"}
    assert tags["ave"][1] == tags["ave"][2] == {"bark", "male speech, man speaking"}
    assert tags["audioset"][1] == {"Speech", "Male speech, man speaking"}
    assert tags["esc50"][0] == {"dog"}


def test_licences_of_single_clips(made) -> None:
    def terms(name: str) -> list[str]:
        return [clip.license for clip in corpora.load(name).clips(made(name)[0]).clips]

    assert terms("esc50") == ["CC BY 3.0", "CC BY-NC 3.0", "CC BY-NC 3.0"]
    assert terms("fsd50k")[0].endswith("/by/3.0/")
    assert terms("clotho")[0].endswith("/zero/1.0/")


def test_a_file_that_is_no_sound_is_named_and_the_rest_goes_on(own) -> None:
    root = own("esc50")
    (root / "audio/1-100032-A-0.wav").write_text("<html>404</html>")
    found = corpora.load("esc50").clips(root)
    assert found.unreadable == ("audio/1-100032-A-0.wav",)
    assert [clip.label for clip in found.clips] == ["chirping birds", "vacuum cleaner"]


def test_a_name_that_no_list_may_hold_is_named_and_the_rest_goes_on(own) -> None:
    """Version 1 of Clotho has such files, Windows none."""
    root = own("clotho")
    (root / "evaluation/Santa Motor.wav").rename(root / "evaluation/Santa: Motor.wav")
    for table_of in ("captions", "metadata"):
        path = root / f"clotho_{table_of}_evaluation.csv"
        path.write_bytes(path.read_bytes().replace(b"Santa Motor", b"Santa: Motor"))
    found = corpora.load("clotho").clips(root)
    assert found.unreadable == ("evaluation/Santa: Motor.wav",)
    assert {clip.group for clip in found.clips} == {"café, bells.wav"}


FAULTS = [
    ("esc50", "meta/esc50.csv", "category", "kind", r"esc50.csv, line 1 lacks the column 'category'"),
    ("esc50", "meta/esc50.csv", "A-14.wav,1,", "A-14.wav,one,", r"line 3: fold wants a number, got 'one'"),
    ("esc50", "meta/esc50.csv", "A-14.wav,1,", "A-14.wav,1.5,", r"line 3: fold wants a whole number"),
    ("esc50", "meta/esc50.csv", ",100210,A", "", r"line 4 has 5 fields, wanted are filename, fold"),
    (
        "esc50",
        "meta/esc50.csv",
        "1-100210",
        "../../1-100210",
        r"line 4 names the file 'audio/\.\./\.\./1-1.*below",
    ),
    ("fsd50k", "FSD50K.ground_truth/eval.csv", "253463", "../253463", r"line 4 names the file"),
    ("fsd50k", "FSD50K.metadata/eval_clips_info_FSD50K.json", "}}", "", r"is not JSON"),
    (
        "fsd50k",
        "FSD50K.metadata/eval_clips_info_FSD50K.json",
        '{"37199": {',
        '{"37199": 5, "1": {',
        r"37199 wants an object",
    ),
    ("audiocaps", "dataset/test.csv", "start_time", "start", r"line 1 lacks the column 'start_time'"),
    ("audiocaps", "dataset/test.csv", "aAs,0,", "aAs,-1,", r"line 3: start_time wants a whole number from 0"),
    ("clotho", "clotho_captions_evaluation.csv", "caption_5", "caption", r"lacks the column 'caption_5'"),
    ("clotho", "clotho_captions_evaluation.csv", "Santa", "../../Santa", r"line 2 names the file"),
    (
        "vggsound",
        "vggsound.csv",
        ",80,",
        ",soon,",
        r"vggsound.csv, line 3: second wants a number, got 'soon'",
    ),
    ("vggsound", "vggsound.csv", ",waterfall burbling,train", "", r"line 2 has 2 fields"),
    ("music", "MUSIC_solo_videos.json", '"videos"', '"films"', r"lists of films by instrument"),
    ("music", "MUSIC_solo_videos.json", "{", "[{", r"is not JSON"),
    ("ave", "testSet.txt", "&6&", "&nan&", r"testSet.txt, line 2: StartTime wants a number, got 'nan'"),
    ("ave", "testSet.txt", "&fCZi6I6kPpU&good&6&10", "&x", r"line 2 has 2 fields"),
    ("ave", "testSet.txt", "RUhOCu3LNXM", "../../x", r"line 1 names the file"),
    ("audioset", "eval_segments.csv", "/m/03v3yw", "/m/nothing", r"line 4: '/m/nothing' is no class"),
    ("audioset", "eval_segments.csv", " 2.500", " inf", r"line 5: start wants a number"),
    (
        "librispeech",
        "test-clean/121/121726/121-121726.trans.txt",
        "121-121726-0001",
        "1089-1-2",
        r"line 2 wants SPEAKER",
    ),
    (
        "libri2mix",
        "wav16k/min/metadata/mixture_test_mix_clean.csv",
        "7127-75947-0001_",
        "1-1-../../x_",
        r"line 3: mixture_ID",
    ),
    (
        "dcase2024-task9",
        "lass_synthetic_validation.csv",
        ",-15,",
        ",loud,",
        r"line 2: snr wants a number, got 'loud'",
    ),
    ("dcase2024-task9", "lass_synthetic_validation.csv", "34,56,", "34,../56,", r"line 3 names the file"),
    (
        "audiosep-esc50",
        "evaluation/metadata/esc50_eval.csv",
        "1,chirping",
        "x,chirping",
        r"line 3: idx wants a number",
    ),
    (
        "audiosep-audioset",
        "evaluation/metadata/audioset_eval.csv",
        '"evaluation',
        '"../evaluation',
        r"line 2 names the file",
    ),
    (
        "audiosep-audioset",
        "evaluation/metadata/audioset_eval.csv",
        '"evaluation',
        '"/evaluation',
        r"line 2 names the file",
    ),
]


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), FAULTS)
def test_malformed_metadata_are_refused_with_file_and_line(
    name: str, file: str, old: str, new: str, message: str, own
) -> None:
    path = own(name) / file
    content = path.read_text(encoding="latin-1")
    assert old in content
    path.write_text(content.replace(old, new), encoding="latin-1")
    with pytest.raises(UsageError, match=message):
        corpora.load(name).clips(path.parents[len(Path(file).parts) - 1])


@pytest.mark.parametrize("name", TREES)
def test_a_folder_of_something_else_says_what_is_wanted(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no .* (folder has to be|wanted)"):
        corpora.load(name).clips(tmp_path)


def test_packed_songs_are_told_apart_from_no_songs(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "AM Contra - Heart Peripheral.stem.mp4").touch()
    with pytest.raises(UsageError, match=r"\.stem\.mp4 files have to be unpacked"):
        corpora.load("musdb18").clips(tmp_path)


@pytest.mark.parametrize("name", TREES)
def test_the_same_seed_gives_the_same_bytes_and_a_list_that_runs(
    name: str, made, cache: Path, tmp_path: Path
) -> None:
    root, _ = made(name)
    built = build(name, root, seed=1, count=4, cache=cache)
    assert encode(build(name, root, seed=1, count=4, cache=cache)) == encode(built)
    if name in DRAWN:
        assert encode(build(name, root, seed=2, count=4, cache=cache)) != encode(built)
    write_list(built, tmp_path / "list.jsonl")
    again = read_list(tmp_path / "list.jsonl")
    assert again == built
    assert again.sha256 == built.sha256
    module = corpora.load(name)
    assert built.sample_rate == module.PROTOCOL.sample_rate
    assert built.about == module.PROTOCOL.origin
    for item, example in examples(again, root, cache):
        assert torch.isfinite(example.mixture).all()
        assert len(example.queries) == module.PROTOCOL.asked
        source, rest = example.sources[0], example.mixture - example.sources[0]
        measured = 10 * math.log10(source.mean(0).square().sum() / rest.mean(0).square().sum())
        assert measured == pytest.approx(item.snr_db, abs=0.01)


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_mixtures_follow_their_protocol(name: str, made, cache: Path) -> None:
    root, _ = made(name)
    module = corpora.load(name)
    protocol, found = module.PROTOCOL, module.clips(root)
    built = build(name, root, seed=3, count=12, cache=cache, found=found)
    takes: dict[str, list[Take]] = {}
    for take in found.clips:
        takes.setdefault(take.file, []).append(take)
    assert len(built.items) == 12
    firsts = [item.queries[0].label for item in built.items]
    assert set(firsts) == {take.label for take in found.clips}
    if protocol.partners != "same recording":
        # Everything has its turn as often, give or take one.
        turns = [firsts.count(take.label) for take in found.clips]
        assert name == "librispeech" or max(turns) - min(turns) <= 1
    low, high = protocol.seconds
    for item in built.items:
        assert low <= item.length / protocol.sample_rate <= high
        assert protocol.sources[0] <= len(item.pieces) <= protocol.sources[1]
        assert item.queries[0].label in [take.label for take in takes[item.pieces[0].file]]
        if protocol.snr_db is not None:
            assert protocol.snr_db[0] - 0.01 <= item.snr_db <= protocol.snr_db[1] + 0.01
        first, second = (takes[piece.file] for piece in item.pieces[:2])
        if protocol.partners == "other label":
            assert not any(one.sounds & other.sounds for one in first[:1] for other in second[:1])
        together = protocol.partners == "same recording"
        assert (first[0].group == second[0].group) == together
    if protocol.snr_db and protocol.snr_db[0] < protocol.snr_db[1]:
        spread = [item.snr_db for item in built.items]
        assert max(spread) - min(spread) > 0.4 * (protocol.snr_db[1] - protocol.snr_db[0])


def test_a_drawn_mixture_stays_below_full_scale(made, cache: Path) -> None:
    """A hit of 0.5 s in 10 s has to be loud to be at -26 dBFS on average."""
    root, _ = made("fsd50k")
    built = build("fsd50k", root, seed=5, count=20, cache=cache)
    clips = Clips(built, root, cache)
    peaks = [float(render(built, index, clips).mixture.abs().max()) for index in range(20)]
    assert max(peaks) <= 1.0
    assert any(abs(peak - 0.9) < 1e-3 for peak in peaks)  # some had to be turned down


def test_examples_are_of_the_same_speaker_and_another_utterance(made, cache: Path) -> None:
    for name in ("librispeech", "libri2mix"):
        root, _ = made(name)
        takes = {take.file: take for take in corpora.load(name).clips(root).clips}
        built = build(name, root, seed=1, count=6, cache=cache)
        assert built.items
        for item in built.items:
            for ask in item.queries:
                asked, example = takes[item.pieces[ask.sources[0]].file], takes[ask.example.file]
                assert example.group == asked.group
                assert not example.tags & asked.tags
                assert ask.example.length == 3 * built.sample_rate


def test_a_published_mixture_of_two_speakers_is_as_published(made, cache: Path) -> None:
    root, _ = made("libri2mix")
    built = build("libri2mix", root, cache=cache)
    assert [item.id for item in built.items] == [
        "libri2mix/1580-141083-0046_7127-75947-0026",
        "libri2mix/7127-75947-0001_1580-141083-0002",
    ]
    for item, example in examples(built, root, cache):
        sources = [read(root / piece.file).samples for piece in item.pieces]
        shortest = min(source.shape[1] for source in sources)
        assert example.mixture.shape == (1, shortest)
        total = sum((source - source.mean())[:, :shortest] for source in sources)
        assert torch.allclose(example.mixture, total, atol=2**-14)


def test_stems_are_cut_together_behind_their_example(made, cache: Path) -> None:
    root, _ = made("musdb18")
    built = build("musdb18", root, seed=1, count=10, cache=cache)
    assert {len(item.pieces) for item in built.items} == {2, 3}
    for item, example in examples(built, root, cache):
        assert example.mixture.shape[0] == 2
        assert {piece.gain for piece in item.pieces} == {1.0}
        assert len({(piece.start, piece.length, piece.at) for piece in item.pieces}) == 1
        asked, before = item.pieces[0], item.queries[0].example
        assert (before.file, before.start + before.length) == (asked.file, asked.start)
        assert before.length == 3 * built.sample_rate
        song = read(root / asked.file).samples
        expected = (song - song.mean(1, keepdim=True))[:, asked.start : asked.start + asked.length]
        assert torch.allclose(example.sources[0], expected, atol=2**-15)


def test_the_published_snr_is_met_and_what_clips_is_turned_down(made, cache: Path) -> None:
    root, _ = made("dcase2024-task9")
    built = build("dcase2024-task9", root, cache=cache)
    assert [item.snr_db for item in built.items] == [
        -15,
        7,
        -12,
    ]  # the mixture of the missing clip is left out
    assert built.items[0].queries[0].text == "A dog barks, then stops"
    peaks = [float(example.mixture.abs().max()) for _, example in examples(built, root, cache)]
    assert peaks[0] < 1  # 0.02 of level and noise 15 dB above it
    assert built.items[0].pieces[0].gain == 1.0
    assert peaks[2] == pytest.approx(0.9, abs=1e-4)  # 0.3 and noise 12 dB above it
    assert built.items[2].pieces[0].gain < 0.5


@pytest.mark.parametrize("name", RENDERED)
def test_a_rendered_mixture_is_heard_as_it_was_published(name: str, made, cache: Path) -> None:
    root, (rows, _) = made(name)
    built = build(name, root, cache=cache)
    whole = len(built.items)
    assert whole == (2 if len(rows) == 3 else 1)
    for number, (item, example) in enumerate(examples(built, root, cache)):
        mixture, source = item.pieces[1].file, item.pieces[0].file
        assert source == rows[number][0]
        for heard, file in ((example.mixture, mixture), (example.sources[0], source)):
            published = read(root / file)
            expected = resample(published.samples - published.samples.mean(), RATE, 32_000)
            assert torch.allclose(heard, expected, atol=2**-14)


def test_a_changed_clip_is_refused_and_a_missing_one_leaves_its_mixtures_out(own, cache: Path) -> None:
    root = own("esc50")
    built = build("esc50", root, seed=1, count=6, cache=cache)
    lost = root / "audio/1-100032-A-0.wav"
    samples = lost.read_bytes()
    lost.unlink()
    with pytest.warns(UserWarning, match=r"items are left out, 1 files are missing: audio/1-100032-A-0.wav"):
        left = [item for item, _ in examples(built, root, cache)]
    assert left == [item for item in built.items if all("100032" not in piece.file for piece in item.pieces)]
    assert 0 < len(left) < 6
    lost.write_bytes(samples[:-2] + b"\x01\x00")
    with pytest.raises(UsageError, match=r"1 of the 3 files .* audio/1-100032-A-0.wav"):
        Clips(built, root, cache)


@pytest.mark.parametrize("name", corpora.available())
def test_a_changed_clip_of_any_corpus_is_refused(name: str, own, cache: Path) -> None:
    root = own(name)
    built = build(name, root, seed=1, cache=cache)
    file = next(iter(built.files))
    with (root / file).open("ab") as clip:
        clip.write(b"\0")
    with pytest.raises(UsageError, match=re.escape(file)):
        Clips(built, root, cache)


def test_what_cannot_be_mixed_is_refused(made, own, cache: Path) -> None:
    root, _ = made("esc50")
    found = corpora.load("esc50").clips(root)
    with pytest.raises(UsageError, match=r"1 mixture or more, got --count 0"):
        build("esc50", root, count=0)
    one = replace(found, clips=found.clips[:1])
    with pytest.raises(UsageError, match=r"no mixture of esc50 could be drawn .* 1 clips of 1 labels"):
        build("esc50", root, count=1, found=one, cache=cache)
    with pytest.raises(
        UsageError, match=r"nothing to mix .* 1 files are missing, the first is audio/2-100648"
    ):
        build("esc50", root, found=Found((), found.missing), cache=cache)
    copy = own("dcase2024-task9")
    soundfile.write(copy / "lass_validation/34.wav", np.zeros(RATE), RATE)
    with pytest.raises(UsageError, match=r"cannot mix at -15 dB: lass_validation/34.wav is silent"):
        build("dcase2024-task9", copy, cache=cache)


def test_a_silent_clip_is_drawn_again(own, cache: Path) -> None:
    root = own("esc50")
    soundfile.write(root / "audio/1-100032-A-0.wav", np.zeros(5 * RATE), RATE)
    built = build("esc50", root, seed=1, count=6, cache=cache)
    assert {ask.label for item in built.items for ask in item.queries} == {"chirping birds", "vacuum cleaner"}


def test_some_of_a_published_list_keep_its_order(made, cache: Path) -> None:
    root, _ = made("dcase2024-task9")
    every = [item.id for item in build("dcase2024-task9", root, cache=cache).items]
    some = [
        [item.id for item in build("dcase2024-task9", root, seed, 2, cache=cache).items] for seed in range(9)
    ]
    assert all(ids == [name for name in every if name in ids] and len(ids) == 2 for ids in some)
    assert len({tuple(ids) for ids in some}) == 3  # any two of three


def test_another_seed_draws_everything_anew(made, cache: Path) -> None:
    firsts = [build("fsd50k", made("fsd50k")[0], seed, 1, cache=cache).items[0] for seed in range(9)]
    assert len({item.pieces[0].file for item in firsts}) == 3
    assert len({item.snr_db for item in firsts}) == 9
    assert len({item.pieces[0].at for item in firsts}) == 9


def test_progress_counts_mixtures(made, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    build("esc50", made("esc50")[0], count=3, cache=cache, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_protocol_that_means_nothing_is_refused() -> None:
    for wrong in ({"sources": (1, 2)}, {"asked": 3}, {"seconds": (5.0, 4.0)}, {"sample_rate": 0}):
        with pytest.raises(UsageError, match=r"wants two sources|want to be positive"):
            Protocol(origin="ours", count=1, **wrong)


def test_three_sources_share_what_the_snr_leaves_them(made, cache: Path, monkeypatch) -> None:
    """No paper's protocol needs it yet; the SNR is that of the first source over all others together."""
    module = corpora.load("esc50")
    monkeypatch.setattr(module, "PROTOCOL", replace(module.PROTOCOL, sources=(3, 3), snr_db=(6.0, 6.0)))
    root, _ = made("esc50")
    built: Benchmark = build("esc50", root, count=4, cache=cache)
    for item, example in examples(built, root, cache):
        rest = example.mixture - example.sources[0]
        measured = 10 * math.log10(example.sources[0].square().sum() / rest.square().sum())
        assert measured == pytest.approx(6.0, abs=0.01)
        assert item.snr_db == 6.0
        assert len(item.pieces) == 3

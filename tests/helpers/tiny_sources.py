"""The smallest folders in the sources' own layouts, for tests that bend one thing in them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openpyxl
from PIL import Image

HMSS_HEADER = (
    "group,subgroup,subgroup url,case description,img url,img name,case id/cover img id,crop r1,crop r2,"
    "crop col1,crop col2,tumor type,Notes,"
)
THAMMASAT_HEADER = "img url,img name,case id/cover img id,tumor type,crop r1,crop r2,crop col1,crop col2"


def picture(path: Path, size: tuple[int, int] = (6, 5), mode: str = "L", shade: int = 0) -> Path:
    """An image of width x height pixels, brighter from left to right; other shades have other pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(size[0] * size[1]).reshape(size[::-1]) + shade).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (6, 5), mode: str = "L") -> Path:
    """A mask of width x height pixels whose left half is lesion."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], dtype=np.uint8)
    pixels[:, : size[0] // 2] = 255
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def xlsx(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """A workbook with one sheet."""
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


def hmss_row(
    name: str, case: str, word: str, group: str = "Benign", crop: str = "1,3,2,4", note: str = "", url: str = "u"
) -> str:
    """A row of HMSS.csv; every one has the same description, as in the real table."""
    return f'{group},Cyst,u,"A case, described",{url},{name},{case},{crop},{word},{note},'


def hmss_folder(folder: Path, rows: Sequence[str], encoding: str = "utf-8-sig", header: str = HMSS_HEADER) -> Path:
    """HMSS with an image for each row."""
    (folder / "imgs").mkdir(parents=True)
    for shade, row in enumerate(csv.reader(rows)):
        picture(folder / "imgs" / f"{row[5]}.jpg", (12, 10), shade=shade * 9)
    (folder / "HMSS.csv").write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return folder


def thammasat_folder(folder: Path, rows: Sequence[str]) -> Path:
    """Thammasat with an image for each row."""
    for shade, row in enumerate(csv.reader(rows)):
        picture(folder / "imgs" / f"{row[1]}.jpg", (12, 10), shade=shade * 7)
    (folder / "Thammasat.csv").write_text("\n".join([THAMMASAT_HEADER, *rows]) + "\n")
    return folder


def busis_folder(folder: Path, labels: str = "BM", suffix: str = ".png", table: str = "BUSIS562.csv") -> Path:
    """BUSIS with an image and a mask for each letter of `labels`."""
    rows = [["img name", "Ground Truth Name", "tumor type"]]
    for number, letter in enumerate(labels, start=1):
        name = f"case{number:04d}"
        picture(folder / "imgs" / f"{name}{suffix}", shade=number * 20)
        mask(folder / "GT" / f"{name}_GT{suffix}")
        rows.append([name, f"{name}_GT", letter])
    if table.endswith("xlsx"):
        xlsx(folder / table, rows)
    else:
        (folder / table).write_text("\n".join(",".join(row) for row in rows) + "\n")
    return folder


def dataset_b_folder(folder: Path, names: Sequence[str] = ("000001", "000004"), images: str = "imgs") -> Path:
    """Dataset B with a legend beside and below its rows; the last image is malignant."""
    rows: list[list[object]] = [["Image", "Type", "Diagnosis", None, "FA", "Fibroadenoma"]]
    for number, name in enumerate(names, start=1):
        picture(folder / images / f"{name}.png", shade=number * 30)
        mask(folder / "GT" / f"{name}.png")
        last = number == len(names)
        rows.append([name, "Malignant" if last else "Benign", "IDC" if last else "FA", None, None, None])
    rows.append([None, None, None, None, "IDC", "Invasive ductal carcinoma"])
    xlsx(folder / "DatasetB.xlsx", rows)
    return folder


def busbra_folder(folder: Path, views: Sequence[str] = ("0001-l", "0001-r", "0002-s")) -> Path:
    """BUS-BRA with an image and a mask for each view; patients of even numbers are malignant, on another scanner."""
    rows = [["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX"]]
    for number, view in enumerate(views, start=1):
        picture(folder / "Images" / f"bus_{view}.png", shade=number * 25)
        mask(folder / "Masks" / f"mask_{view}.png", mode="1")
        case = int(view[:4])
        word, birads = ("benign", "2") if case % 2 else ("malignant", "5")
        device = "GE Logiq 7 @10-14MHz" if case % 2 else "U-Systems @10-14MHz"
        rows.append([f"bus_{view}", str(case), "x", word, birads, device, "9", "8", "left", f"[{number},2,3,4]"])
    (folder / "bus_data.csv").write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in rows) + "\n")
    return folder


BREAST_SHEET = "BrEaST-Lesions-USG-clinical-data-Dec-15-2023"


def breast_folder(folder: Path, table: str = ".xlsx", inner: str = "BrEaST-Lesions_USG-images_and_masks") -> Path:
    """BrEaST: a benign image with two further findings, a malignant one with two lesions, a normal one."""
    header: list[object] = [
        "CaseID",
        "Image_filename",
        "Mask_tumor_filename",
        "Mask_other_filename",
        "BIRADS",
        "Classification",
    ]
    rows: list[list[object]] = [
        [1, "case001.png", "case001_tumor.png", "case001_other1.png&case001_other2.png", 2, "benign"],
        [2, "case002.png", "case002_tumor1.png&case002_tumor2.png", None, "4c", "malignant"],
        [3, "case003.png", None, None, 1, "normal"],
    ]
    for shade, row in enumerate(rows):
        picture(folder / inner / str(row[1]), mode="RGBA", shade=shade * 40)
        for name in "&".join(str(cell) for cell in row[2:4] if cell).split("&"):
            if name:
                mask(folder / inner / name)
    if table == ".xlsx":
        xlsx(folder / f"{BREAST_SHEET}.xlsx", [header, *rows])
    else:
        lines = [",".join("" if cell is None else str(cell) for cell in row) for row in [header, *rows]]
        (folder / f"{BREAST_SHEET}.csv").write_text("\n".join(lines) + "\n")
    return folder


def colored_mask(path: Path, *colors: tuple[int, int, int], size: tuple[int, int] = (6, 5)) -> Path:
    """An RGB mask of width x height pixels, black but for a column of each colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*size[::-1], 3), dtype=np.uint8)
    for column, color in enumerate(colors, start=1):
        pixels[1:-1, column] = color
    Image.fromarray(pixels).save(path)
    return path


def bus_uclm_folder(folder: Path) -> Path:
    """BUS-UCLM: two patients; a benign, a malignant (with a benign lesion beside it) and a normal image."""
    green, red = (0, 255, 0), (255, 0, 0)
    rows = ["Image;Resolution;Label;Doppler;Marks;Combined"]
    images: tuple[tuple[str, str, tuple[tuple[int, int, int], ...]], ...]
    images = (("ALWI_000", "Benign", (green,)), ("ALWI_001", "Normal", ()), ("ANAT_000", "Malignant", (red, green)))
    for number, (name, word, colors) in enumerate(images):
        picture(folder / "images" / f"{name}.png", mode="RGB", shade=number * 40)
        colored_mask(folder / "masks" / f"{name}.png", *colors)
        rows.append(f"{name}.png;6x5;{word};No;No;No")
    (folder / "INFO.csv").write_text("\n".join(rows) + "\n")
    return folder


def gdph_sysucc_folder(folder: Path, hospitals: bool = True) -> Path:
    """GDPH&SYSUCC in the layout of the hospitals' folders or of `label.csv`."""
    names = ("benign(0)", "malignant(0)", "benign(1)")
    for number, name in enumerate(names):
        place = ("GDPH" if number == 2 else "SYSUCC") if hospitals else "img"
        picture(folder / place / f"{name}.png", shade=number * 40)
    if hospitals:
        rows: list[list[object]] = [["benign(0)", 2, "3", 1], ["malignant(0)", "4B", 5, 2], ["benign(1)", "4a", 3, 3]]
        xlsx(folder / "BIRADS&FOLD.xlsx", [["ID", "BIRADS-reader1", "BIRADS-reader2", "fold"], *rows])
    else:
        lines = ["name,label", *(f"{name}.png,{int(name.startswith('m'))}" for name in names)]
        (folder / "label.csv").write_text("\n".join(lines) + "\n")
    return folder


def buid_folder(folder: Path) -> Path:
    """BUID: two benign images and a malignant one, each with its mask and the picture of the outline."""
    for shade, name in enumerate(("1 Benign", "2 Benign", "1 Malignant")):
        word = name.split()[1]
        picture(folder / word / f"{name} Image.bmp", mode="RGB", shade=shade * 40)
        picture(folder / word / f"{name} Lesion.bmp", mode="RGB", shade=shade * 40 + 5)
        mask(folder / word / f"{name} Mask.tif")
    return folder


def busi_folder(folder: Path, benign: int = 2, malignant: int = 1, below: str = "") -> Path:
    """BUSI with one mask an image, and a normal image."""
    for word, count, shade in (("benign", benign, 0), ("malignant", malignant, 100)):
        (folder / below / word).mkdir(parents=True)
        for number in range(1, count + 1):
            picture(folder / below / word / f"{word} ({number}).png", shade=shade + 10 * number)
            mask(folder / below / word / f"{word} ({number})_mask.png")
    picture(folder / below / "normal" / "normal (1).png")
    return folder

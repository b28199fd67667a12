"""Reads an output folder with the readers people use and compares every row with what was written.

Usage: readers.py DIR EXPECT.json KIND READER...
EXPECT.json holds the rows; DIR/data holds the parts. Prints one line per reader, exits 1 when one differs.
"""

import glob
import io
import json
import os
import sys
import tempfile
import traceback

os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")

import numpy as np
from PIL import Image

DIR, EXPECT_PATH, KIND, READERS = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3], sys.argv[4:]
EXPECT = json.load(open(EXPECT_PATH))
DATA = os.path.join(DIR, "data")
GLOB = os.path.join(DATA, "part-*.arrow")


def flat(v):
    """Any nesting of lists and arrays as a flat list of numbers."""
    if hasattr(v, "to_list"):
        v = v.to_list()
    if isinstance(v, np.ndarray):
        v = v.tolist()
    if isinstance(v, (list, tuple)):
        return [y for x in v for y in flat(x)]
    return [float(v)]


def shape(v):
    if hasattr(v, "to_list"):
        v = v.to_list()
    if isinstance(v, np.ndarray):
        v = v.tolist()
    return [len(v)] + shape(v[0]) if isinstance(v, (list, tuple)) else []


def missing(v):
    return v is None or (isinstance(v, float) and np.isnan(v))


def same(rows, nested):
    """Compares rows (dicts) with EXPECT. nested says that the reader shows the C x H x W nesting."""
    assert len(rows) == len(EXPECT), f"{len(rows)} rows, not {len(EXPECT)}"
    for i, (got, want) in enumerate(zip(rows, EXPECT)):
        for k in ("id", "status", "error", "label", "width", "seed", "source_sha256", "caption"):
            if k in want:
                g = None if missing(got[k]) else got[k]
                assert g == want[k], f"row {i} {k}: {g!r}, not {want[k]!r}"
        if "latent" in want:
            if want["latent"] is None:
                assert missing(got["latent"]), f"row {i}: latent {got['latent']!r} is not null"
            else:
                assert flat(got["latent"]) == want["latent"], f"row {i}: latent differs"
                if nested:
                    assert shape(got["latent"]) == want["shape"], f"row {i}: shape {shape(got['latent'])}"
                if KIND == "ragged":
                    assert flat(got["latent_shape"]) == want["shape"], f"row {i}: latent_shape"
        if "pixel" in want:
            img = got["image"]
            if want["pixel"] is None:
                assert missing(img), f"row {i}: image {img!r} is not null"
                continue
            if not isinstance(img, Image.Image):
                img = Image.open(io.BytesIO(img["bytes"]))
            assert list(img.size) == want["size"], f"row {i}: size {img.size}"
            assert list(img.convert("RGB").getpixel((3, 5))) == want["pixel"], f"row {i}: pixel"


NESTED = KIND in ("list", "both")


def r_pyarrow_dataset():
    import pyarrow.dataset as ds

    table = ds.dataset(DATA, format="arrow").to_table()
    table.validate(full=True)
    same(table.to_pylist(), NESTED)
    assert table.schema.metadata[b"ldm.format"] == b"1"


def r_pyarrow_mmap():
    """Without a copy: the path a training loop takes."""
    import pyarrow as pa

    i = 0
    for path in sorted(glob.glob(GLOB)):
        with pa.memory_map(path) as source:
            before = pa.total_allocated_bytes()
            reader = pa.ipc.open_file(source)
            for b in range(reader.num_record_batches):
                batch = reader.get_batch(b)
                latent = batch.column("latent")
                ok = latent.is_valid().to_numpy(zero_copy_only=False)
                storage = latent.storage if hasattr(latent, "storage") else latent
                values = storage.values
                while hasattr(values, "values"):
                    values = values.values
                n = EXPECT[0]["shape"]
                a = values.to_numpy(zero_copy_only=True).reshape([len(latent)] + n)
                for k in range(len(latent)):
                    if ok[k]:
                        assert flat(a[k]) == EXPECT[i]["latent"], f"row {i}"
                    i += 1
            assert pa.total_allocated_bytes() - before < 65536, "the latents were copied"
    assert i == len(EXPECT)


def r_tensor_ndarray():
    import pyarrow as pa
    import pyarrow.compute as pc

    i = 0
    for path in sorted(glob.glob(GLOB)):
        table = pa.ipc.open_file(path).read_all()
        assert isinstance(table.schema.field("latent").type, pa.FixedShapeTensorType)
        assert table.schema.field("latent").type.dim_names == ["C", "H", "W"]
        ok = table.filter(pc.equal(table["status"], "ok")).combine_chunks()
        a = ok["latent"].chunk(0).to_numpy_ndarray()
        want = [r for r in EXPECT[i : i + table.num_rows] if r["latent"]]
        assert list(a.shape) == [len(want)] + want[0]["shape"], a.shape
        for x, w in zip(a, want):
            assert flat(x) == w["latent"]
        i += table.num_rows


def r_polars():
    import polars as pl

    df = pl.scan_ipc(GLOB).collect()
    if KIND == "tensor":
        df = df.with_columns(pl.Series("latent", [None if v is None else flat(v) for v in df["latent"].to_list()]))
    same(df.to_dicts(), NESTED)


def r_duckdb():
    import duckdb
    import pyarrow.dataset as ds

    table = ds.dataset(DATA, format="arrow")
    con = duckdb.connect()
    con.register("parts", table)
    cur = con.execute("select * from parts")
    names = [d[0] for d in cur.description]
    rows = [dict(zip(names, r)) for r in cur.fetchall()]
    order = {r["id"]: i for i, r in enumerate(EXPECT)}
    same(sorted(rows, key=lambda r: order[r["id"]]), NESTED)
    ok = con.execute("select count(*) from parts where status = 'ok'").fetchall()[0][0]
    assert ok == sum(r["status"] == "ok" for r in EXPECT)


def r_pandas():
    import pandas as pd

    df = pd.concat([pd.read_feather(p) for p in sorted(glob.glob(GLOB))])
    same(df.to_dict("records"), False)


def hf(**where):
    import datasets

    d = datasets.load_dataset("arrow", split="train", cache_dir=tempfile.mkdtemp(dir=os.path.dirname(EXPECT_PATH)), **where)
    same(list(d), NESTED)
    check_features(d.features)


def check_features(f):
    import datasets

    if KIND in ("image", "both"):
        assert isinstance(f["image"], datasets.Image), f["image"]
    if KIND == "image":
        assert f["label"].names == ["cat", "dog"], f["label"]


def r_datasets_dir():
    hf(data_dir=DATA)


def r_datasets_glob():
    hf(data_files=GLOB)


def r_datasets_folder():
    import datasets

    d = datasets.load_dataset(DIR, cache_dir=tempfile.mkdtemp(dir=os.path.dirname(EXPECT_PATH)))
    same(list(d["train"]), NESTED)


def r_datasets_stream():
    import datasets

    d = datasets.load_dataset("arrow", data_files=GLOB, split="train", streaming=True)
    same(list(d), NESTED)


def r_datasets_numpy():
    """Latents as arrays with their shape, failed rows left out first."""
    import datasets

    d = datasets.load_dataset("arrow", data_dir=DATA, split="train", cache_dir=tempfile.mkdtemp(dir=os.path.dirname(EXPECT_PATH)))
    d = d.filter(lambda s: s == "ok", input_columns="status").select_columns(["latent"]).with_format("numpy")
    want = [r for r in EXPECT if r["status"] == "ok"]
    a = d[:]["latent"]
    assert list(np.shape(a)) == [len(want)] + want[0]["shape"], np.shape(a)
    assert flat(a) == [x for r in want for x in r["latent"]]


bad = 0
for name in READERS:
    try:
        globals()["r_" + name]()
        print(f"ok {KIND} {name}", flush=True)
    except BaseException as e:  # the reader's own panics too
        bad += 1
        print(f"FAIL {KIND} {name}: {type(e).__name__}: {e}", flush=True)
        traceback.print_exc(limit=-3)
sys.exit(bad > 0)

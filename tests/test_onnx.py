"""Generators as ONNX models: torch's pictures in another runtime."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models import export, sampling
from models.generator_file import load_generator
from tests.golden import shipped_generators


def test_without_its_packages_the_export_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = tmp_path / "x.onnx"
    assert export.main(["--generator", str(shipped_generators()["forge"]), "--onnx", str(out)]) == 2
    assert capsys.readouterr().err == "models.export: ONNX needs packages of its own: pip install 'digitforge[onnx]'\n"
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forge", "gan"])
def test_an_onnx_model_draws_torchs_pictures_in_batches_of_any_size(tmp_path: Path, name: str) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    path, out = shipped_generators()[name], tmp_path / "x.onnx"
    assert export.main(["--generator", str(path), "--onnx", str(out)]) == 0
    assert str(Path.home()).encode() not in out.read_bytes()
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    loaded = load_generator(path)
    for count in (1, 7):
        seeds = range(50, 50 + count)
        z, c = sampling.latents(seeds, loaded.config), loaded.class_rows([seed % 10 for seed in seeds], seeds)
        inputs = {"z": z.numpy()} | ({"c": c.float().numpy()} if c.shape[1] else {})
        images, pixels = session.run(["images", "pixels"], inputs)
        with torch.inference_mode():
            wanted = loaded.generator(z.double(), c.double())
        np.testing.assert_allclose(images, wanted.numpy(), rtol=0, atol=1e-4)
        drawn = sampling.draw(loaded.generator, z.double(), c)
        apart = np.abs(pixels.astype(int) - drawn)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 1e-3

    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["generator_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(metadata["classes"]) == [str(digit) for digit in range(loaded.config.num_classes)]
    assert json.loads(metadata["provenance"]) == loaded.provenance
    assert json.loads(metadata["model"])["z_dim"] == loaded.config.z_dim

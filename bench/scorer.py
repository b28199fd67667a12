"""What eval.py compares with: the Inception-v3 of FID in PyTorch, and the usual programs that score with it.

    scorer.py features VARIANT WEIGHTS INPUTS THREADS BATCH    as forward.py: answers "go" and "save PATH" on standard input
    scorer.py TOOL WEIGHTS FOLDER FOLDER THREADS               scores the first folder against the second; prints one line of JSON
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

import forward

TOOLS = ("torch-fidelity", "pytorch-fid", "clean-fid")
VARIANTS = ("eager", "eager-channels-last", "compile")


def network(weights: str) -> torch.nn.Module:
    """pytorch-fid's network up to the 2048 features, with weights of a file. It takes 299x299 pixels in [-1, 1]."""
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights, weights_only=True)
    return inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()


class Features(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)[0].flatten(1)


def torch_fidelity(weights: str, a: str, b: str, threads: int) -> dict:
    import torch_fidelity

    n = len(list(Path(a).iterdir()))
    m = torch_fidelity.calculate_metrics(
        input1=a, input2=b, cuda=False, isc=True, fid=True, kid=True, prc=True, feature_extractor="inception-v3-compat",
        feature_layer_prc="2048", feature_extractor_weights_path=weights, cache=False,
        batch_size=32, kid_subsets=1, kid_subset_size=n, verbose=False)
    return {"fid": m["frechet_inception_distance"], "kid": m["kernel_inception_distance_mean"], "is": m["inception_score_mean"],
            "precision": m["precision"], "recall": m["recall"]}


def pytorch_fid(weights: str, a: str, b: str, threads: int) -> dict:
    from pytorch_fid import fid_score

    network(weights)  # so that the tool's own finds the weights
    return {"fid": float(fid_score.calculate_fid_given_paths([a, b], 32, "cpu", 2048, num_workers=threads - 1))}


def clean_fid(weights: str, a: str, b: str, threads: int) -> dict:
    from cleanfid import fid

    net = Features(network(weights))

    def features(x):
        with torch.no_grad():
            return net((x - 128) / 128)

    one, two = (fid.get_folder_features(f, features, num_workers=threads - 1, batch_size=32, device="cpu", mode="clean", verbose=False)
                for f in (a, b))
    return {"fid": float(fid.fid_from_feats(one, two)), "kid": float(fid.kernel_distance(one, two, num_subsets=1)), **exact(one, two)}


def exact(one, two) -> dict:
    """The distances of two sets of features in double precision. With fewer rows than features the trace of the root of the product of
    covariances is the sum of the singular values of a small matrix."""
    one, two = (x.astype(np.float64) for x in (one, two))
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (one, two))
    fid = ((one.mean(0) - two.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    within, across = ([(x @ x.T / x.shape[1] + 1) ** 3 for x in (one, two)], (one @ two.T / one.shape[1] + 1) ** 3)
    kid = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in within) - 2 * across.mean()
    return {"exact fid": float(fid), "exact kid": float(kid)}


def main():
    if sys.argv[1] == "features":
        variant, weights, inputs, threads, batch = sys.argv[2:]
        start = time.perf_counter()
        torch.set_num_threads(int(threads))
        x = forward.read(Path(inputs), "image", int(batch), 3, 299, 299)
        forward.serve(*forward.tuned(Features(network(weights)), (x,), variant), start)
        return
    tool, weights, a, b, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    replies, sys.stdout = sys.stdout, sys.stderr  # tools print
    run = dict(zip(TOOLS, (torch_fidelity, pytorch_fid, clean_fid)))[tool]
    print(json.dumps(run(weights, a, b, int(threads))), file=replies)


if __name__ == "__main__":
    main()

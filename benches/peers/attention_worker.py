"""Times torch's scaled_dot_product_attention: one line of JSON in, the milliseconds out."""
import json
import sys
import time
from statistics import median

import torch

inputs = {}
for line in sys.stdin:
    work = json.loads(line)
    torch.set_num_threads(work["threads"])
    shape = (1, work["heads"], work["tokens"], work["head_dim"])
    key = (*shape, work["dtype"])
    if key not in inputs:
        torch.manual_seed(1)
        inputs = {key: [torch.rand(shape).mul(2).sub(1).to(getattr(torch, work["dtype"])) for _ in range(3)]}
    times = []
    with torch.inference_mode():
        # The first makes room.
        for _ in range(work["repeat"] + 1):
            start = time.perf_counter()
            torch.nn.functional.scaled_dot_product_attention(*inputs[key], is_causal=True)
            times.append(1e3 * (time.perf_counter() - start))
    print(median(times[1:]), flush=True)

"""Compares what TensorBoard reads from a run's event files with the run's log.

    pip install tensorboard
    python tools/tensorboard/check.py RUN
"""
import json
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator

TAGS = {
    "step": {
        "train/loss": "loss",
        "train/bits_per_byte": "bits_per_byte",
        "train/exit_loss": "exit_loss",
        "optimizer/learning_rate": "learning_rate",
        "optimizer/gradient_norm": "gradient_norm",
        "speed/tokens_per_second": "tokens_per_second",
    },
    "held_out": {"held_out/loss": "loss", "held_out/bits_per_byte": "bits_per_byte"},
}


def main():
    run = Path(sys.argv[1])
    records = [json.loads(line) for line in open(run / "log.jsonl")]
    events = EventAccumulator(str(run / "tensorboard"), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE)
    events.Reload()
    compared = 0
    for kind, tags in TAGS.items():
        for tag, field in tags.items():
            logged = {r["step"]: r[field] for r in records if r["kind"] == kind and field in r}
            if not logged:
                continue
            read = {event.step: event.value for event in events.Scalars(tag)}
            assert read.keys() == logged.keys(), f"{tag}: steps {sorted(read.keys() ^ logged.keys())[:5]} differ"
            for step, value in logged.items():
                assert math.isclose(read[step], value, rel_tol=1e-6, abs_tol=1e-9), f"{tag}, step {step}"
            compared += len(logged)
    samples = [r["sample"] for r in records if r.get("sample") is not None]
    if samples:
        texts = events.Tensors("sample")
        assert [event.tensor_proto.string_val[0].decode() for event in texts] == samples, "samples differ"
        plugin = events.SummaryMetadata("sample").plugin_data.plugin_name
        assert plugin == "text", plugin
    print(f"{compared} values and {len(samples)} samples are as logged")


if __name__ == "__main__":
    main()

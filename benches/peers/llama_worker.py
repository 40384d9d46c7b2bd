"""llama.cpp's side: takes one sample at a time on request; runs in the environment of the peer (needs `llama-cpp-python`).

A request is a line of JSON on stdin, its answer a line on stdout:

    {"do": "info"}                                                               what the library is and was built for
    {"do": "open", "model": PATH}                                                loads all weights into memory
    {"do": "decode", "threads": 2, "flash": true, "tokens": 48}                  tokens after an empty text
    {"do": "prompt", "threads": 2, "flash": true, "tokens": 512, "repeat": 1}    a prompt in one batch, `repeat` times
    {"do": "quantize", "model": PATH, "out": PATH, "type": "Q8_0"}

`chalot bench` measures the same way: one token first, which makes room; then rounds of four tokens, of which the median counts;
one prompt first, then prompts, of which the median counts. The same token ids; the logits of the last token; no sampling.
"""
import ctypes
import json
import math
import sys
import time

import llama_cpp as ll

ROUND = 4
CONTEXT = 1024


@ll.llama_log_callback
def log(level, text, data):
    if level == 4:  # errors
        sys.stderr.write(text.decode(errors="replace"))


def lower_median(values):
    return sorted(values)[(len(values) - 1) // 2]


class Worker:
    def __init__(self):
        self.model, self.contexts, self.vocab, self.warm = None, {}, 0, set()
        self.batch = ll.llama_batch_init(512, 0, 1)

    def info(self):
        return {"system": ll.llama_print_system_info().decode(), "version": ll.__version__}

    def open(self, model):
        params = ll.llama_model_default_params()
        # Into memory rather than mapped, so that the library may bring weights into the order that its kernels like best.
        params.load_mode = ll.LLAMA_LOAD_MODE_NONE
        self.model = ll.llama_model_load_from_file(model.encode(), params)
        if not self.model:
            raise ValueError(f"{model}: llama.cpp does not load it")
        self.vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        return {"bytes": ll.llama_model_size(self.model)}

    def context(self, threads, flash):
        if flash not in self.contexts:
            params = ll.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT, 512, 512
            params.flash_attn_type = ll.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else ll.LLAMA_FLASH_ATTN_TYPE_DISABLED
            self.contexts[flash] = ll.llama_init_from_model(self.model, params)
        context = self.contexts[flash]
        ll.llama_set_n_threads(context, threads, threads)
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        return context

    def forward(self, context, tokens, position):
        """Computes tokens[position..] as one batch; waits for the logits of the last one."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position + i, 1, 0
            batch.logits[i] = i + 1 == len(tokens)
        start = time.perf_counter()
        if ll.llama_decode(context, batch) != 0:
            raise ValueError("llama_decode failed")
        logits = ll.llama_get_logits_ith(context, -1)
        seconds = time.perf_counter() - start
        self.check(logits)
        return seconds

    def check(self, logits):
        """A model that computes nonsense computes at its own speed."""
        some = logits[:min(self.vocab, 64)]
        if not all(map(math.isfinite, some)) or max(some) == min(some):
            raise ValueError(f"the logits are no numbers, or all the same: {some[:4]}")

    def tokens(self, count):
        return [i * 2654435761 % self.vocab for i in range(count)]

    def decode(self, threads, flash, tokens):
        context, ids = self.context(threads, flash), self.tokens(tokens + 1)
        times = [self.forward(context, [token], i) for i, token in enumerate(ids)][1:]
        rounds = [times[i:i + ROUND] for i in range(0, tokens, ROUND)]
        return {"tokens_per_second": lower_median([len(r) / sum(r) for r in rounds])}

    def prompt(self, threads, flash, tokens, repeat):
        ids = self.tokens(tokens)
        if flash not in self.warm:
            self.warm.add(flash)
            self.forward(self.context(threads, flash), ids, 0)
        times = [self.forward(self.context(threads, flash), ids, 0) for _ in range(repeat)]
        return {"tokens_per_second": tokens / lower_median(times)}

    def quantize(self, model, out, type):
        params = ll.llama_model_quantize_default_params()
        params.nthread, params.allow_requantize = 2, True
        params.ftype = getattr(ll, f"LLAMA_FTYPE_MOSTLY_{type}")
        if ll.llama_model_quantize(model.encode(), out.encode(), ctypes.byref(params)) != 0:
            raise ValueError(f"{model}: not quantized")
        return {}


def main():
    ll.llama_log_set(log, ctypes.c_void_p(0))
    ll.llama_backend_init()
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()

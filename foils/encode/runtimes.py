"""Converted models on a CPU: OpenVINO at full speed for scoring, and any format batch by batch for measuring it.

OpenVINO runs one stream a thread, so that threads never wait for each other, and in bf16 where the processor has
instructions for it.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from foils.encode.batches import Features, Floats, Numbers
from foils.encode.convert import Format
from foils.encode.drift import Run
from foils.hardware import cpu_has_bf16

Lane = Callable[[Iterable[tuple[Numbers, Features]]], Iterator[tuple[Numbers, Floats]]]
"""Takes batches (the places of their texts, and features as arrays) and gives places and outputs, in any order."""


def runner(name: Format, file: Path) -> Run:
    """A converted model as a function of one batch's features, all threads on it."""
    run = _openvino(file) if name.startswith("openvino") else _onnx(file)
    return lambda features: run(
        {key: value.numpy() for key, value in features.items() if isinstance(value, torch.Tensor)}
    )


def openvino_precision() -> str:
    """What OpenVINO computes in on this machine."""
    return "bf16" if cpu_has_bf16() else "f32"


def openvino_lane(file: Path, streams: int | None = None) -> Lane:
    """A converted model that reads several batches at the same time.

    Args:
        file: the model.
        streams: batches at the same time; without it, one a thread.
    """
    import openvino

    threads = torch.get_num_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": openvino_precision(),
        "NUM_STREAMS": streams or threads,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    names, output = [port.get_any_name() for port in compiled.inputs], len(compiled.outputs) - 1
    queue = openvino.AsyncInferQueue(compiled)
    finished: list[tuple[Numbers, Floats]] = []
    queue.set_callback(lambda request, places: finished.append((places, request.get_output_tensor(output).data.copy())))

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[tuple[Numbers, Floats]]:
        queue.wait_all()
        finished.clear()  # of a call that was left before its end
        for places, features in batches:
            queue.start_async({name: features[name] for name in names}, userdata=places)
            while finished:
                yield finished.pop()
        queue.wait_all()
        while finished:
            yield finished.pop()

    return run


def _openvino(file: Path) -> Run:
    lane = openvino_lane(file, streams=1)

    def run(arrays: Features) -> Floats:
        ((_, values),) = lane([(np.arange(0), arrays)])
        return values

    return run


def _onnx(file: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names, output = [port.name for port in session.get_inputs()], session.get_outputs()[-1].name

    def run(arrays: Features) -> Floats:
        (values,) = session.run([output], {name: arrays[name] for name in names})
        found: Floats = values
        return found

    return run

"""Converted models at full speed on a CPU: batches in, a model's last output out, as it comes.

ONNX Runtime runs one batch after the other on all threads. OpenVINO runs one stream a thread, so that threads never
wait for each other, and in bf16 where the processor has instructions for it.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from foils.encode.batches import Features, Floats, Numbers
from foils.encode.convert import Format
from foils.encode.drift import Run
from foils.hardware import has_native_bf16

Lane = Callable[[Iterable[tuple[Numbers, Features]]], Iterator[tuple[Numbers, Floats]]]
"""Batches, each the places of its texts and their features as arrays, to the places and the outputs; in any order."""


def lane_of_file(name: Format, file: Path, streams: int | None = None) -> Lane:
    """The runtime's for a format.

    Args:
        name: the format.
        file: the converted model.
        streams: batches that OpenVINO reads at the same time; without it, one a thread.
    """
    return _openvino(file, streams) if name.startswith("openvino") else _onnx(file)


def runner(name: Format, file: Path) -> Run:
    """A converted model as a function of one batch's features, all threads on it."""
    lane = lane_of_file(name, file, streams=1)

    def run(features: Features) -> Floats:
        arrays = {key: value.numpy() for key, value in features.items() if isinstance(value, torch.Tensor)}
        ((_, values),) = lane([(np.arange(0), arrays)])
        return values

    return run


def _onnx(file: Path) -> Lane:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names, output = [port.name for port in session.get_inputs()], session.get_outputs()[-1].name

    def run(batches: Iterable[tuple[Numbers, Features]]) -> Iterator[tuple[Numbers, Floats]]:
        for places, features in batches:
            (values,) = session.run([output], {name: features[name] for name in names})
            yield places, values

    return run


def _openvino(file: Path, streams: int | None) -> Lane:
    import openvino

    threads = torch.get_num_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if _cpu_has_bf16() else "f32",
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


def _cpu_has_bf16() -> bool:
    """Whether the processor has it, where there is no GPU that would be asked instead."""
    return has_native_bf16() and not torch.accelerator.is_available()

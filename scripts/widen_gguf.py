#!/usr/bin/env python3
"""Make a model slower without changing what it writes: its feed-forward layers are widened with zeros.

    python scripts/widen_gguf.py models/tiny-leader.gguf wide.gguf --times 32

For honest timings of larger models with real text: the hidden units that are added are always 0. Works for
feed-forward layers with gate, up and down matrices of any type. Needs the gguf package ('.[test]').
"""

from __future__ import annotations

from pathlib import Path

import click
import gguf
import numpy as np


def widen(source: Path, target: Path, times: int) -> None:
    """Write `source` with feed-forward layers `times` as wide to `target`."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(str(target), architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = field.contents()
        if name == f"{architecture}.feed_forward_length":
            value *= times
        kind, *rest = field.types
        writer.add_key_value(name, value, kind, rest[-1] if rest else None)
    for tensor in reader.tensors:
        data, kind = np.array(tensor.data), tensor.tensor_type
        if ".ffn_gate." in tensor.name or ".ffn_up." in tensor.name:
            data = np.pad(data, ((0, (times - 1) * len(data)), (0, 0)))
        elif ".ffn_down." in tensor.name:
            data = np.pad(data, ((0, 0), (0, (times - 1) * data.shape[1])))
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--times", default=32, show_default=True, type=click.IntRange(min=1))
def main(source: Path, target: Path, times: int) -> None:
    """Widen the feed-forward layers of a GGUF with zeros."""
    widen(source, target, times)
    click.echo(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

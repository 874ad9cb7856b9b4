"""Options of the commands that train or measure: data, shift, partition, model, seed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from jaxedge.commands.arguments import Parser, given

if TYPE_CHECKING:
    from jaxedge.training.models.tasks import Task, TaskSpec

DATA_HELP = """\
data:
  digits                       scikit-learn's 1,797 images of 8 x 8 pixels (the default)
  idx:IMAGES,LABELS            MNIST's format, plain or gzipped
  cifar10:FILE,... cifar100:FILE,...
  leaf:FILE-OR-FOLDER          LEAF's JSON, with natural clients
  femnist:FILE                 TensorFlow Federated's HDF5, with natural clients
  npz:FILE                     jaxedge's own layout (jaxedge.training.data.data_files.write_npz)
  One source is cut in two, the server's general data and the devices' data, and the latter is
  shifted; --task-data gives the devices' data apart.
"""
"""For the end of a command's help."""


def add_task_options(parser: Parser) -> None:
    """Say how data and model are asked for."""
    group = parser.add_argument_group("data and model")
    group.add_argument("--data", metavar="SOURCE", help="general data (default: digits)")
    group.add_argument("--task-data", metavar="SOURCE", help="the devices' data, where it is other")
    group.add_argument(
        "--shift", metavar="NAME", help="rotation (default), blur, classes or labels"
    )
    group.add_argument(
        "--strength", type=float, metavar="S", help="of the shift, 0 to 1 (default: 0.2)"
    )
    group.add_argument(
        "--partition",
        metavar="NAME",
        help="iid (default), dirichlet-per-client, dirichlet-per-class, shards or natural",
    )
    group.add_argument("--alpha", type=float, metavar="A", help="of a Dirichlet partition")
    group.add_argument("--per-device", type=int, metavar="N", help="shards of each device")
    group.add_argument(
        "--model",
        metavar="NAME",
        help="mlp (default), logistic, lenet5, cnn, resnet18 or vit",
    )
    group.add_argument(
        "--adapters-only",
        action="store_true",
        help="fine-tune and upload the model's low-rank adapters alone (vit)",
    )
    group.add_argument(
        "--seed", type=int, metavar="S", help="of data, weights and draws (default: 0)"
    )


def given_spec(options: argparse.Namespace) -> TaskSpec:
    """The task that the options ask for, in words and numbers; nothing is read yet."""
    from jaxedge.training.models.tasks import TaskSpec

    names = ("data", "task_data", "shift", "strength", "partition", "model", "seed")
    return TaskSpec(
        **given(options, *names),
        partition_options=given(options, "alpha", "per_device"),
        adapters_only=options.adapters_only,
    )


def given_task(options: argparse.Namespace, devices: int) -> Task:
    """Data and model that the options ask for, read and checked.

    Raises:
        ValueError: naming what is wrong with a file, an option, or how they fit together.
    """
    from jaxedge.training.models.tasks import load_task

    return load_task(given_spec(options), devices)
